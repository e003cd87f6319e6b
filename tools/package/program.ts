/**
 * The program as it is installed: Deno, the bundle, the native libraries, and the script that starts them.
 * @module
 */
import { copy, filesBelow, put, run } from "./run.ts";
import type { Target } from "./target.ts";

const LIBRARIES = ["shim", "tools"].map((name) => `libstreaming_daemon_${name}.so`);

/**
 * Fills the folder of the program.
 *
 * @throws {Error} if something is not there, or cannot be bundled
 */
export async function program(folder: string, { libraries, strip, deno }: Target): Promise<void> {
  await bundle(folder);
  for (const library of LIBRARIES) {
    await run([strip, "--strip-unneeded", "-o", `${folder}/${library}`, `${libraries}/${library}`]);
    await Deno.chmod(`${folder}/${library}`, 0o644);
  }
  await copy(deno, `${folder}/deno`, 0o755);
  await copy("tools/launch", `${folder}/launch`, 0o755);
}

/** Bundles the program and the module that a worker thread begins with; what they share is a file of its own. */
export async function bundle(folder: string): Promise<void> {
  const entries = ["main.ts", "src/daemon/worker_thread.ts"];
  const flags = ["--frozen", "--quiet", "--platform=deno", "--format=esm", "--code-splitting"];
  await run([Deno.execPath(), "bundle", ...flags, `--outdir=${folder}`, ...entries]);
  for (const path of filesBelow(folder)) {
    await put(path, withoutPlaces(await Deno.readTextFile(path)));
  }
}

/** Modules of npm packages are named by where this machine caches them; the package has to be the same from any. */
function withoutPlaces(javascript: string): string {
  return javascript.replace(/[^\s"']*\/npm\/registry\.npmjs\.org\//g, "npm/");
}

/** The npm packages in the bundle, each as `name/version`, sorted. */
export async function bundledPackages(folder: string): Promise<string[]> {
  const found = new Set<string>();
  for (const path of filesBelow(folder)) {
    if (!path.endsWith(".js")) continue;
    const text = await Deno.readTextFile(path);
    for (const [, name] of text.matchAll(/^\/\/ npm\/((?:@[^/\s]+\/)?[^/\s]+\/[^/\s]+)\//gm)) {
      found.add(name as string);
    }
  }
  return [...found].sort();
}

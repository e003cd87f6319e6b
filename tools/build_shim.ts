// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * Builds the shim, and the library of tools, where one is missing or older than its sources. Run by `deno task shim`, on which the other tasks
 * depend.
 * @module
 */
const LIBRARIES = ["shim", "tools"].map((name) => `target/release/libstreaming_daemon_${name}.so`);
const PACKAGES = ["shim", "shim/border", "tools/handoff"].flatMap((
  folder,
) => [`${folder}/src`, `${folder}/Cargo.toml`]);
const SOURCES = [...PACKAGES, "Cargo.toml", "Cargo.lock"];

function modifiedAt(path: string): number {
  const info = Deno.statSync(path);
  let newest = info.mtime?.getTime() ?? Infinity;
  if (info.isDirectory) {
    for (const entry of Deno.readDirSync(path)) {
      newest = Math.max(newest, modifiedAt(`${path}/${entry.name}`));
    }
  }
  return newest;
}

function isCurrent(): boolean {
  try {
    const builtAt = Math.min(...LIBRARIES.map(modifiedAt));
    return SOURCES.every((source) => modifiedAt(source) <= builtAt);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function build(): number {
  try {
    const { code } = new Deno.Command("cargo", {
      args: [
        "build",
        "--release",
        "--locked",
        ...["shim", "tools"].flatMap((name) => ["--package", `streaming-daemon-${name}`]),
      ],
      stdout: "inherit",
      stderr: "inherit",
    }).outputSync();
    // Cargo leaves a library alone that its sources did not change; it is current from now on.
    if (code === 0) { for (const library of LIBRARIES) Deno.utimeSync(library, new Date(), new Date()); }
    return code;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    console.error(
      `The shim (${
        LIBRARIES[0]
      }) is missing or out of date, and cargo, which builds it, is not installed.\n` +
        "Install Rust 1.85 or newer with rustup (https://rustup.rs) or from your distribution's packages\n" +
        "(Debian 13: apt install cargo), then run this command again.",
    );
    return 1;
  }
}

if (import.meta.main && !isCurrent()) {
  Deno.exit(build());
}

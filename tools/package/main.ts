// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * `deno task package [ARCHITECTURE]`: makes dist/streaming-daemon-ts_VERSION_ARCHITECTURE.deb with Debian's dpkg-deb. All
 * that runs is in it: Deno, the program bundled to plain JavaScript, the native libraries.
 * @module
 */
import { program } from "./program.ts";
import { documents } from "./documents.ts";
import { control } from "./control.ts";
import { changelog } from "./changelog.ts";
import { run } from "./run.ts";
import { target } from "./target.ts";

async function main(wanted: string | undefined): Promise<void> {
  const { version, dateSecs } = changelog();
  const root = await Deno.makeTempDir({ prefix: "package-" });
  const scratch = await Deno.makeTempDir({ prefix: "package-" });
  try {
    const parts = await target(wanted, scratch);
    const { architecture } = parts;
    const file = `dist/streaming-daemon-ts_${version}_${architecture}.deb`;
    await Deno.chmod(root, 0o755); // it becomes the mode of /
    await program(`${root}/usr/lib/streaming-daemon-ts`, parts);
    await documents(root);
    await control(root, { version, architecture });
    await Deno.mkdir("dist", { recursive: true });
    await run(["dpkg-deb", "--root-owner-group", "-Zxz", "-z1", "--build", root, file], {
      SOURCE_DATE_EPOCH: String(dateSecs),
    });
    console.log(`${file}: ${((await Deno.stat(file)).size / 1e6).toFixed(1)} MB`);
  } finally {
    await Deno.remove(root, { recursive: true });
    await Deno.remove(scratch, { recursive: true });
  }
}

if (import.meta.main) await main(Deno.args[0]);

/** The package's file itself, and its brother for arm64, built on this machine. */
import assert from "node:assert/strict";
import { SHIM_ABI_VERSION } from "../../src/native/symbols.ts";
import { host, PACKAGE } from "./machine.ts";

const ARM64 = PACKAGE.replace("amd64", "arm64");
const PROGRAM = "usr/lib/streaming-daemon-ts";
const EM_AARCH64 = 183;

/** The paths in a package, sorted. */
async function paths(file: string): Promise<string[]> {
  const lines = (await host(`dpkg-deb --contents dist/${file}`)).trim().split("\n");
  return lines.map((line) => line.replace(/^.* \.\//, "")).sort();
}

Deno.test("lintian finds no error in the package", async () => {
  await host(`lintian --allow-root --fail-on=error dist/${PACKAGE}`);
});

Deno.test("the pages that the README leads an operator to are in the package", async () => {
  const [, goOn = ""] = (await Deno.readTextFile("README.md")).split("## Where to go on");
  const pages = [...goOn.matchAll(/\]\(([\w/.-]+\.md)\)/g)].map(([, page = ""]) => page);
  const there = await paths(PACKAGE);
  assert.deepEqual(
    pages.filter((page) => !there.includes(`usr/share/doc/streaming-daemon-ts/${page}`)),
    ["CONTRIBUTING.md", "bench/README.md"],
  );
});

Deno.test("the package for arm64 is built here: the same files, for that processor, and they run on it", async () => {
  await host(`${Deno.execPath()} task package arm64`);
  await host(`lintian --allow-root --fail-on=error dist/${ARM64}`);
  assert.equal((await host(`dpkg-deb --field dist/${ARM64} Architecture`)).trim(), "arm64");
  assert.deepEqual(await paths(ARM64), await paths(PACKAGE));

  const folder = await Deno.makeTempDir();
  try {
    await host(`dpkg-deb --extract dist/${ARM64} ${folder}`);
    const program = `${folder}/${PROGRAM}`;
    for (const name of ["deno", "libstreaming_daemon_shim.so", "libstreaming_daemon_tools.so"]) {
      const head = new DataView((await Deno.readFile(`${program}/${name}`)).buffer);
      assert.equal(head.getUint16(18, true), EM_AARCH64, name); // e_machine of elf(5)
    }
    // Whole daemons are too slow for an emulated processor: 15 s for a thread to start.
    await Deno.writeTextFile(
      `${folder}/load.js`,
      `const shim = Deno.dlopen("${program}/libstreaming_daemon_shim.so", {
        shim_abi_version: { parameters: [], result: "u32" },
      });
      console.log(Deno.build.arch, Deno.version.deno, shim.symbols.shim_abi_version());`,
    );
    const emulated = `qemu-aarch64-static -L /usr/aarch64-linux-gnu ${program}/deno`;
    assert.equal(
      (await host(`${emulated} run --no-prompt --allow-ffi=${program} ${folder}/load.js`)).trim(),
      `aarch64 ${Deno.version.deno} ${SHIM_ABI_VERSION}`,
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

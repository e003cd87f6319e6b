/**
 * The file of copyrights and licences, in the machine-readable format of Debian: of the program, of Deno, of each npm
 * package in the bundle and of each crate in the libraries, with their own texts.
 * @module
 */
import { bundledPackages } from "./program.ts";
import { run } from "./run.ts";

const APACHE =
  "Apache License, Version 2.0. On Debian systems its text is in /usr/share/common-licenses/Apache-2.0.";
const CRATES = ["streaming-daemon-shim", "streaming-daemon-tools"];

/** @param folder that of the program, bundled */
export async function copyright(folder: string): Promise<string> {
  const { npmCache } = JSON.parse(await run([Deno.execPath(), "info", "--json"])) as { npmCache: string };
  const others: [name: string, licence: string][] = [];
  for (const name of await bundledPackages(folder)) {
    others.push([`npm package ${name}`, await licenceIn(await packageIn(npmCache, name))]);
  }
  for (const [name, place] of await crates()) others.push([`Rust crate ${name}`, await licenceIn(place)]);
  others.push(["Deno", await Deno.readTextFile("tools/package/debian/deno-licence")]);
  return [
    "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n" +
    "Upstream-Name: streaming-daemon-ts\n" +
    "Comment: The program and the libraries contain the works below, each under its own licence.\n",
    `Files: *\nCopyright: the authors of streaming-daemon-ts\nLicense: Apache-2.0\n ${APACHE}\n`,
    ...others.map(([name, licence]) =>
      `Files: usr/lib/streaming-daemon-ts/*\nCopyright: ${holders(licence, name)}\n` +
      `License: licence-of-${name.toLowerCase().replace(/[^\w.-]+/g, "-")}\n${
        indented(licence)
      }\nComment: ${name}\n`
    ),
  ].join("\n");
}

/** Where a package lies in Deno's cache, which has a folder for each registry. */
async function packageIn(npmCache: string, name: string): Promise<string> {
  for await (const registry of Deno.readDir(npmCache)) {
    const folder = `${npmCache}/${registry.name}/${name}`;
    if (await Deno.stat(folder).then(({ isDirectory }) => isDirectory, () => false)) return folder;
  }
  throw new Error(`${npmCache} has no package ${name}`);
}

/** The crates in the libraries, each with its version and the folder of its sources. */
async function crates(): Promise<[name: string, folder: string][]> {
  const metadata = JSON.parse(await run(["cargo", "metadata", "--format-version=1", "--locked"])) as {
    packages: { name: string; version: string; manifest_path: string; source: string | null }[];
  };
  const tree = await run([
    "cargo",
    "tree",
    "--locked",
    "--edges=normal",
    "--prefix=none",
    "--format={p}",
    ...CRATES.flatMap((name) => ["--package", name]),
  ]);
  const used = new Set(tree.split("\n").map((line) => line.split(" ").slice(0, 2).join(" ")));
  return metadata.packages
    .filter(({ name, version, source }) => source !== null && used.has(`${name} v${version}`))
    .map((
      { name, version, manifest_path },
    ) => [`${name} ${version}`, manifest_path.replace(/\/Cargo\.toml$/, "")]);
}

/** The licence's text in a package's folder; MIT's where there are several, or where it is but named. */
async function licenceIn(folder: string): Promise<string> {
  const names = [...Deno.readDirSync(folder)].map(({ name }) => name)
    .filter((name) => /^licen[cs]e/i.test(name))
    .sort((a, b) => Number(/mit/i.test(b)) - Number(/mit/i.test(a)));
  const [name] = names;
  if (name === undefined) return await namedLicence(folder);
  const text = await Deno.readTextFile(`${folder}/${name}`);
  return /^\s*Apache License\s+Version 2\.0/.test(text) ? APACHE : text;
}

async function namedLicence(folder: string): Promise<string> {
  const { license } = JSON.parse(await Deno.readTextFile(`${folder}/package.json`)) as { license?: unknown };
  if (license !== "MIT") throw new Error(`${folder} has no licence, and is not of MIT's, but of ${license}`);
  return await Deno.readTextFile("tools/package/debian/mit-licence");
}

function holders(licence: string, name: string): string {
  const lines = licence.split("\n").filter((line) =>
    /^\s*copyright\b.*(\d{4}|authors|contributors)/i.test(line)
  );
  return lines.length === 0 ? `the authors of ${name}` : lines.map((line) => line.trim()).join("\n ");
}

function indented(text: string): string {
  return text.trim().split("\n").map((line) => line.trim() === "" ? " ." : ` ${line.trimEnd()}`).join("\n");
}

/**
 * What dpkg reads of a package (deb-control(5), deb-conffiles(5)): its description, its maintainer scripts, its sums.
 * @module
 */
import { createHash } from "node:crypto";
import { copy, filesBelow, put } from "./run.ts";

const SCRIPTS = ["postinst", "prerm", "postrm"];

/** Which package this is. */
export interface Identity {
  readonly version: string;
  readonly architecture: string;
}

/** Writes the folder DEBIAN of a package whose files are all there. */
export async function control(root: string, { version, architecture }: Identity): Promise<void> {
  const files = [...filesBelow(root)].filter((path) => !path.startsWith(`${root}/DEBIAN/`));
  let bytes = 0;
  let sums = "";
  for (const path of files) {
    const content = await Deno.readFile(path);
    bytes += content.length;
    sums += `${createHash("md5").update(content).digest("hex")}  ${path.slice(root.length + 1)}\n`;
  }
  const fields = (await Deno.readTextFile("tools/package/debian/control"))
    .replaceAll("@VERSION@", version)
    .replaceAll("@ARCHITECTURE@", architecture)
    .replaceAll("@INSTALLED_KIB@", String(Math.ceil(bytes / 1024)))
    .replaceAll("@GLIBC@", await glibc(files));
  await put(`${root}/DEBIAN/control`, fields);
  await put(`${root}/DEBIAN/md5sums`, sums);
  const conffiles = files.map((path) => path.slice(root.length)).filter((path) => path.startsWith("/etc/"));
  await put(`${root}/DEBIAN/conffiles`, conffiles.map((path) => `${path}\n`).join(""));
  for (const script of SCRIPTS) {
    await copy(`tools/package/debian/${script}`, `${root}/DEBIAN/${script}`, 0o755);
  }
}

/** The oldest glibc that has every symbol version which the programs and libraries ask for. */
async function glibc(files: readonly string[]): Promise<string> {
  const minors = [0];
  for (const path of files) {
    const content = await Deno.readFile(path);
    if (content[0] !== 0x7f || content[1] !== 0x45) continue; // "\x7fELF"
    const text = new TextDecoder("latin1").decode(content);
    for (const [, minor] of text.matchAll(/GLIBC_2\.(\d+)/g)) minors.push(Number(minor));
  }
  return `2.${Math.max(...minors)}`;
}

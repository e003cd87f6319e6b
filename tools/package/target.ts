/**
 * Whom a package is for: this machine's processor, or arm64 built on another one. For the latter it takes Rust's
 * `aarch64-unknown-linux-gnu` (`rustup target add`), Debian's gcc-aarch64-linux-gnu, and npm, which has Deno's executable.
 * @module
 */
import { createHash } from "node:crypto";
import { run } from "./run.ts";

/** Debian's name of a processor. */
export type Architecture = "amd64" | "arm64";

/** What a package is made of that is not the same for all processors. */
export interface Target {
  readonly architecture: Architecture;
  /** Where the native libraries are, built. */
  readonly libraries: string;
  /** The program that takes symbols off them. */
  readonly strip: string;
  /** Deno's executable. */
  readonly deno: string;
}

const HOST: Architecture = Deno.build.arch === "aarch64" ? "arm64" : "amd64";
const TRIPLE = "aarch64-unknown-linux-gnu";
const TOOLS = "aarch64-linux-gnu";
/** Deno for arm64, as npm has it; raised together with the Deno that packs. */
const DENO = {
  version: "2.9.6",
  file: "@deno/linux-arm64-glibc",
  sha512: "poqhoH9B3nYloigEMPT5t8HY+wBeiuea1An5Q7fqgJzP0SYmWsoS/oUnWO/pEiA4ofzIBy1Elt/in58xKtxEoQ==",
};

/**
 * Finds or makes the parts of a package.
 *
 * @param wanted {@linkcode Architecture}; absent: this machine's
 * @param scratch an empty folder
 * @throws {Error} if it cannot be built here, or a part is not there
 */
export async function target(wanted: string | undefined, scratch: string): Promise<Target> {
  if (wanted === undefined || wanted === HOST) {
    return { architecture: HOST, libraries: "target/release", strip: "strip", deno: Deno.execPath() };
  }
  if (wanted !== "arm64") throw new Error(`architecture ${wanted}: expected ${HOST} or arm64`);
  const packages = ["--package=streaming-daemon-shim", "--package=streaming-daemon-tools"];
  await run(["cargo", "build", "--quiet", "--release", "--locked", `--target=${TRIPLE}`, ...packages], {
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER: `${TOOLS}-gcc`,
  });
  return {
    architecture: wanted,
    libraries: `target/${TRIPLE}/release`,
    strip: `${TOOLS}-strip`,
    deno: await foreignDeno(scratch),
  };
}

/** Deno's executable for arm64, the very bytes that are expected. */
async function foreignDeno(folder: string): Promise<string> {
  const { version, file, sha512 } = DENO;
  if (version !== Deno.version.deno) {
    throw new Error(`${file} is pinned at ${version}, and Deno here is ${Deno.version.deno}`);
  }
  const name = (await run(["npm", "pack", "--silent", `--pack-destination=${folder}`, `${file}@${version}`]))
    .trim();
  const found = createHash("sha512").update(await Deno.readFile(`${folder}/${name}`)).digest("base64");
  if (found !== sha512) throw new Error(`${file}@${version} has the SHA-512 ${found}, expected ${sha512}`);
  await run(["tar", "--extract", `--file=${folder}/${name}`, `--directory=${folder}`, "package/deno"]);
  return `${folder}/package/deno`;
}

/**
 * Finds and opens the shim (and the tools), once per isolate, and turns its statuses into errors.
 * @module
 */
import { getSystemErrorMap } from "node:util";
import { ShimError } from "../errors.ts";
import { LIBRARIES, SHIM_VARIABLE } from "../places.ts";
import { SHIM_ABI_VERSION, SYMBOLS, TOOLS_ABI_VERSION, TOOLS_SYMBOLS } from "./symbols.ts";

/** The opened shim. */
export type Shim = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** The opened library of tools. */
export type Tools = Deno.DynamicLibrary<typeof TOOLS_SYMBOLS>["symbols"];

/** The files' names, wherever they lie. */
const SHIM_FILE = "libstreaming_daemon_shim.so";
const TOOLS_FILE = "libstreaming_daemon_tools.so";

/** The shim's own statuses (ABI.md). */
export const STATUS = {
  panic: -5001,
  badHandle: -5002,
  badArgument: -5003,
  socketLive: -5004,
  notASocket: -5005,
  noSuchGroup: -5006,
  notAListener: -5007,
  tooSmall: -5008,
} as const;

const OWN_STATUSES: Record<number, string> = {
  [STATUS.panic]: "a panic was caught in the shim",
  [STATUS.badHandle]: "no such acceptor, reactor or client",
  [STATUS.badArgument]: "an argument is out of range",
  [STATUS.socketLive]: "another process listens there",
  [STATUS.notASocket]: "something that is not a socket is there",
  [STATUS.noSuchGroup]: "the system has no such group",
  [STATUS.notAListener]: "it is not a listening Unix socket of type SEQPACKET or STREAM",
  [STATUS.tooSmall]: "the buffer is too small",
};

/** What a negative status means, in words: `EACCES, permission denied`. */
export function statusText(status: number): string {
  const own = OWN_STATUSES[status];
  if (own !== undefined) return own;
  const [name, text] = getSystemErrorMap().get(status) ?? [`errno ${-status}`, "unknown error"];
  return `${name}, ${text}`;
}

/**
 * Passes a status on, or throws.
 *
 * @param status what the shim returned
 * @param what the action and its object, for the message: `listen on /run/x.sock`
 * @throws {ShimError} if the status is negative
 */
export function check(status: number, what: string): number {
  if (status < 0) throw new ShimError(status, `Cannot ${what}: ${statusText(status)}`);
  return status;
}

let shim: Shim | undefined;
let tools: Tools | undefined;

/**
 * The shim, opened at the first call.
 *
 * @throws {ShimError} if there is none, it cannot be opened, or its ABI is another
 */
export function openShim(): Shim {
  return shim ??= open("shim", shimPath(), SHIM_ABI_VERSION, (path) => {
    const library = Deno.dlopen(path, SYMBOLS);
    return { symbols: library.symbols, version: library.symbols.shim_abi_version() };
  });
}

/**
 * The library that plays the other side of a handoff, opened at the first call. It lies beside the shim.
 *
 * @throws {ShimError} if there is none, it cannot be opened, or its ABI is another
 */
export function openTools(): Tools {
  return tools ??= open("library", toolsPath(), TOOLS_ABI_VERSION, (path) => {
    const library = Deno.dlopen(path, TOOLS_SYMBOLS);
    return { symbols: library.symbols, version: library.symbols.tools_abi_version() };
  });
}

function open<Symbols>(
  name: string,
  path: string,
  expectedVersion: number,
  load: (path: string) => { symbols: Symbols; version: number },
): Symbols {
  let loaded;
  try {
    loaded = load(path);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    const hint = cause instanceof Deno.errors.NotCapable
      ? `the sandbox does not allow it (start with --allow-ffi=${path})`
      : `${reason}; \`deno task shim\` builds it, ${SHIM_VARIABLE} names another place`;
    throw new ShimError(STATUS.badArgument, `Cannot open the ${name} ${path}: ${hint}`, { cause });
  }
  if (loaded.version !== expectedVersion) {
    throw new ShimError(
      STATUS.badArgument,
      `The ${name} ${path} has ABI version ${loaded.version}, this daemon expects ${expectedVersion}; ` +
        "`deno task shim` builds the right one",
    );
  }
  return loaded.symbols;
}

/**
 * Where the shim is: where `DAEMON_SHIM_PATH` points, else where cargo builds it in a checkout, or beside the program
 * in a package. In a compiled program that is the embedded copy, from which Deno.dlopen can load.
 */
export function shimPath(): string {
  return Deno.env.get(SHIM_VARIABLE) || LIBRARIES + SHIM_FILE;
}

/** Where the library that plays the other side of a handoff is: beside the shim. */
export function toolsPath(): string {
  return shimPath().replace(/[^/]*$/, TOOLS_FILE);
}

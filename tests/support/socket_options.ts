/**
 * Options that a client's socket may have when it comes, which Deno does not set.
 * @module
 */
import type { OwnedFd } from "../../src/native/sender.ts";

const libc = Deno.dlopen("libc.so.6", {
  // int (int fd, int level, int name, const void *value, socklen_t len)
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
}).symbols;

/** Level and name of options of Linux, in socket(7) and tcp(7). */
const OPTIONS = {
  SO_LINGER: [1, 13],
  TCP_CORK: [6, 3],
} as const;

/** setsockopt(2) with a value of `int`s. */
export function setOption({ fd }: OwnedFd, name: keyof typeof OPTIONS, ...value: readonly number[]): void {
  const [level, number] = OPTIONS[name];
  const bytes = Int32Array.from(value);
  if (libc.setsockopt(fd, level, number, bytes, bytes.byteLength) !== 0) {
    throw new Error(`setsockopt(2) refuses ${name}`);
  }
}

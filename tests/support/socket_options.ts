/**
 * What Deno does not tell of a socket or do to it: options that a client's may have when it comes, and how full it is.
 * @module
 */
import type { OwnedFd } from "../../src/native/sender.ts";
import type { ClientEnds } from "./clients.ts";

const libc = Deno.dlopen("libc.so.6", {
  // int (int fd, int level, int name, const void *value, socklen_t len)
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  // int (int fd, int level, int name, void *value, socklen_t *len)
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  // int (int fd, int how)
  shutdown: { parameters: ["i32", "i32"], result: "i32" },
}).symbols;

/** Level and name of options of Linux, in socket(7) and tcp(7). */
const OPTIONS = {
  SO_LINGER: [1, 13],
  TCP_CORK: [6, 3],
  TCP_USER_TIMEOUT: [6, 18],
} as const;

/** setsockopt(2) with a value of `int`s. */
export function setOption({ fd }: OwnedFd, name: keyof typeof OPTIONS, ...value: readonly number[]): void {
  const [level, number] = OPTIONS[name];
  const bytes = Int32Array.from(value);
  if (libc.setsockopt(fd, level, number, bytes, bytes.byteLength) !== 0) {
    throw new Error(`setsockopt(2) refuses ${name}`);
  }
}

const SHUT_WR = 1;

/** Says that nothing more will be said, as `nc -N` does at the end of its input. */
export function endWriting({ fd }: OwnedFd): void {
  if (libc.shutdown(fd, SHUT_WR) !== 0) throw new Error("shutdown(2) refuses");
}

/** getsockopt(2) of an `int`. */
export function getOption({ fd }: OwnedFd, name: keyof typeof OPTIONS): number {
  const [level, number] = OPTIONS[name];
  const value = new Int32Array(1);
  if (libc.getsockopt(fd, level, number, value, Uint32Array.of(value.byteLength)) !== 0) {
    throw new Error(`getsockopt(2) refuses ${name}`);
  }
  return value[0] as number;
}

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
/** Of `tcpi_notsent_bytes` in `struct tcp_info` of linux/tcp.h. */
const NOTSENT_OFFSET = 144;

/** How many bytes of a TCP connection the kernel has not sent yet. */
function notSentBytes({ fd }: OwnedFd): number {
  const info = new Uint8Array(256);
  if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info, Uint32Array.of(info.byteLength)) !== 0) {
    throw new Error("getsockopt(2) refuses TCP_INFO");
  }
  return new DataView(info.buffer).getUint32(NOTSENT_OFFSET, true);
}

/** A receiver may take so long to say that it has room (the delayed ACK). */
const ACK_MS = 100;

/**
 * Fills, with the letter f, what a TCP client takes that reads nothing, and a little more. For what is sent after it
 * there is still room on this side.
 *
 * @returns how many bytes that took
 */
export async function fillWindow({ far }: ClientEnds): Promise<number> {
  const chunk = new Uint8Array(4096).fill(0x66);
  let bytes = 0;
  while (notSentBytes(far) < chunk.length) {
    while (notSentBytes(far) < chunk.length) bytes += far.send(chunk);
    await new Promise((resolve) => setTimeout(resolve, ACK_MS));
  }
  return bytes;
}

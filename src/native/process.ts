/**
 * What the daemon needs to know and to say as a process: fd limit, open fds, connections, sd_notify.
 * @module
 */
import { check, openShim } from "./library.ts";

/** Raises the soft fd limit to the hard one (setrlimit(2)). Returns the limit that holds then. */
export function raiseFdLimit(): number {
  const out = new BigUint64Array(2);
  check(openShim().shim_raise_fd_limit(out), "raise the limit of open files");
  return Number(out[0]);
}

/** How many fds this process has open. */
export function openFds(): number {
  return check(openShim().shim_open_fds(), "count the open files");
}

/**
 * Sends one datagram to systemd (sd_notify(3)).
 *
 * @param address the value of `NOTIFY_SOCKET`: a path, or an abstract name that begins with `@`
 * @throws {ShimError} if it cannot be sent
 */
export function notify(address: string, state: string): void {
  const encoder = new TextEncoder();
  const to = encoder.encode(address);
  const what = encoder.encode(state);
  check(openShim().shim_notify(to, to.length, what, what.length), `notify systemd at ${address}`);
}

/**
 * Shuts a TCP connection of this process down (shutdown(2)), whoever has it and whatever becomes of its number: they see
 * its end. Does nothing if there is none any more. Another thread does it, since it looks through all descriptors.
 */
export async function shutDown(local: Deno.NetAddr, peer: Deno.NetAddr): Promise<void> {
  const [from, to] = [local, peer].map(({ hostname, port }) =>
    new TextEncoder().encode(hostname.includes(":") ? `[${hostname}]:${port}` : `${hostname}:${port}`)
  ) as [Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>];
  check(await openShim().shim_shut_down(from, from.length, to, to.length), "shut a connection down");
}

/** CLOCK_MONOTONIC of clock_gettime(2), in microseconds. Deno's own clocks begin with the process. */
export function monotonicUsec(): bigint {
  const out = new BigUint64Array(1);
  check(openShim().shim_monotonic_usec(out), "read the clock");
  return out[0] as bigint;
}

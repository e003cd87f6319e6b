/**
 * The other side of a handoff: what Apache does, for `try`, the demo and the tests.
 * @module
 */
import { kindNumber, type SocketKind } from "./acceptor.ts";
import { check, openTools } from "./library.ts";

const EMSGSIZE = -90;

/** An fd that its holder owns and ends with {@linkcode OwnedFd.close}. */
export class OwnedFd {
  readonly fd: number;
  #closed = false;
  #reading = 0;
  #buffer: Uint8Array<ArrayBuffer> | undefined;

  /** Takes ownership of an fd number. */
  constructor(fd: number) {
    this.fd = fd;
  }

  /**
   * Reads what comes next.
   *
   * @param timeoutMs how long to wait for it
   * @returns the bytes (a copy), or `undefined` at the end
   * @throws {ShimError} if nothing comes in time (`ETIMEDOUT`) or the connection broke
   */
  async read(timeoutMs: number): Promise<Uint8Array<ArrayBuffer> | undefined> {
    this.#buffer ??= new Uint8Array(64 * 1024);
    this.#reading++;
    const bytes = await openTools().tools_recv(this.fd, this.#buffer, this.#buffer.byteLength, timeoutMs);
    if (--this.#reading === 0 && this.#closed) openTools().tools_close_fd(this.fd);
    check(bytes, "read");
    return bytes === 0 ? undefined : this.#buffer.slice(0, bytes);
  }

  /**
   * Sends with one sendmsg(2), fds as SCM_RIGHTS; they stay their owners'.
   *
   * @returns the count of bytes taken
   * @throws {ShimError} if the system says no
   */
  send(data: Uint8Array<ArrayBuffer>, fds: readonly OwnedFd[] = []): number {
    const numbers = Int32Array.from(fds, (each) => each.fd);
    const status = openTools().tools_sendmsg(this.fd, data, data.byteLength, numbers, numbers.length);
    return check(status, "send");
  }

  /** Closes it, or marks it to be closed when a read under way returns. Later calls do nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#reading === 0) check(openTools().tools_close_fd(this.fd), "close");
  }

  /** For `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
}

/** Two connected Unix sockets (socketpair(2)). */
export function socketPair(kind: SocketKind = "stream"): [OwnedFd, OwnedFd] {
  const out = new Int32Array(2);
  check(openTools().tools_socketpair(kindNumber(kind), out), "make a socketpair");
  return [new OwnedFd(out[0] as number), new OwnedFd(out[1] as number)];
}

/**
 * Connects to a Unix socket.
 *
 * @throws {ShimError} if nobody listens there, or on another type of socket (`EPROTOTYPE`); the message names the path
 */
export function connect(path: string, kind: SocketKind): OwnedFd {
  const bytes = new TextEncoder().encode(path);
  return new OwnedFd(
    check(openTools().tools_connect(bytes, bytes.length, kindNumber(kind)), `connect to ${path}`),
  );
}

/**
 * Hands a socket over as mod_socket_handoff does: connect, one message with the fd, close.
 *
 * @param path the daemon's handoff socket
 * @param data the handoff's data; empty stands for none, which is one NUL byte on the wire
 * @param client stays its owner's, who closes the own copy when the client is the daemon's
 * @throws {ShimError} if the daemon is not there, or the data is more than the system sends at once
 */
export function handOff(
  path: string,
  kind: SocketKind,
  data: Uint8Array<ArrayBuffer>,
  client: OwnedFd,
): void {
  using sender = connect(path, kind);
  const message = data.byteLength === 0 ? new Uint8Array(1) : data;
  const sent = sender.send(message, [client]);
  // As for SEQPACKET, whose messages are sent whole or not at all.
  if (sent < message.byteLength) {
    check(EMSGSIZE, `send ${message.byteLength} bytes at once, of which ${sent} fit`);
  }
}

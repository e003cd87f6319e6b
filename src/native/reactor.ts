/**
 * A reactor: what happens on the kernel's side of one worker, as events; and the clients' sockets.
 * Apart from this folder nobody sees an fd: a client is a {@linkcode ClientSocket}.
 * @module
 */
import { Socket } from "node:net";
import { type HandoffFailure, ShimError } from "../errors.ts";
import { check, openShim, type Shim, STATUS } from "./library.ts";

/** What the owner of a {@linkcode ClientSocket} wants to hear. Called from the reactor's turn; must not throw. */
export interface ClientEvents {
  /** The client's end: 0 for a FIN, else the errno. Comes once; the socket is still to be closed. */
  gone(errno: number): void;
  /** There is room again after a send that came up short. */
  writable(): void;
}

/** One client's socket. Owned by whoever got it with a handoff; closed exactly once. */
export class ClientSocket {
  /** The shim's number for it. Not an fd. */
  readonly id: number;
  /** Who hears of it; set by the owner. */
  events: ClientEvents | undefined;
  readonly #reactor: Reactor;

  /** For the reactor only. */
  constructor(reactor: Reactor, id: number) {
    this.#reactor = reactor;
    this.id = id;
  }

  /** Closes it at once (close(2)). Later calls do nothing. */
  close(): void {
    this.#reactor.closeClient(this);
  }

  /** The shim has closed it, after the last bytes went out: an entry with END was taken whole. */
  closedByEnd(): void {
    this.#reactor.forget(this);
  }
}

/** A complete handoff. */
export interface Handoff {
  readonly socket: ClientSocket;
  /** The handoff's data: a view that is valid only during the call. */
  readonly payload: Uint8Array;
  /** More clients than `max_connections` are live, this one included. */
  readonly overLimit: boolean;
  /** Whether it came over the STREAM socket. */
  readonly overStream: boolean;
  readonly durationSecs: number;
  readonly senderUid: number;
}

/** A handoff that the shim refused; all its fds are closed. */
export interface RefusedHandoff {
  readonly reason: HandoffFailure;
  readonly receivedBytes: number;
  readonly durationSecs: number;
  /** What the reason is about, by the table of ABI.md (a uid, an errno, a limit, …). */
  readonly detail: number;
}

/** Where a reactor's events go. Called in order; must not throw. */
export interface ReactorEvents {
  handoff(handoff: Handoff): void;
  refused(handoff: RefusedHandoff): void;
  /** After a stop: the backlog is served, no further handoff will come. */
  drained(): void;
  /** accept4(2) failed for a reason of the whole process. */
  acceptFailed(errno: number): void;
}

/** What {@linkcode Reactor.send} sends: `count` entries of four words each (client, offset, length, flags). */
export interface SendBatch {
  readonly entries: Uint32Array<ArrayBuffer>;
  readonly count: number;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly dataBytes: number;
}

/** Flag of an entry: end the client in order when its bytes are out. */
export const END = 1;

const HEAD_BYTES = 24;
const FIRST_BUFFER_BYTES = 64 * 1024;
const HANDOFF = 1, CLIENT_GONE = 2, CLIENT_WRITABLE = 3, HANDOFF_FAILED = 4, DRAINED = 5, ACCEPT_FAILED = 6;
const OVER_LIMIT = 1, OVER_STREAM = 4;
const REASONS: readonly HandoffFailure[] = [
  "receive_error", // 0 is not used
  "no_fd",
  "many_fds",
  "not_a_socket",
  "not_stream",
  "listening",
  "payload_truncated",
  "control_truncated",
  "timeout",
  "uid_not_allowed",
  "receive_error",
];

/** One epoll set in the shim, and the clients it watches. */
export class Reactor {
  readonly #shim: Shim;
  readonly #handle: number;
  readonly #sockets: (ClientSocket | undefined)[] = [];
  #results: Int32Array<ArrayBuffer> = new Int32Array(1024);
  #buffer = new Uint8Array(FIRST_BUFFER_BYTES);
  #bell: Socket | undefined;
  /** Hands on all events that there are. */
  #handOn = (): boolean => true;
  #closed = false;

  /**
   * @param intake the handle of {@linkcode Intake.handle}: whose listeners it serves
   * @throws {ShimError} if there is no such intake, or no epoll set to be had
   */
  constructor(intake: number) {
    this.#shim = openShim();
    const out = new Uint32Array(1);
    check(this.#shim.shim_reactor_new(intake, out), "make a reactor");
    this.#handle = out[0] as number;
  }

  /** The shim's number for it, with which another isolate can close it ({@linkcode closeReactor}). */
  get handle(): number {
    return this.#handle;
  }

  /**
   * Hands events on until {@linkcode Reactor.close}.
   *
   * The shim's thread rings: a byte over a socket when there are events after there were none. Deno watches that socket
   * as any other, which takes fewer thread switches than a call parked in the blocking pool.
   *
   * @throws {ShimError} if the reactor ends by itself, which only a bug can bring about
   */
  run(events: ReactorEvents): Promise<void> {
    const fd = check(this.#shim.shim_reactor_start(this.#handle), "start a reactor");
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#handOn = (): boolean => {
      try {
        this.#takeAll(events);
      } catch (error) {
        reject(error);
      }
      return true;
    };
    const onread = { buffer: new Uint8Array(16), callback: this.#handOn };
    this.#bell = new Socket({ fd, readable: true, writable: false, onread });
    this.#bell.on("error", reject);
    this.#bell.on("close", () => {
      if (this.#closed) resolve();
      else reject(new ShimError(STATUS.panic, "The reactor ended by itself"));
    });
    return promise;
  }

  /**
   * Blocks this isolate for so long, or until there are events, which are handed on before it returns. Does nothing
   * once the reactor is closed or has failed, which {@linkcode Reactor.run} tells.
   */
  rest(ms: number): void {
    if (!this.#closed && this.#shim.shim_reactor_wait(this.#handle, Math.ceil(ms * 1000)) > 0) this.#handOn();
  }

  #takeAll(events: ReactorEvents): void {
    while (!this.#closed) {
      const bytes = this.#shim.shim_reactor_take(this.#handle, this.#buffer, this.#buffer.byteLength);
      if (bytes === 0) return;
      // A reload may have raised handoff_buffer_bytes.
      if (bytes === STATUS.tooSmall) this.#buffer = new Uint8Array(this.#buffer.byteLength * 2);
      else this.#dispatch(events, this.#buffer, check(bytes, "take events"));
    }
  }

  #dispatch(events: ReactorEvents, buffer: Uint8Array, bytes: number): void {
    const words = new Uint32Array(buffer.buffer);
    for (let at = 0; at < bytes;) {
      const word = at >> 2;
      const kind = words[word] as number;
      const id = words[word + 1] as number;
      const arg = words[word + 2] as number;
      const payloadBytes = words[word + 4] as number;
      const payloadAt = at + HEAD_BYTES;
      at = payloadAt + ((payloadBytes + 3) & ~3);
      if (kind === CLIENT_GONE) this.#sockets[id]?.events?.gone(arg);
      else if (kind === CLIENT_WRITABLE) this.#sockets[id]?.events?.writable();
      else if (kind === HANDOFF) {
        const socket = new ClientSocket(this, id);
        this.#sockets[id] = socket;
        events.handoff({
          socket,
          payload: buffer.subarray(payloadAt, payloadAt + payloadBytes),
          overLimit: (arg & OVER_LIMIT) !== 0,
          overStream: (arg & OVER_STREAM) !== 0,
          durationSecs: (words[word + 3] as number) / 1e6,
          senderUid: words[word + 5] as number,
        });
      } else if (kind === HANDOFF_FAILED) {
        events.refused({
          reason: REASONS[arg] ?? "receive_error",
          receivedBytes: id,
          durationSecs: (words[word + 3] as number) / 1e6,
          detail: words[word + 5] as number,
        });
      } else if (kind === DRAINED) events.drained();
      else if (kind === ACCEPT_FAILED) events.acceptFailed(arg);
    }
  }

  /**
   * Sends what fits of each entry, in order, in one call.
   *
   * @returns one result per entry: bytes taken, or a negative status. Valid until the next call.
   * @throws {ShimError} if the batch is malformed, which only a bug can bring about
   */
  send(batch: SendBatch): Int32Array {
    if (this.#results.length < batch.count) this.#results = new Int32Array(batch.count * 2);
    check(
      this.#shim.shim_send_batch(
        this.#handle,
        batch.entries,
        batch.count,
        batch.data,
        batch.dataBytes,
        this.#results,
      ),
      "send a batch",
    );
    return this.#results;
  }

  /** For {@linkcode ClientSocket.close}. */
  closeClient(socket: ClientSocket): void {
    if (!this.forget(socket) || this.#closed) return;
    check(this.#shim.shim_client_close(this.#handle, socket.id), "close a client");
  }

  /** For {@linkcode ClientSocket}: no event about it is passed on any more. Says whether it was known. */
  forget(socket: ClientSocket): boolean {
    if (this.#sockets[socket.id] !== socket) return false;
    this.#sockets[socket.id] = undefined;
    socket.events = undefined;
    return true;
  }

  /** Closes every client left and ends {@linkcode Reactor.run}. Later calls do nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sockets.length = 0;
    closeReactor(this.#handle);
    this.#bell?.destroy();
  }
}

/** Closes a reactor by its handle: for one whose isolate has died. Does nothing if it is closed already. */
export function closeReactor(handle: number): void {
  const status = openShim().shim_reactor_close(handle);
  if (status !== STATUS.badHandle) check(status, "close a reactor");
}

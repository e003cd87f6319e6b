/**
 * A reactor: what happens to the clients of one worker, as events; and where their sockets are written to and closed.
 * Apart from this folder nobody sees an fd: a client is a number of the shim.
 * @module
 */
import type { HandoffFailure } from "../errors.ts";
import type { SendBatch } from "../protocol/sse.ts";
import { Bell } from "./bell.ts";
import { check, openShim, type Shim, STATUS } from "./library.ts";
import { reasonOf } from "./reasons.ts";

/** What the owner of a client hears. Must not throw. */
export interface ClientEvents {
  /** The client's end: 0 for a FIN, else the errno. Comes once; the socket is still to be closed. */
  gone(errno: number): void;
  /** There is room again after a send that came up short. */
  writable(): void;
}

/** A handoff, and the client that it brought. */
export interface Handoff {
  /** The shim's number of the client. */
  readonly client: number;
  /** The handoff's data: a view that is valid only during the call. */
  readonly payload: Uint8Array<ArrayBuffer>;
  /** More clients than `max_connections` are live, this one included. */
  readonly overLimit: boolean;
  /** Every worker has said that it takes no more. */
  readonly noRoom: boolean;
  /** Another worker has given it here. */
  readonly moved: boolean;
  /** The client had left before; {@linkcode ClientEvents.gone} does not come any more. */
  readonly gone: boolean;
  /** Why it was refused although its client is a good one, who is to be told. */
  readonly refusal: HandoffFailure | undefined;
  readonly durationSecs: number;
}

/** Whom new clients go to. Must not throw. */
export interface HandoffTaker {
  /** Returns the client's owner, who closes it; nothing if it has moved on, or is closed already. */
  handoff(handoff: Handoff): ClientEvents | undefined;
}

const HEAD_BYTES = 24;
/** Room for a turn's share of large conversations; what is never written to takes no memory. */
const FIRST_BUFFER_BYTES = 512 * 1024;
const HANDOFF = 1, CLIENT_GONE = 2, CLIENT_WRITABLE = 3;
const OVER_LIMIT = 1, NO_ROOM = 8, MOVED = 16, IS_GONE = 32, REASON_SHIFT = 8;
/** So many handoffs are taken from the shim at a time. */
const HANDOFFS_AT_ONCE = 128;
/** After so long a turn leaves the rest to the next one, so that streams which run keep their pace. */
const TURN_MS = 1;
/** From such a turn to the next. A thread that never sleeps is the one the kernel lets wait where cores are short. */
const PAUSE_MS = 1;

/** One epoll set in the shim, and the clients it watches. */
export class Reactor {
  /** The shim's number for it: {@linkcode makeReactor}. */
  readonly handle: number;
  readonly #shim: Shim;
  /** By the shim's number. */
  readonly #clients: (ClientEvents | undefined)[] = [];
  readonly #left = new Uint32Array(1);
  #results: Int32Array<ArrayBuffer> = new Int32Array(1024);
  #buffer = new Uint8Array(FIRST_BUFFER_BYTES);
  #words = new Uint32Array(this.#buffer.buffer);
  /** What of the buffer was taken from the shim, and how far it was handed on. */
  #bytes = 0;
  #at = 0;
  #bell: Bell | undefined;
  #taker: HandoffTaker | undefined;
  #fail: (error: unknown) => void = () => {};
  #turnComes = false;
  #caughtUp: (() => void) | undefined;
  #closed = false;

  /** @param handle of {@linkcode makeReactor}; it may have been made in another isolate */
  constructor(handle: number) {
    this.#shim = openShim();
    this.handle = handle;
  }

  /**
   * Hands events on until {@linkcode Reactor.close}.
   *
   * @throws {ShimError} if it cannot be started, or ends by itself, which only a bug can bring about
   */
  async run(taker: HandoffTaker): Promise<void> {
    this.#taker = taker;
    const failed = Promise.withResolvers<never>();
    this.#fail = failed.reject;
    const fd = check(this.#shim.shim_reactor_start(this.handle), "start a reactor");
    this.#bell = new Bell(fd, () => {
      if (!this.#turnComes) this.#turn();
    });
    await Promise.race([this.#bell.ended, failed.promise]);
  }

  /** Whether new handoffs may come here. While it is closed they go to other workers, if one is open. */
  admit(open: boolean): void {
    if (!this.#closed) {
      check(this.#shim.shim_reactor_admit(this.handle, open ? 1 : 0), "open or close a reactor");
    }
  }

  /**
   * Blocks this isolate for so long, or until there is a handoff. What came meanwhile is handed on before it returns, a
   * turn's share of it. Does nothing once the reactor is closed or has failed, which {@linkcode Reactor.run} tells.
   */
  rest(ms: number): void {
    if (this.#closed || this.#turnComes) return;
    // The bell does not ring for what comes during the wait.
    if (this.#shim.shim_reactor_wait(this.handle, Math.ceil(ms * 1000)) >= 0) this.#turn();
  }

  /** Resolves when all that waits by now was handed on, or never will be. One wait at a time. */
  caughtUp(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#caughtUp = resolve;
    this.#comeAgain();
    return promise;
  }

  // A share of what waits. The rest has a turn of its own, after a pause and everybody else's.
  readonly #turn = (): void => {
    this.#turnComes = false;
    try {
      const takes = this.#at === this.#bytes;
      if (takes && !this.#closed) this.#take();
      this.#dispatch(performance.now() + TURN_MS);
      // A turn that took nothing looks again: the bell may have rung since the last take.
      const more = !takes || this.#at < this.#bytes || (this.#left[0] as number) > 0;
      if (more && !this.#closed) return this.#comeAgain();
    } catch (error) {
      this.#fail(error);
    }
    this.#caughtUp?.();
    this.#caughtUp = undefined;
  };

  // Not setImmediate: while turns follow each other that way, Deno looks at its sockets at every 61st of them only.
  #comeAgain(): void {
    if (this.#turnComes) return;
    this.#turnComes = true;
    setTimeout(this.#turn, PAUSE_MS);
  }

  #take(): void {
    this.#at = 0;
    this.#bytes = 0;
    const buffer = this.#buffer;
    const bytes = this.#shim.shim_reactor_take(
      this.handle,
      buffer,
      buffer.byteLength,
      HANDOFFS_AT_ONCE,
      this.#left,
    );
    if (bytes === STATUS.tooSmall) {
      // A reload may have raised handoff_buffer_bytes.
      this.#buffer = new Uint8Array(buffer.byteLength * 2);
      this.#words = new Uint32Array(this.#buffer.buffer);
      return this.#take();
    }
    this.#bytes = check(bytes, "take events");
  }

  #dispatch(untilMs: number): void {
    const words = this.#words;
    while (this.#at < this.#bytes && !this.#closed) {
      const word = this.#at >> 2;
      const kind = words[word] as number;
      const client = words[word + 1] as number;
      if (kind === HANDOFF) this.#handOn(client, word);
      else {
        this.#at += HEAD_BYTES;
        if (kind === CLIENT_GONE) this.#clients[client]?.gone(words[word + 2] as number);
        else if (kind === CLIENT_WRITABLE) this.#clients[client]?.writable();
      }
      if (performance.now() > untilMs) return;
    }
  }

  #handOn(client: number, word: number): void {
    const flags = this.#words[word + 2] as number;
    const payloadBytes = this.#words[word + 4] as number;
    const payloadAt = this.#at + HEAD_BYTES;
    this.#at = payloadAt + ((payloadBytes + 3) & ~3);
    this.#clients[client] = this.#taker?.handoff({
      client,
      payload: this.#buffer.subarray(payloadAt, payloadAt + payloadBytes),
      overLimit: (flags & OVER_LIMIT) !== 0,
      noRoom: (flags & NO_ROOM) !== 0,
      moved: (flags & MOVED) !== 0,
      gone: (flags & IS_GONE) !== 0,
      refusal: reasonOf(flags >> REASON_SHIFT),
      durationSecs: (this.#words[word + 3] as number) / 1e6,
    });
  }

  /**
   * Sends what fits of each entry, in order, in one call.
   *
   * @returns one result per entry: bytes taken, or a negative status. Valid until the next call.
   * @throws {ShimError} if the batch is malformed, which only a bug can bring about
   */
  send(batch: Pick<SendBatch, "entries" | "count" | "data" | "dataBytes">): Int32Array {
    const { entries, count, data, dataBytes } = batch;
    if (this.#results.length < count) this.#results = new Int32Array(count * 2);
    check(
      this.#shim.shim_send_batch(this.handle, entries, count, data, dataBytes, this.#results),
      "send a batch",
    );
    return this.#results;
  }

  /** Closes a client's socket at once (close(2)). */
  close(client: number): void {
    this.#clients[client] = undefined;
    if (!this.#closed) check(this.#shim.shim_client_close(this.handle, client), "close a client");
  }

  /**
   * Makes a client, to which nothing was sent yet, another reactor's, which may be another isolate's.
   *
   * @param payload what the other one is told as the handoff's data
   * @returns whether that one has taken it; else it stays here
   */
  move(client: number, reactor: number, payload: Uint8Array<ArrayBuffer>): boolean {
    const status = this.#shim.shim_client_move(this.handle, client, reactor, payload, payload.length);
    if (status < 0) return false;
    this.#clients[client] = undefined;
    return true;
  }

  /** The shim has closed it, after the last bytes went out: an entry with END was taken whole. */
  closedByEnd(client: number): void {
    this.#clients[client] = undefined;
  }

  /** Closes every client left and ends {@linkcode Reactor.run}. Later calls do nothing. */
  shutDown(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#clients.length = 0;
    closeReactor(this.handle);
    this.#bell?.close();
  }
}

/**
 * Makes a reactor, which gets no handoffs before it is run.
 *
 * @param acceptor the handle of {@linkcode Acceptor.handle}: whose handoffs it will get
 * @returns its handle, for {@linkcode Reactor} and {@linkcode closeReactor}
 * @throws {ShimError} if there is no such acceptor, or no epoll set to be had
 */
export function makeReactor(acceptor: number): number {
  const out = new Uint32Array(1);
  check(openShim().shim_reactor_new(acceptor, out), "make a reactor");
  return out[0] as number;
}

/** Closes a reactor by its handle: for one whose isolate has died. Does nothing if it is closed already. */
export function closeReactor(handle: number): void {
  const status = openShim().shim_reactor_close(handle);
  if (status !== STATUS.badHandle) check(status, "close a reactor");
}

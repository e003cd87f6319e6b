/**
 * One request and its answer, on whatever connection: what a consumer, the pool and a connection say to each other.
 * @module
 */

import { BackendError } from "../errors.ts";
import type { Field } from "./h2/static_table.ts";

/** What many requests have in common: one object of it is encoded once. */
export interface RequestHead {
  readonly method: string;
  readonly url: URL;
  /** Names in lower case; without host, content-length and what belongs to a connection. */
  readonly headers: readonly Field[];
}

/** A request as every protocol can send it. */
export interface UpstreamRequest {
  readonly head: RequestHead;
  /** Further fields, of this one alone. */
  readonly headers: readonly Field[];
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Who hears the answer. `head` comes at most once; exactly one of `end` and `fail` comes, and is the last. */
export interface ExchangeListener {
  head(status: number, headers: readonly Field[]): void;
  /** @param bytes valid during the call only */
  data(bytes: Uint8Array): void;
  end(): void;
  /** `unavailable` before the head, `truncated` after it, `malformed` where the protocol is violated. */
  fail(error: BackendError): void;
}

/** Whoever holds an exchange at present: the pool's queue, then a connection. */
export interface Carrier {
  /** Let go of it at once. It hears nothing more from here. */
  drop(exchange: Exchange): void;
  /** Its consumer is ready for more. */
  resume(exchange: Exchange): void;
}

/** A connection, as the pool sees it. */
export interface Connection extends Carrier {
  /** How many more exchanges it takes now. */
  readonly room: number;
  /** How many it carries. */
  readonly active: number;
  /** How many it can carry at most. */
  readonly maxStreams: number;
  /** When the last one left it (`performance.now()`). */
  readonly idleSinceMs: number;
  /** How long the server keeps it without an exchange, by what it said. */
  readonly maxIdleMs: number;
  start(exchange: Exchange): void;
  /** Checks that the peer is alive. */
  tick(nowMs: number): void;
  /** Fails what it carries and closes. */
  close(error: BackendError): void;
  /** Settles when nothing of it is left. */
  readonly closed: Promise<void>;
}

/** What a connection tells the pool. */
export interface ConnectionOwner {
  /** `room` or `active` is another. */
  changed(connection: Connection): void;
  /** The server has provably not processed this one: it may go to another connection. */
  returned(exchange: Exchange, why: BackendError): void;
  /** It is no more; all that it carried has been told. */
  gone(connection: Connection): void;
}

const ignore = (): void => {};
const IGNORES: ExchangeListener = { head: ignore, data: ignore, end: ignore, fail: ignore };

/** One request under way. */
export class Exchange {
  /** Null from the head on: nothing of it can be asked again, and a conversation may be large. */
  request: UpstreamRequest | null;
  /** Set by the consumer while it wants no more bytes; a bounded amount may still come. */
  paused = false;
  /** How often a server has sent it back unprocessed. */
  returns = 0;
  /** Set by the pool where it fails, and provably no server has processed it. */
  unprocessed = false;
  /** Set by the pool and the connections. */
  carrier: Carrier | null = null;
  /** For the HTTP/2 connection that carries it. */
  streamId = 0;
  #listener: ExchangeListener;
  #onOver: ((exchange: Exchange) => void) | null = null;

  constructor(request: UpstreamRequest, listener: ExchangeListener) {
    this.request = request;
    this.#listener = listener;
  }

  get headSeen(): boolean {
    return this.request === null;
  }

  /** The consumer takes bytes again. */
  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.carrier?.resume(this);
  }

  /** Ends it wherever it is: the listener hears `fail`, the server a reset. Nothing happens if it is over. */
  cancel(): void {
    this.carrier?.drop(this);
    this.fail(new BackendError("other", "the request was cancelled"));
  }

  /**
   * The consumer has all it wants and hears nothing more, but the end may come by itself.
   *
   * @param onOver called when it has
   */
  leave(onOver: (exchange: Exchange) => void): void {
    this.#listener = IGNORES;
    this.#onOver = onOver;
    this.resume();
  }

  /** For connections. */
  head(status: number, headers: readonly Field[]): void {
    this.request = null;
    try {
      this.#listener.head(status, headers);
    } catch (cause) {
      this.#consumerFailed(cause);
    }
  }

  /** For connections. */
  data(bytes: Uint8Array): void {
    try {
      this.#listener.data(bytes);
    } catch (cause) {
      this.#consumerFailed(cause);
    }
  }

  /** For connections: the answer is whole. */
  end(): void {
    const listener = this.#over();
    try {
      listener.end();
    } catch (cause) {
      tellFailure(listener, consumerFailure(cause));
    }
  }

  /** For connections and the pool. */
  fail(error: BackendError): void {
    tellFailure(this.#over(), error);
  }

  /** For connections: what they carry it with broke. */
  broke(why: string, cause?: unknown): void {
    this.fail(new BackendError(this.headSeen ? "truncated" : "unavailable", why, { cause }));
  }

  /** A consumer that throws ends its own exchange, and not the others of its connection. */
  #consumerFailed(cause: unknown): void {
    this.carrier?.drop(this);
    this.fail(consumerFailure(cause));
  }

  #over(): ExchangeListener {
    const listener = this.#listener;
    const onOver = this.#onOver;
    this.#listener = IGNORES;
    this.#onOver = null;
    this.carrier = null;
    this.request = null;
    onOver?.(this);
    return listener;
  }
}

const consumerFailure = (cause: unknown): BackendError =>
  new BackendError("other", `the answer cannot be used: ${String(cause)}`, { cause });

function tellFailure(listener: ExchangeListener, error: BackendError): void {
  try {
    listener.fail(error);
  } catch (cause) {
    // Nobody is left to be told: it is this isolate's failure, but not in the middle of a connection's turn.
    reportError(cause);
  }
}

/** @returns the value of the first field of that name (lower case), or null */
export function fieldOf(fields: readonly Field[], name: string): string | null {
  for (const field of fields) if (field[0] === name) return field[1];
  return null;
}

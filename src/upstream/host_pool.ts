/**
 * The connections to one host: dials, who waits for one, and when one is closed. Which connection carries an exchange
 * is for the two policies to say: {@linkcode IdleStack} for HTTP/1.1, {@linkcode Packing} for HTTP/2.
 * @module
 */

import { BackendError } from "../errors.ts";
import type { Carrier, Connection, ConnectionOwner, Exchange } from "./exchange.ts";
import { H1Connection } from "./h1/connection.ts";
import { IdleStack } from "./h1/idle_stack.ts";
import { H2Connection, NotHttp2Error } from "./h2/connection.ts";
import { Packing } from "./h2/packing.ts";
import type { ByteStream } from "./byte_stream.ts";
import { describeTarget, dial, type Target } from "./transport.ts";

/** RFC 9113, section 6.5.2: what a server should allow at least; assumed until it says. */
const ASSUMED_STREAMS = 100;
/** Connections that are opened at the same time: over HTTP/1.1, so many exchanges begin in one round of TLS. */
const MAX_DIALS = 256;
/**
 * How long a request waits, each time that a server sends it back unprocessed: not at all where another connection
 * may take it, then so that the server has a chance to become less busy. After the last it has failed.
 */
const RETURN_PAUSES_MS = [0, 100, 400];

/** What holds for all hosts of a pool. */
export interface PoolLimits {
  /** Connections without an exchange that are kept. */
  readonly maxIdlePerHost: number;
  /** How long they are kept. */
  readonly idleTimeoutMs: number;
  /** HTTP/2: silence before a ping, and the longest wait for its answer; 0: no pings. */
  readonly pingIntervalMs: number;
  /** From the first packet to a connection that can be used. */
  readonly connectTimeoutMs: number;
}

/** See the module. */
export class HostPool implements ConnectionOwner, Carrier {
  readonly #target: Target;
  readonly #limits: PoolLimits;
  readonly #connections = new Set<Connection>();
  readonly #idleH1 = new IdleStack((connection) => this.changed(connection));
  readonly #h2 = new Packing();
  readonly #waiting = new Set<Exchange>();
  /** Those that were sent back, in the pause before they are submitted again. */
  readonly #pausing = new Map<Exchange, ReturnType<typeof setTimeout>>();
  readonly #dials = new Map<AbortController, number>();
  readonly #tasks = new Set<Promise<void>>();
  /** By ALPN over TLS, with prior knowledge else (h2c); no more once the server has turned out not to speak it. */
  #http2: boolean;
  /** How many streams the next connection will take, as far as is known. */
  #expected: number;
  #closed: BackendError | null = null;
  /** Connections opened since the start. */
  opened = 0;
  /** Dials that came to nothing. */
  failedDials = 0;

  /** @param http2 wanted */
  constructor(target: Target, http2: boolean, limits: PoolLimits) {
    this.#target = target;
    this.#limits = limits;
    this.#http2 = http2;
    this.#expected = http2 ? ASSUMED_STREAMS : 1;
  }

  /** Open connections. */
  get connections(): number {
    return this.#connections.size;
  }

  /** Exchanges on connections. */
  get active(): number {
    let sum = 0;
    for (const connection of this.#connections) sum += connection.active;
    return sum;
  }

  /** Exchanges that wait for a connection. */
  get waiting(): number {
    return this.#waiting.size + this.#pausing.size;
  }

  /** Nothing is open or under way. */
  get unused(): boolean {
    return this.#connections.size + this.#dials.size + this.waiting === 0;
  }

  /** Gives it to a connection, now or as soon as there is one. */
  submit(exchange: Exchange): void {
    if (this.#closed !== null) return exchange.fail(this.#closed);
    const nowMs = performance.now();
    const connection = this.#h2.next(nowMs) ?? this.#idleH1.next(nowMs);
    if (connection === null) {
      exchange.carrier = this;
      this.#waiting.add(exchange);
      this.#grow(this.#waiting.size);
    } else {
      connection.start(exchange);
      if (connection instanceof H2Connection) this.#grow(Packing.ahead(connection.maxStreams));
    }
  }

  drop(exchange: Exchange): void {
    this.#waiting.delete(exchange);
    clearTimeout(this.#pausing.get(exchange));
    this.#pausing.delete(exchange);
  }

  resume(): void {}

  changed(connection: Connection): void {
    if (!this.#connections.has(connection)) return;
    this.#place(connection);
    for (const exchange of this.#waiting) {
      if (connection.room === 0) break;
      this.#waiting.delete(exchange);
      connection.start(exchange);
    }
  }

  returned(exchange: Exchange, why: BackendError): void {
    const pauseMs = RETURN_PAUSES_MS[exchange.returns++];
    if (pauseMs === undefined) failUnprocessed(exchange, why);
    else if (pauseMs === 0) this.submit(exchange);
    else {
      exchange.carrier = this;
      const submit = (): void => {
        this.#pausing.delete(exchange);
        this.submit(exchange);
      };
      this.#pausing.set(exchange, setTimeout(submit, pauseMs));
    }
  }

  gone(connection: Connection): void {
    this.#connections.delete(connection);
    this.#place(connection);
    if (this.#closed === null) this.#grow(this.#waiting.size);
  }

  /** A connection's room may be another: its policy is told. */
  #place(connection: Connection): void {
    if (connection instanceof H2Connection) this.#h2.update(connection);
    else if (connection instanceof H1Connection) this.#idleH1.update(connection);
  }

  /** Closes what idles too long, and what is dead. */
  tick(nowMs: number): void {
    for (const [dial, sinceMs] of this.#dials) {
      if (nowMs - sinceMs >= this.#limits.connectTimeoutMs) {
        dial.abort(`no connection within ${this.#limits.connectTimeoutMs} ms`);
      }
    }
    const idle: Connection[] = [];
    for (const connection of this.#connections) {
      connection.tick(nowMs);
      if (connection.active === 0 && this.#connections.has(connection)) idle.push(connection);
    }
    // The ones used last are kept.
    idle.sort((a, b) => b.idleSinceMs - a.idleSinceMs);
    for (const [rank, connection] of idle.entries()) {
      const limitMs = Math.min(this.#limits.idleTimeoutMs, connection.maxIdleMs);
      if (rank >= this.#limits.maxIdlePerHost || nowMs - connection.idleSinceMs >= limitMs) {
        connection.close(new BackendError("unavailable", "the connection was idle"));
      }
    }
  }

  /** Fails what waits and runs, closes everything and waits until it is closed. */
  async close(error: BackendError): Promise<void> {
    this.#closed = error;
    for (const dial of this.#dials.keys()) dial.abort("the pool is closed");
    for (const exchange of [...this.#waiting, ...this.#pausing.keys()]) {
      this.drop(exchange);
      exchange.fail(error);
    }
    for (const connection of [...this.#connections]) connection.close(error);
    await Promise.all(this.#tasks);
  }

  /** Opens connections until there is, or will be, room for so many exchanges. */
  #grow(wanted: number): void {
    let have = this.#dials.size * this.#expected;
    if (have < wanted) have += this.#idleH1.room(performance.now()) + this.#h2.room(wanted - have);
    for (; have < wanted && this.#dials.size < MAX_DIALS; have += this.#expected) {
      const abort = new AbortController();
      this.#dials.set(abort, performance.now());
      const task = this.#open(abort).finally(() => this.#tasks.delete(task));
      this.#tasks.add(task);
    }
  }

  async #open(abort: AbortController): Promise<void> {
    let connection: Connection;
    try {
      connection = await this.#connect(abort.signal);
    } catch (error) {
      this.#dials.delete(abort);
      this.#onFailedDial(error);
      return;
    }
    this.#dials.delete(abort);
    this.opened++;
    this.#connections.add(connection);
    if (this.#closed !== null) connection.close(this.#closed);
    this.changed(connection);
    this.#grow(this.#waiting.size);
    await connection.closed;
    // It may have died before it was added.
    this.gone(connection);
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    const protocols = this.#http2 ? ["h2", "http/1.1"] : ["http/1.1"];
    const { stream, protocol, proxyHead } = await dial(this.#target, protocols, signal);
    // Without TLS nobody says; with it, who says nothing speaks HTTP/1.1.
    const guessed = protocol === null && this.#http2 && !this.#target.secure;
    const connection = protocol === "h2" || guessed
      ? await this.#settle(stream, signal, guessed)
      : new H1Connection(stream, this, proxyHead);
    this.#expected = connection.maxStreams;
    return connection;
  }

  async #settle(stream: ByteStream, signal: AbortSignal, guessed: boolean): Promise<H2Connection> {
    const connection = new H2Connection(stream, this, this.#limits.pingIntervalMs);
    const abort = (): void => connection.close(new BackendError("unavailable", String(signal.reason)));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    try {
      await connection.ready;
      // Or it has said goodbye with its first words: the next one may do so, too.
      if (connection.room === 0) {
        connection.close(new BackendError("unavailable", "the server lets no stream run"));
        throw new BackendError("unavailable", "the server lets no stream run");
      }
      return connection;
    } catch (error) {
      await connection.closed;
      // So end servers of HTTP/1 that are made with hyper; but one that has spoken HTTP/2 has trouble of its own.
      if (guessed && this.opened === 0 && !connection.heard && !signal.aborted) {
        throw new NotHttp2Error("the server closed the connection without a word");
      }
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #onFailedDial(error: unknown): void {
    if (error instanceof NotHttp2Error) {
      // Agreed on by TLS, too: what ends that may pass the bytes on to somebody else.
      this.#http2 = false;
      this.#expected = 1;
    } else {
      this.failedDials++;
      const failure = error instanceof BackendError && error.message.includes(describeTarget(this.#target))
        ? error
        : new BackendError(
          error instanceof BackendError ? error.kind : "unavailable",
          `${describeTarget(this.#target)}: ${error instanceof Error ? error.message : String(error)}`,
          { cause: error },
        );
      // Those whom this connection was for; the dials still under way are for the others.
      let victims = Math.min(this.#expected, this.#waiting.size - this.#dials.size * this.#expected);
      for (const exchange of this.#waiting) {
        if (victims-- <= 0) break;
        this.#waiting.delete(exchange);
        failUnprocessed(exchange, failure);
      }
    }
    if (this.#closed === null) this.#grow(this.#waiting.size);
  }
}

function failUnprocessed(exchange: Exchange, error: BackendError): void {
  exchange.unprocessed = true;
  exchange.fail(error);
}

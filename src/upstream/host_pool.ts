/**
 * The connections to one host: who takes the next request, when to open another, when to close one.
 *
 * A connection is opened before the ones there are full, so that a server's stream limit makes nobody wait; the
 * first with room is always used first, so that the ones no longer needed idle and are closed.
 * @module
 */

import { BackendError } from "../errors.ts";
import type { Carrier, Connection, ConnectionOwner, Exchange } from "./exchange.ts";
import { H1Connection } from "./h1/connection.ts";
import { H2Connection, NotHttp2Error } from "./h2/connection.ts";
import type { ByteStream } from "./byte_stream.ts";
import { describeTarget, dial, type Target } from "./transport.ts";

/** RFC 9113, section 6.5.2: what a server should allow at least; assumed until it says. */
const ASSUMED_STREAMS = 100;
/** Connections that are opened at the same time. */
const MAX_DIALS = 128;
/** How often a server may send a request back unprocessed. */
const MAX_RETURNS = 3;

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
  readonly #free = new Set<Connection>();
  readonly #waiting = new Set<Exchange>();
  readonly #dials = new Map<AbortController, number>();
  readonly #tasks = new Set<Promise<void>>();
  /** Speak HTTP/2 without asking (h2c). */
  #priorKnowledge: boolean;
  /** How many streams the next connection will take, as far as is known. */
  #expected: number;
  #closed: BackendError | null = null;
  /** Connections opened since the start. */
  opened = 0;
  /** Dials that came to nothing. */
  failedDials = 0;

  /** @param http2 wanted: by ALPN over TLS, with prior knowledge else */
  constructor(target: Target, http2: boolean, limits: PoolLimits) {
    this.#target = target;
    this.#limits = limits;
    this.#priorKnowledge = http2 && (!target.secure || target.socketPath !== null);
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
    return this.#waiting.size;
  }

  /** Nothing is open or under way. */
  get unused(): boolean {
    return this.#connections.size + this.#dials.size + this.#waiting.size === 0;
  }

  /** Gives it to a connection, now or as soon as there is one. */
  submit(exchange: Exchange): void {
    if (this.#closed !== null) return exchange.fail(this.#closed);
    for (const connection of this.#free) {
      connection.start(exchange);
      // One ahead, so that the next ones do not wait for a handshake.
      return this.#grow(this.#expected > 1 ? 1 + Math.floor(this.#expected / 10) : 0);
    }
    exchange.carrier = this;
    this.#waiting.add(exchange);
    this.#grow(this.#waiting.size);
  }

  drop(exchange: Exchange): void {
    this.#waiting.delete(exchange);
  }

  resume(): void {}

  changed(connection: Connection): void {
    if (!this.#connections.has(connection)) return;
    for (const exchange of this.#waiting) {
      if (connection.room === 0) break;
      this.#waiting.delete(exchange);
      connection.start(exchange);
    }
    if (connection.room > 0) this.#free.add(connection);
    else this.#free.delete(connection);
  }

  returned(exchange: Exchange, why: BackendError): void {
    if (++exchange.returns > MAX_RETURNS) exchange.fail(why);
    else this.submit(exchange);
  }

  gone(connection: Connection): void {
    this.#connections.delete(connection);
    this.#free.delete(connection);
    if (this.#closed === null) this.#grow(this.#waiting.size);
  }

  /** Closes what idles too long, and what is dead. */
  tick(nowMs: number): void {
    for (const [dial, sinceMs] of this.#dials) {
      if (nowMs - sinceMs >= this.#limits.connectTimeoutMs) {
        dial.abort(`no connection within ${this.#limits.connectTimeoutMs} ms`);
      }
    }
    let idle = 0;
    for (const connection of this.#connections) {
      connection.tick(nowMs);
      if (connection.active > 0) continue;
      idle++;
      if (
        idle > this.#limits.maxIdlePerHost || nowMs - connection.idleSinceMs >= this.#limits.idleTimeoutMs
      ) {
        connection.close(new BackendError("unavailable", "the connection was idle"));
      }
    }
  }

  /** Fails what waits and runs, closes everything and waits until it is closed. */
  async close(error: BackendError): Promise<void> {
    this.#closed = error;
    for (const dial of this.#dials.keys()) dial.abort("the pool is closed");
    for (const exchange of [...this.#waiting]) {
      this.#waiting.delete(exchange);
      exchange.fail(error);
    }
    for (const connection of [...this.#connections]) connection.close(error);
    await Promise.all(this.#tasks);
  }

  /** Opens connections until there is, or will be, room for so many exchanges. */
  #grow(wanted: number): void {
    let have = this.#dials.size * this.#expected;
    for (const connection of this.#free) {
      if (have >= wanted) return;
      have += connection.room;
    }
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
    this.#connections.delete(connection);
    this.#free.delete(connection);
  }

  async #connect(signal: AbortSignal): Promise<Connection> {
    const { stream, protocol } = await dial(this.#target, signal);
    const connection = protocol === "h2" || (protocol === null && this.#priorKnowledge)
      ? await this.#settle(stream, signal)
      : new H1Connection(stream, this);
    this.#expected = connection.maxStreams;
    return connection;
  }

  async #settle(stream: ByteStream, signal: AbortSignal): Promise<H2Connection> {
    const connection = new H2Connection(stream, this, this.#limits.pingIntervalMs);
    const abort = (): void => connection.close(new BackendError("unavailable", String(signal.reason)));
    if (signal.aborted) abort();
    signal.addEventListener("abort", abort, { once: true });
    try {
      await connection.ready;
      if (connection.maxStreams === 0) {
        connection.close(new BackendError("unavailable", "the server lets no stream run"));
        throw new BackendError("unavailable", "the server lets no stream run");
      }
      return connection;
    } catch (error) {
      await connection.closed;
      throw error;
    } finally {
      signal.removeEventListener("abort", abort);
    }
  }

  #onFailedDial(error: unknown): void {
    if (error instanceof NotHttp2Error) {
      this.#priorKnowledge = false;
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
        exchange.fail(failure);
      }
    }
    if (this.#closed === null) this.#grow(this.#waiting.size);
  }
}

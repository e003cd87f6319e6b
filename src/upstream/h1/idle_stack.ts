/**
 * Which HTTP/1.1 connection carries the next exchange: the one used last, since it is the furthest from the server's
 * idle time-out, and since the ones below it, which nobody needs any more, then idle out.
 *
 * After an answer a connection rests for a moment first. Some servers close it right then, whatever they have said: one
 * of cpp-httplib's (llama.cpp) does as soon as others wait for its threads. A request that crossed that would be lost.
 * @module
 */

import type { Connection } from "../exchange.ts";

const REST_MS = 5;

/** A connection of HTTP/1.1, as far as this looks at it. */
export interface Resting extends Connection {
  /** True from the end of an answer until it is set to false here. */
  resting: boolean;
}

/** The connections without an exchange, the one used last on top. */
export class IdleStack {
  readonly #idle: Connection[] = [];
  /** The one that began first is the first. */
  readonly #resting = new Set<Resting>();
  readonly #rested: (connection: Connection) => void;
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** @param rested told of a connection that takes an exchange again */
  constructor(rested: (connection: Connection) => void) {
    this.#rested = rested;
  }

  /** How many can be used, now or after their rest. */
  room(nowMs: number): number {
    return this.#resting.size + this.#idle.filter((connection) => isUsable(connection, nowMs)).length;
  }

  /** A connection has become free, busy, or is no more. */
  update(connection: Resting): void {
    if (connection.resting) {
      this.#resting.add(connection);
      this.#timer ??= setTimeout(this.#wake, REST_MS);
    } else if (this.#resting.delete(connection) && this.#resting.size === 0 && this.#timer !== null) {
      clearTimeout(this.#timer);
      this.#timer = null;
    }
    const at = this.#idle.lastIndexOf(connection);
    if (connection.room > 0) {
      if (at < 0) this.#idle.push(connection);
    } else if (at >= 0) this.#idle.splice(at, 1);
  }

  /** @returns whose turn it is, or null: none is there, or the server is about to close them all */
  next(nowMs: number): Connection | null {
    for (let at = this.#idle.length - 1; at >= 0; at--) {
      const connection = this.#idle[at];
      if (connection !== undefined && isUsable(connection, nowMs)) return connection;
    }
    return null;
  }

  readonly #wake = (): void => {
    this.#timer = null;
    const nowMs = performance.now();
    for (const connection of this.#resting) {
      const leftMs = connection.idleSinceMs + REST_MS - nowMs;
      if (leftMs > 0) {
        this.#timer = setTimeout(this.#wake, leftMs);
        return;
      }
      this.#resting.delete(connection);
      connection.resting = false;
      this.#rested(connection);
    }
  };
}

/** Whether the server is not about to close it. */
const isUsable = (connection: Connection, nowMs: number): boolean =>
  nowMs - connection.idleSinceMs < connection.maxIdleMs;

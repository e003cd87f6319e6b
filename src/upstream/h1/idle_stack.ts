/**
 * Which HTTP/1.1 connection carries the next exchange: the one used last, since it is the furthest from the server's
 * idle time-out, and since the ones below it, which nobody needs any more, then idle out.
 * @module
 */

import type { Connection } from "../exchange.ts";

/** The connections without an exchange, the one used last on top. */
export class IdleStack {
  readonly #idle: Connection[] = [];

  /** How many there are. */
  get room(): number {
    return this.#idle.length;
  }

  /** A connection has become free, busy, or is no more. */
  update(connection: Connection): void {
    const at = this.#idle.lastIndexOf(connection);
    if (connection.room > 0) {
      if (at < 0) this.#idle.push(connection);
    } else if (at >= 0) this.#idle.splice(at, 1);
  }

  /** @returns whose turn it is, or null: none is there, or the server is about to close them all */
  next(nowMs: number): Connection | null {
    for (let at = this.#idle.length - 1; at >= 0; at--) {
      const connection = this.#idle[at];
      if (connection !== undefined && nowMs - connection.idleSinceMs < connection.maxIdleMs) {
        return connection;
      }
    }
    return null;
  }
}

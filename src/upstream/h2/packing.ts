/**
 * Which HTTP/2 connection carries the next exchange: the first with room, so that the later ones, which are no longer
 * needed, empty and idle out. One is kept ahead, so that a server's stream limit makes nobody wait.
 * @module
 */

import type { H2Connection } from "./connection.ts";

/** The connections to one host, in the order in which they were opened. */
export class Packing {
  readonly #connections: H2Connection[] = [];

  add(connection: H2Connection): void {
    this.#connections.push(connection);
  }

  remove(connection: H2Connection): void {
    const at = this.#connections.indexOf(connection);
    if (at >= 0) this.#connections.splice(at, 1);
  }

  /** @returns whose turn it is, or null: none has room that can be trusted; those in doubt are asked */
  next(nowMs: number): H2Connection | null {
    for (const connection of this.#connections) {
      if (connection.room > 0 && connection.trusted(nowMs)) return connection;
    }
    return null;
  }

  /** @returns the room of all, with what those in doubt will have; counted no further than `enough` */
  room(enough: number): number {
    let room = 0;
    for (const connection of this.#connections) {
      if (room >= enough) break;
      room += connection.room + connection.expectedRoom;
    }
    return room;
  }

  /** @returns the room to have before anybody asks for it, once one more stream has begun */
  static ahead(maxStreams: number): number {
    return 1 + Math.floor(maxStreams / 10);
  }
}

/**
 * Which HTTP/2 connection carries the next exchange: the first with room, so that the later ones, which are no longer
 * needed, empty and idle out. One is kept ahead, so that a server's stream limit makes nobody wait.
 * @module
 */

import type { H2Connection } from "./connection.ts";

/** The connections to one host that have room, or will once they have answered, in the order in which they were opened. */
export class Packing {
  readonly #open: H2Connection[] = [];
  /** By which they are in order. */
  readonly #numbers = new WeakMap<H2Connection, number>();
  #opened = 0;

  /** A connection is new, or its room is another; one that is no more has none. */
  update(connection: H2Connection): void {
    let number = this.#numbers.get(connection);
    if (number === undefined) this.#numbers.set(connection, number = this.#opened++);
    const at = this.#place(number);
    const known = this.#open[at] === connection;
    const wanted = connection.room + connection.expectedRoom > 0;
    if (wanted !== known) this.#open.splice(at, known ? 1 : 0, ...(wanted ? [connection] : []));
  }

  /** @returns whose turn it is, or null: none has room that can be trusted; those in doubt are asked */
  next(nowMs: number): H2Connection | null {
    for (const connection of this.#open) {
      if (connection.room > 0 && connection.trusted(nowMs)) return connection;
    }
    return null;
  }

  /** @returns the room of all, with what those in doubt will have; counted no further than `enough` */
  room(enough: number): number {
    let room = 0;
    for (const connection of this.#open) {
      if (room >= enough) break;
      room += connection.room + connection.expectedRoom;
    }
    return room;
  }

  /** @returns the room to have before anybody asks for it, once one more stream has begun */
  static ahead(maxStreams: number): number {
    return 1 + Math.floor(maxStreams / 10);
  }

  /** Where the connection of that number stands, or would. */
  #place(number: number): number {
    let [from, to] = [0, this.#open.length];
    while (from < to) {
      const middle = (from + to) >> 1;
      if ((this.#numbers.get(this.#open[middle] as H2Connection) as number) < number) from = middle + 1;
      else to = middle;
    }
    return from;
  }
}

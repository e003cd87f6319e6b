/**
 * The streams of a connection: which there are, which were there, and which never were (RFC 9113, section 5.1).
 * @module
 */

import { forgetOldest } from "../forget_oldest.ts";
import type { Exchange } from "../exchange.ts";
import { type AnswerSoFar, UNKNOWN } from "./answer_rules.ts";
import * as h2 from "./frames.ts";
import type { SendStream } from "./sender.ts";

/** Streams whose end the server is remembered to have told. */
const MAX_ENDED = 128;

/** An exchange on its way over a connection. */
export interface Stream extends SendStream, AnswerSoFar {
  readonly exchange: Exchange;
}

/** See the module. */
export class StreamTable {
  readonly #streams = new Map<number, Stream>();
  /** The last ones that the server has ended: nothing but late window updates may come on them. */
  readonly #ended = new Set<number>();
  #nextId = 1;

  get size(): number {
    return this.#streams.size;
  }

  /** No id is left for another one. */
  get spent(): boolean {
    return this.#nextId > h2.MAX_WINDOW_BYTES;
  }

  /** All of them; ending one while they are gone through is allowed. */
  all(): Stream[] {
    return [...this.#streams.values()];
  }

  /** Gives an exchange its stream. @param sendBytes the window that it begins with */
  open(exchange: Exchange, body: Uint8Array<ArrayBuffer>, sendBytes: number): Stream {
    const stream: Stream = {
      id: this.#nextId,
      exchange,
      unsent: body.length === 0 ? null : body,
      sendBytes,
      heldBytes: 0,
      leftBytes: UNKNOWN,
      interimHeads: 0,
    };
    this.#nextId += 2;
    this.#streams.set(stream.id, stream);
    exchange.streamId = stream.id;
    return stream;
  }

  /** The stream of an exchange, if it is still there. */
  of(exchange: Exchange): Stream | undefined {
    const stream = this.#streams.get(exchange.streamId);
    return stream?.exchange === exchange ? stream : undefined;
  }

  /** Whether it has not ended. */
  has(stream: Stream): boolean {
    return this.#streams.get(stream.id) === stream;
  }

  /**
   * The stream of a frame: none for a late one.
   *
   * @throws ConnectionViolation such a stream never was
   */
  known(id: number): Stream | undefined {
    const stream = this.#streams.get(id);
    if (stream === undefined && (id % 2 === 0 || id >= this.#nextId)) {
      throw new h2.ConnectionViolation(
        h2.PROTOCOL_ERROR,
        `a frame on stream ${id}, which was never opened`,
      );
    }
    return stream;
  }

  delete(stream: Stream): void {
    this.#streams.delete(stream.id);
  }

  /** Lets go of all. @returns them */
  takeAll(): Stream[] {
    const streams = this.all();
    this.#streams.clear();
    return streams;
  }

  /** The server has ended it: from now on most frames on it are wrong. */
  endedByServer({ id }: Stream): void {
    this.#ended.add(id);
    forgetOldest(this.#ended, MAX_ENDED);
  }

  /** Whether the server has ended it, the first time that this is asked. */
  takeEnded(id: number): boolean {
    return this.#ended.delete(id);
  }
}

/**
 * A format whose events have ids, so that an `EventSource` which loses its connection asks for what follows the last
 * one that it has (WHATWG HTML, 9.2.6). Pure.
 * @module
 */
import type { StreamFailure } from "../../errors.ts";
import type { AnswerFormat, FurtherEvent } from "../stream_event.ts";
import { ContentFormat } from "./content.ts";

/** How long a browser waits before it connects anew, in milliseconds. */
export const RETRY_MS = 1000;

const EVENT_END = "\n\n";

/** Numbers the events of another format from 1 up. */
export class NumberedFormat implements AnswerFormat {
  readonly headers: string;
  readonly #format: AnswerFormat;
  #count: number;

  /**
   * @param format null: as `content` with nothing besides
   * @param count how many there were before
   */
  constructor(format: AnswerFormat | null, count = 0) {
    this.#count = count;
    this.#format = format ?? new ContentFormat([]);
    this.headers = this.#format.headers;
  }

  text(text: string): string {
    return this.#numbered(this.#format.text(text));
  }

  further(event: FurtherEvent): string {
    return this.#numbered(this.#format.further(event));
  }

  end(): string {
    return this.#numbered(this.#format.end());
  }

  failure(failure: StreamFailure, text: string): string {
    return this.#numbered(this.#format.failure(failure, text));
  }

  #numbered(events: string): string {
    if (events === "") return "";
    const retry = this.#count === 0 ? `retry: ${RETRY_MS}\n` : "";
    // Each has its own, so that a connection that breaks between two of them leaves no doubt.
    if (events.indexOf(EVENT_END) === events.length - EVENT_END.length) {
      return `${retry}id: ${++this.#count}\n${events}`;
    }
    const each = events.split(EVENT_END).slice(0, -1);
    return retry + each.map((event) => `id: ${++this.#count}\n${event}${EVENT_END}`).join("");
  }
}

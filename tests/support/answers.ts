/**
 * What tests of a backend ask, and what they hear.
 * @module
 */
import type { Backend, BackendRequest } from "../../src/backend/backend.ts";
import type { ClientEvent } from "../../src/protocol/stream_event.ts";

/** A request with that prompt. */
export function requestFor(content: string): BackendRequest {
  return {
    requestId: "r",
    model: "m",
    format: "content",
    include: [],
    messages: [{ role: "system", content: "unseen" }, { role: "user", content }],
  };
}

/** All that a backend gives, as it comes. */
export class Heard {
  /** By the recipient's number. */
  readonly #events = new Map<number, ClientEvent[]>();
  /** Resolves when the backend's stream has closed. */
  readonly ended: Promise<void>;
  #news = Promise.withResolvers<void>();

  constructor(backend: Pick<Backend, "events">) {
    this.ended = backend.events.pipeTo(
      new WritableStream({
        write: ({ recipients, events }) => {
          for (const [index, event] of events.entries()) this.of(recipients[index]?.id as number).push(event);
          this.#news.resolve();
          this.#news = Promise.withResolvers();
        },
      }),
    );
  }

  /** The events of one recipient so far. */
  of(id: number): ClientEvent[] {
    const events = this.#events.get(id) ?? [];
    this.#events.set(id, events);
    return events;
  }

  /** Those that are text. */
  texts(id: number): string[] {
    return this.of(id).flatMap((event) => event.kind === "text" ? [event.text] : []);
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#news.promise;
  }
}

/** Lets everything go on that waits for nothing but promises. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

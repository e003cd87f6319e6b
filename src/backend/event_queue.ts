/**
 * The one stream of a backend: what a turn of the event loop brings for all answers becomes one chunk.
 * @module
 */
import type { ClientEvent, EventBatch, Recipient } from "../protocol/stream_event.ts";

/** Size at which a chunk is full. */
const CHUNK_UNITS = 256 * 1024;

/** An event's size as it counts for bounds: the UTF-16 units of its text, and about what it takes on the wire beside it. */
export function sizeUnits(event: ClientEvent): number {
  if (event.kind === "text" || event.kind === "reasoning") return 32 + event.text.length;
  if (event.kind === "chunk") return 32 + event.data.length;
  return 32 + (event.kind === "tool_call" ? event.arguments.length : 0);
}

/**
 * Events go in by {@linkcode EventQueue.push}; {@linkcode EventQueue.events} gives them chunk by chunk, in order. Where
 * nobody reads that any more, since what carries it to the clients has failed, what goes in is dropped.
 */
export class EventQueue {
  readonly events: ReadableStream<EventBatch>;
  #controller: ReadableStreamDefaultController<EventBatch> | undefined;
  #recipients: Recipient[] = [];
  #events: ClientEvent[] = [];
  #units = 0;

  constructor() {
    this.events = new ReadableStream({
      start: (controller) => void (this.#controller = controller),
      cancel: () => void (this.#controller = undefined),
    });
  }

  /** Adds an event. A chunk goes out with the microtasks of the turn in which its first event came. */
  push(recipient: Recipient, event: ClientEvent): void {
    if (this.#events.length === 0) queueMicrotask(this.#flush);
    this.#recipients.push(recipient);
    this.#events.push(event);
    this.#units += sizeUnits(event);
    if (this.#units >= CHUNK_UNITS) this.#flush();
  }

  /** Gives out what is left and ends the stream. Nothing may be pushed after it. */
  close(): void {
    this.#flush();
    this.#controller?.close();
  }

  readonly #flush = (): void => {
    if (this.#events.length === 0) return;
    this.#controller?.enqueue({ recipients: this.#recipients, events: this.#events });
    this.#recipients = [];
    this.#events = [];
    this.#units = 0;
  };
}

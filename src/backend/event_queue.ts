/**
 * The one stream of a backend: what a turn of the event loop brings for all answers becomes one chunk.
 * @module
 */
import type { ClientEvent, EventBatch, Recipient } from "../protocol/stream_event.ts";

/** UTF-16 units at which a chunk is full, so that its size is bounded: those of the text, and so many for each event. */
const CHUNK_UNITS = 256 * 1024;
const EVENT_UNITS = 32;

/** Events go in by {@linkcode EventQueue.push}; {@linkcode EventQueue.events} gives them chunk by chunk, in order. */
export class EventQueue {
  readonly events: ReadableStream<EventBatch>;
  #controller!: ReadableStreamDefaultController<EventBatch>;
  #recipients: Recipient[] = [];
  #events: ClientEvent[] = [];
  #units = 0;

  constructor() {
    this.events = new ReadableStream({ start: (controller) => void (this.#controller = controller) });
  }

  /** Adds an event. A chunk goes out with the microtasks of the turn in which its first event came. */
  push(recipient: Recipient, event: ClientEvent): void {
    if (this.#events.length === 0) queueMicrotask(this.#flush);
    this.#recipients.push(recipient);
    this.#events.push(event);
    this.#units += EVENT_UNITS + (event.kind === "text" ? event.text.length : 0);
    if (this.#units >= CHUNK_UNITS) this.#flush();
  }

  /** Gives out what is left and ends the stream. Nothing may be pushed after it. */
  close(): void {
    this.#flush();
    this.#controller.close();
  }

  readonly #flush = (): void => {
    if (this.#events.length === 0) return;
    this.#controller.enqueue({ recipients: this.#recipients, events: this.#events });
    this.#recipients = [];
    this.#events = [];
    this.#units = 0;
  };
}

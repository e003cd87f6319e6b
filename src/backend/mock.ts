/**
 * The mock backend: an answer a word at a time, for tries, tests, and for measuring what the daemon itself costs.
 * @module
 */
import type { Backend, BackendRequest, StreamEvent } from "./backend.ts";

/** What makes the pauses: many on one timer. */
export interface Pauses {
  /** Calls `owner.deadlineReached()` in so many milliseconds, unless cancelled. */
  after(delayMs: number, owner: { deadlineReached(): void }): { cancel(): void };
}

/** What the mock backend is made of. */
export interface MockOptions {
  /** Milliseconds from one piece to the next; the first comes at once. */
  readonly tokenDelayMs: number;
  readonly pauses: Pauses;
}

/** How many pieces an answer has. */
export const MOCK_PIECES = 18;
const QUOTED_UNITS = 50;

/** A backend that answers {@linkcode mockPieces} at a steady pace. */
export function mockBackend({ tokenDelayMs, pauses }: MockOptions): Backend {
  return {
    name: "mock",
    stream(request: BackendRequest, signal: AbortSignal): ReadableStream<StreamEvent> {
      const source = new MockSource(mockPieces(request), signal, tokenDelayMs, pauses);
      return new ReadableStream(source, PULL_ONLY);
    },
    close: () => Promise.resolve(),
  };
}

const PULL_ONLY = { highWaterMark: 0 };

/** What a request is answered with: {@linkcode MOCK_PIECES} pieces of text. */
export function mockPieces(request: BackendRequest): readonly string[] {
  const quoted = [...lastText(request)].slice(0, QUOTED_UNITS).join("");
  return [
    "Hello! ",
    `You said: "${quoted}". `,
    ...REST,
  ];
}

// The same for all, so that ten thousand streams hold it once.
const REST = [
  "This ",
  "answer ",
  "was ",
  "streamed ",
  "by ",
  "the ",
  "mock ",
  "backend ",
  "of ",
  "streaming-daemon-ts, ",
  "over ",
  "the ",
  "socket ",
  "that ",
  "was ",
  "handed over. [DONE-CONTENT]",
];

function lastText({ messages }: BackendRequest): string {
  const content = messages[messages.length - 1]?.content;
  return typeof content === "string" ? content : "";
}

class MockSource implements UnderlyingDefaultSource<StreamEvent> {
  readonly #pieces: readonly string[];
  readonly #signal: AbortSignal;
  readonly #tokenDelayMs: number;
  readonly #pauses: Pauses;
  #controller: ReadableStreamDefaultController<StreamEvent> | undefined;
  #pause: { cancel(): void } | undefined;
  #next = 0;

  constructor(pieces: readonly string[], signal: AbortSignal, tokenDelayMs: number, pauses: Pauses) {
    this.#pieces = pieces;
    this.#signal = signal;
    this.#tokenDelayMs = tokenDelayMs;
    this.#pauses = pauses;
  }

  pull(controller: ReadableStreamDefaultController<StreamEvent>): void {
    this.#controller = controller;
    if (this.#next === 0 || this.#tokenDelayMs === 0) this.deadlineReached();
    else this.#pause = this.#pauses.after(this.#tokenDelayMs, this);
  }

  deadlineReached(): void {
    const controller = this.#controller;
    if (controller === undefined) return;
    if (this.#signal.aborted) return controller.error(this.#signal.reason);
    controller.enqueue({ kind: "text", text: this.#pieces[this.#next++] as string });
    if (this.#next === this.#pieces.length) controller.close();
  }

  cancel(): void {
    this.#pause?.cancel();
    this.#controller = undefined;
  }
}

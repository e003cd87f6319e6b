/**
 * The mock backend: an answer a word at a time, for tries, tests, and for measuring what the daemon itself costs.
 * @module
 */
import type { Backend, BackendRequest, StreamEvent } from "./backend.ts";

/** A pause between two pieces. */
export interface Pause {
  /** Begins it anew, so that pauses follow each other at a steady pace. */
  repeat(): void;
  cancel(): void;
}

/** What makes the pauses: many on one timer. */
export interface Pauses {
  /** Calls `owner.deadlineReached()` in so many milliseconds, unless cancelled. */
  after(delayMs: number, owner: { deadlineReached(): void }): Pause;
}

/** What the mock backend is made of. */
export interface MockOptions {
  /** Milliseconds from one piece to the next; the first comes at once. */
  readonly tokenDelayMs: number;
  readonly pauses: Pauses;
}

const QUOTED_CHARACTERS = 50;

/** A backend that answers {@linkcode mockPieces} at a steady pace. */
export function mockBackend(options: MockOptions): Backend {
  return {
    name: "mock",
    stream(request: BackendRequest, signal: AbortSignal): ReadableStream<StreamEvent> {
      return new ReadableStream(new MockSource(request, signal, options), PULL_ONLY);
    },
    close: () => Promise.resolve(),
  };
}

const PULL_ONLY = { highWaterMark: 0 };

/** What a request is answered with: {@linkcode MOCK_PIECES} pieces of text. */
export function mockPieces(request: BackendRequest): readonly string[] {
  return Array.from({ length: MOCK_PIECES }, (_, index) => pieceOf(request, index).text);
}

// Most pieces are the same for all, so that ten thousand streams share them.
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
].map((text) => ({ kind: "text", text } as const));
const GREETING = { kind: "text", text: "Hello! " } as const;

/** How many pieces an answer has. */
export const MOCK_PIECES = 2 + REST.length;

function pieceOf(request: BackendRequest, index: number): { readonly kind: "text"; readonly text: string } {
  if (index === 0) return GREETING;
  if (index > 1) return REST[index - 2] as typeof GREETING;
  const last = request.messages[request.messages.length - 1]?.content;
  // A character has at most two units here, so this many hold enough of them.
  const beginning = typeof last === "string" ? last.slice(0, QUOTED_CHARACTERS * 2) : "";
  return { kind: "text", text: `You said: "${[...beginning].slice(0, QUOTED_CHARACTERS).join("")}". ` };
}

class MockSource implements UnderlyingDefaultSource<StreamEvent> {
  readonly #request: BackendRequest;
  readonly #signal: AbortSignal;
  readonly #options: MockOptions;
  #controller: ReadableStreamDefaultController<StreamEvent> | undefined;
  #pause: Pause | undefined;
  #next = 0;

  constructor(request: BackendRequest, signal: AbortSignal, options: MockOptions) {
    this.#request = request;
    this.#signal = signal;
    this.#options = options;
  }

  pull(controller: ReadableStreamDefaultController<StreamEvent>): void {
    this.#controller = controller;
    const { tokenDelayMs, pauses } = this.#options;
    if (this.#next === 0 || tokenDelayMs === 0) this.deadlineReached();
    else if (this.#pause === undefined) this.#pause = pauses.after(tokenDelayMs, this);
    else this.#pause.repeat();
  }

  deadlineReached(): void {
    const controller = this.#controller;
    if (controller === undefined) return;
    if (this.#signal.aborted) return controller.error(this.#signal.reason);
    controller.enqueue(pieceOf(this.#request, this.#next++));
    if (this.#next === MOCK_PIECES) controller.close();
  }

  cancel(): void {
    this.#pause?.cancel();
    this.#controller = undefined;
  }
}

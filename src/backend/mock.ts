/**
 * The mock backend: an answer a word at a time, for tries, tests, and for measuring what the daemon itself costs.
 * @module
 */
import { Timer, type TimerWheel } from "../timing/timer_wheel.ts";
import type { Answer, Backend, BackendRequest, Recipient, StreamEvent } from "./backend.ts";
import { EventQueue } from "./event_queue.ts";
import { LiveAnswers } from "./live_answers.ts";

/** What the mock backend is made of. */
export interface MockOptions {
  /** Milliseconds from one piece to the next; the first comes at once. */
  readonly tokenDelayMs: number;
  /** Makes the pauses. */
  readonly wheel: TimerWheel;
}

const QUOTED_CHARACTERS = 50;

const text = (text: string): StreamEvent => ({ kind: "text", text });

// Most pieces are the same for all, so that ten thousand streams share them.
const GREETING = text("Hello! ");
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
].map(text);
const END: StreamEvent = { kind: "end" };

/** How many pieces an answer has. */
export const MOCK_PIECES = 2 + REST.length;

/** A backend that answers at a steady pace: a greeting, the prompt's beginning, and what served it. */
export class MockBackend implements Backend {
  readonly name = "mock";
  /** For its answers. */
  readonly queue = new EventQueue();
  /** For its answers. */
  readonly options: MockOptions;
  /** For its answers. */
  readonly live = new LiveAnswers();

  constructor(options: MockOptions) {
    this.options = options;
  }

  get events(): Backend["events"] {
    return this.queue.events;
  }

  ask(request: BackendRequest, recipient: Recipient): Answer {
    this.live.began();
    const answer = new MockAnswer(this, recipient, request);
    answer.timedOut();
    return answer;
  }

  async close(): Promise<void> {
    await this.live.none();
    this.queue.close();
  }
}

class MockAnswer extends Timer implements Answer {
  readonly #backend: MockBackend;
  readonly #recipient: Recipient;
  // Let go as soon as it was quoted.
  #request: BackendRequest | undefined;
  /** Number of the next piece; {@linkcode MOCK_PIECES} once it has ended. */
  #next = 0;
  #paused = false;
  /** The next piece's time came while it was paused. */
  #overdue = false;

  constructor(backend: MockBackend, recipient: Recipient, request: BackendRequest) {
    super();
    this.#backend = backend;
    this.#recipient = recipient;
    this.#request = request;
  }

  /** The next piece's time has come. */
  timedOut(): void {
    this.#overdue = this.#paused;
    const { queue, options } = this.#backend;
    while (!this.#paused && this.#next < MOCK_PIECES) {
      queue.push(this.#recipient, this.#piece(this.#next++));
      if (this.#next === MOCK_PIECES) {
        queue.push(this.#recipient, END);
        this.#backend.live.ended();
      } else if (options.tokenDelayMs > 0) {
        if (this.#next === 1) options.wheel.set(this, options.tokenDelayMs);
        else options.wheel.repeat(this, options.tokenDelayMs);
        return;
      }
    }
  }

  #piece(index: number): StreamEvent {
    if (index === 0) return GREETING;
    if (index > 1) return REST[index - 2] as StreamEvent;
    const quoted = quote(this.#request);
    this.#request = undefined;
    return text(`You said: "${quoted}". `);
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    if (this.#overdue) this.timedOut();
  }

  cancel(): void {
    if (this.#next === MOCK_PIECES) return;
    this.#next = MOCK_PIECES;
    this.#backend.options.wheel.cancel(this);
    this.#backend.live.ended();
  }
}

function quote(request: BackendRequest | undefined): string {
  const last = request?.messages[request.messages.length - 1]?.content;
  if (typeof last !== "string") return "";
  // A character has at most two units here, so this many hold enough of them.
  return [...last.slice(0, QUOTED_CHARACTERS * 2)].slice(0, QUOTED_CHARACTERS).join("");
}

/**
 * `try`: plays Apache against a running daemon and shows the answer as it streams.
 * @module
 */
import { createParser } from "eventsource-parser";
import { handOff, socketPair } from "../native/sender.ts";
import type { SocketKind } from "../native/acceptor.ts";

/** What to try. */
export interface TryOptions {
  readonly socketPath: string;
  readonly kind: SocketKind;
  /** The handoff's data; empty: the daemon's defaults. */
  readonly data: Readonly<Record<string, unknown>>;
  /** How long the whole answer may take. */
  readonly timeoutMs: number;
  /** Where the answer's text goes. */
  answer(text: string): void;
  /** Where times, counts and failures go, a line each. */
  tell(line: string): void;
}

/**
 * Hands one end of a socketpair to the daemon and reads the answer from the other.
 *
 * @returns whether a whole answer came, `[DONE]` included
 * @throws {ShimError} if the daemon cannot be reached, or nothing more comes within the time-out
 */
export async function tryDaemon(options: TryOptions): Promise<boolean> {
  const { socketPath, kind, data, timeoutMs, tell } = options;
  const [near, far] = socketPair();
  using client = near;
  const startedAt = performance.now();
  const sinceStartMs = () => performance.now() - startedAt;
  try {
    const text = Object.keys(data).length === 0 ? "" : JSON.stringify(data);
    handOff(socketPath, kind, new TextEncoder().encode(text), far);
  } finally {
    far.close();
  }
  const answer = new Answer(options);
  let firstByteMs: number | undefined;
  let bytes = 0;
  while (true) {
    const chunk = await client.read(Math.max(1, Math.ceil(timeoutMs - sinceStartMs())));
    if (chunk === undefined) break;
    firstByteMs ??= sinceStartMs();
    bytes += chunk.length;
    answer.feed(chunk);
  }
  if (firstByteMs === undefined) {
    tell("The daemon closed the connection without a byte; its log says why");
    return false;
  }
  answer.end();
  const seconds = sinceStartMs() / 1000;
  tell(
    `${answer.statusLine}; first byte after ${firstByteMs.toFixed(1)} ms, ${answer.events} events and ` +
      `${bytes} bytes in ${seconds.toFixed(2)} s (${(answer.events / seconds).toFixed(1)} events/s)`,
  );
  return answer.complete;
}

/** An HTTP response with SSE as its body, as it arrives. */
class Answer {
  statusLine = "";
  events = 0;
  complete = false;
  readonly #options: TryOptions;
  readonly #decoder = new TextDecoder();
  readonly #parser = createParser({ onEvent: ({ data }) => this.#event(data) });
  #head: string | undefined = "";
  #isStream = false;

  constructor(options: TryOptions) {
    this.#options = options;
  }

  feed(chunk: Uint8Array): void {
    let text = this.#decoder.decode(chunk, { stream: true });
    if (this.#head !== undefined) {
      this.#head += text;
      const end = this.#head.indexOf("\r\n\r\n");
      if (end < 0) return;
      this.statusLine = this.#head.slice(0, this.#head.indexOf("\r\n"));
      this.#isStream = /^content-type: *text\/event-stream/im.test(this.#head.slice(0, end));
      text = this.#head.slice(end + 4);
      this.#head = undefined;
    }
    if (this.#isStream) this.#parser.feed(text);
    else this.#options.answer(text);
  }

  end(): void {
    if (this.#isStream) {
      this.#options.answer("\n");
      if (!this.complete) this.#options.tell("The stream ended without [DONE]");
    }
  }

  #event(data: string): void {
    this.events++;
    if (data === "[DONE]") {
      this.complete = true;
      return;
    }
    const { text, failure } = readEvent(data);
    if (typeof text === "string") this.#options.answer(text);
    if (failure !== undefined) this.#options.tell(`The daemon reports: ${failure}`);
  }
}

/** What an event has for people, in any of the formats; `openai` passes on what the provider sent, be it `null`. */
function readEvent(data: string): { readonly text: unknown; readonly failure: unknown } {
  const { content, choices, type, delta, error, errorText } = JSON.parse(data) ?? {};
  return {
    text: content ?? choices?.[0]?.delta?.content ?? (type === "text-delta" ? delta : undefined),
    failure: typeof error === "string" ? error : error?.message ?? errorText,
  };
}

/**
 * Makes a backend of a function that gives a stream for each request.
 * @module
 */
import { asBackendError } from "../errors.ts";
import type { Answer, Backend, BackendRequest, Recipient, StreamEvent, UpstreamStats } from "./backend.ts";
import { EventQueue, sizeUnits } from "./event_queue.ts";
import { LiveAnswers } from "./live_answers.ts";

/** What a simple backend is written as. */
export interface StreamSource {
  readonly name: string;
  /**
   * Gives the answer as it comes: a high-water mark of 0 reaches the provider with the client's pace. Closing the stream
   * stands for `end`, an error for `error` (of its `kind`, if that is one, else `other`). It may throw the same.
   *
   * @param signal aborts when nobody wants the answer any more; the stream is cancelled as well
   */
  stream(
    request: BackendRequest,
    signal: AbortSignal,
  ): ReadableStream<StreamEvent> | Promise<ReadableStream<StreamEvent>>;
  /**
   * Looks at what the streams give, where that may be anything. Returns a function for one answer: from what was given
   * to the event, or `undefined` for none. It may throw as `stream` may.
   */
  vet?(request: BackendRequest): Vet;
  stats?(): UpstreamStats;
  /** Releases what its requests share. Called when the last answer has ended. */
  close(): Promise<void>;
}

type Vet = (given: StreamEvent) => StreamEvent | undefined;

/** Size of what one answer may give in a turn of the event loop, so that others have theirs. */
const TURN_UNITS = 16 * 1024;
/** What is looked at for nobody takes its time, too. */
const DROPPED_UNITS = 32;

/** The backend around a {@linkcode StreamSource}. */
export function fromStreams(source: StreamSource): Backend {
  return new StreamBackend(source);
}

class StreamBackend implements Backend {
  readonly name: string;
  readonly #source: StreamSource;
  readonly #queue = new EventQueue();
  readonly #live = new LiveAnswers();

  constructor(source: StreamSource) {
    this.name = source.name;
    this.#source = source;
  }

  get events(): Backend["events"] {
    return this.#queue.events;
  }

  ask(request: BackendRequest, recipient: Recipient): Answer {
    this.#live.began();
    const answer = new StreamAnswer(this.#queue, recipient);
    void answer.run(this.#source, request).finally(() => this.#live.ended());
    return answer;
  }

  stats(): UpstreamStats | undefined {
    return this.#source.stats?.();
  }

  async close(): Promise<void> {
    await this.#live.none();
    await this.#source.close();
    this.#queue.close();
  }
}

class StreamAnswer implements Answer {
  readonly #queue: EventQueue;
  readonly #recipient: Recipient;
  readonly #abort = new AbortController();
  #reader: ReadableStreamDefaultReader<StreamEvent> | undefined;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(queue: EventQueue, recipient: Recipient) {
    this.#queue = queue;
    this.#recipient = recipient;
  }

  /** Passes events on until the end. Never rejects. */
  run(source: StreamSource, request: BackendRequest): Promise<void> {
    let stream: ReturnType<StreamSource["stream"]>;
    let vet: Vet | undefined;
    try {
      stream = source.stream(request, this.#abort.signal);
      vet = source.vet?.(request);
    } catch (error) {
      this.#fail(error);
      return Promise.resolve();
    }
    // In a function of its own, whose frame does not hold the request for as long as the answer lasts.
    return this.#pass(stream, vet);
  }

  async #pass(given: ReturnType<StreamSource["stream"]>, vet: Vet | undefined): Promise<void> {
    try {
      const stream = given instanceof ReadableStream ? given : await this.#opened(given);
      if (stream === undefined) return;
      const reader = this.#reader = stream.getReader();
      let units = 0;
      while (true) {
        const { done, value } = await reader.read();
        await this.#room?.promise;
        if (this.#abort.signal.aborted) return;
        if (done) return this.#queue.push(this.#recipient, { kind: "end" });
        const event = vet === undefined ? value : vet(value);
        if (event !== undefined) {
          this.#queue.push(this.#recipient, event);
          if (event.kind === "end" || event.kind === "error") return this.cancel();
        }
        units += event === undefined ? DROPPED_UNITS : sizeUnits(event);
        if (units >= TURN_UNITS) {
          // Not setImmediate, which would leave Deno's sockets every 61st turn only.
          await new Promise((resolve) => setTimeout(resolve, 0));
          units = 0;
        }
      }
    } catch (error) {
      this.#fail(error);
      this.cancel();
    }
  }

  /** The stream; none where nobody wants it any more, however long it still takes. */
  async #opened(
    given: Promise<ReadableStream<StreamEvent>>,
  ): Promise<ReadableStream<StreamEvent> | undefined> {
    const { signal } = this.#abort;
    const left = Promise.withResolvers<void>();
    signal.addEventListener("abort", () => left.resolve());
    const stream = await Promise.race([given, left.promise]);
    if (!signal.aborted) return stream as ReadableStream<StreamEvent>;
    given.then((late) => late.cancel(signal.reason)).catch(() => {}); // changes nothing for anybody
    return undefined;
  }

  #fail(error: unknown): void {
    if (this.#abort.signal.aborted) return; // what cancelling it brought about
    this.#queue.push(this.#recipient, { kind: "error", error: asBackendError(error) });
  }

  pause(): void {
    this.#room ??= Promise.withResolvers();
  }

  resume(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  cancel(): void {
    const reason = new DOMException("Nobody wants the answer any more", "AbortError");
    this.#abort.abort(reason);
    this.resume();
    // What fails while it is cancelled changes nothing for anybody.
    this.#reader?.cancel(reason).catch(() => {});
  }
}

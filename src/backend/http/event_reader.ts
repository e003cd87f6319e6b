/**
 * What the readers of all providers' streams have in common: events from bytes, JSON from events, and what becomes of
 * texts, calls and counts. Pure: bytes in, events out.
 * @module
 */

import { BackendError, type BackendFailure } from "../../errors.ts";
import { SseParser } from "../../upstream/sse_parser.ts";
import { type AnswerListener, type BodyReader, ONLY_TEXT, type Wanted } from "./dialect.ts";
import { excerpt } from "./errors.ts";

/** One event's bound: a chunk carries a few words, at most a whole answer of a server that does not stream. */
const MAX_EVENT_BYTES = 524_288;

/** Reads one answer. A provider's reader says what its events mean. */
export abstract class EventReader implements BodyReader {
  protected readonly listener: AnswerListener;
  protected readonly wanted: Wanted;
  readonly #parser: SseParser;
  /** The first half of a surrogate pair whose second half the next text begins with. */
  #half = "";
  #inputTokens = -1;
  #outputTokens = -1;
  #over = false;
  #finished = false;

  constructor(listener: AnswerListener, wanted: Wanted = ONLY_TEXT) {
    this.listener = listener;
    this.wanted = wanted;
    this.#parser = new SseParser(this, MAX_EVENT_BYTES);
  }

  /** For the parser: an event's data, and its name, "" where it has none. */
  abstract sse(data: string, event: string): void;

  abstract end(): void;

  push(bytes: Uint8Array): void {
    this.#parser.push(bytes);
  }

  broke({ kind, message, cause }: BackendError): void {
    this.fail(kind, message, cause);
  }

  /** For the parser. */
  sseTooLong(maxBytes: number): void {
    this.fail("malformed", `an event of more than ${maxBytes} bytes`);
  }

  /** The last event was told. */
  protected get over(): boolean {
    return this.#over;
  }

  /** The model has said why it stopped. */
  protected get finished(): boolean {
    return this.#finished;
  }

  /** The data of an event that the stream's end cut off after its `data` line, or null. */
  protected unfinished(): string | null {
    return this.#parser.unfinished();
  }

  /** An event's data as an object or array. Null: it is none, and the answer has failed. */
  protected parse(data: string): object | null {
    try {
      const value: unknown = JSON.parse(data);
      if (typeof value === "object" && value !== null) return value;
    } catch (cause) {
      this.fail("malformed", `an event that is not JSON: ${excerpt(data)}`, cause);
      return null;
    }
    this.fail("malformed", `an event that is not an object: ${excerpt(data)}`);
    return null;
  }

  protected text(content: unknown): void {
    if (typeof content !== "string" || content === "") return;
    let text = this.#half === "" ? content : this.#half + content;
    this.#half = "";
    const last = text.charCodeAt(text.length - 1);
    if (last >= 0xd800 && last <= 0xdbff) {
      this.#half = text.slice(-1);
      text = text.slice(0, -1);
      if (text === "") return;
    }
    this.listener.event({ kind: "text", text: text.isWellFormed() ? text : text.toWellFormed() });
  }

  /**
   * A piece of reasoning, where it is wanted. Halves of a surrogate pair stay halves, as JSON has them in escapes:
   * whoever joins the pieces has the whole.
   *
   * @returns whether there was one
   */
  protected reasoning(text: unknown): boolean {
    if (!this.wanted.reasoning || typeof text !== "string" || text === "") return false;
    this.listener.event({ kind: "reasoning", text });
    return true;
  }

  /**
   * A piece of a tool call, where they are wanted: `id` and `name` where they are texts.
   *
   * @param custom the tool takes text, not JSON
   */
  protected toolCall(index: number, id: unknown, name: unknown, piece: unknown, custom = false): void {
    if (!this.wanted.toolCalls) return;
    this.listener.event({
      kind: "tool_call",
      index,
      ...(typeof id === "string" && id !== "" ? { id } : {}),
      ...(typeof name === "string" && name !== "" ? { name } : {}),
      arguments: typeof piece === "string" ? piece : "",
      ...(custom ? { custom } : {}),
    });
  }

  /** A page that the answer cites, where they are wanted. */
  protected source(url: unknown, title: unknown): void {
    if (!this.wanted.sources || typeof url !== "string") return;
    this.listener.event({ kind: "source", url, ...(typeof title === "string" ? { title } : {}) });
  }

  /** Counts of tokens, where they are counts: the last ones hold, and are told at the end. */
  protected counted(input: unknown, output: unknown): void {
    if (isCount(input)) this.#inputTokens = input;
    if (isCount(output)) this.#outputTokens = output;
  }

  /** Why the model stopped. */
  protected finish(reason: string): void {
    this.#finished = true;
    this.#flushHalf();
    this.listener.event({ kind: "finish", reason });
  }

  protected done(): void {
    if (this.#over) return;
    this.#end();
    this.listener.done();
  }

  protected fail(kind: BackendFailure, message: string, cause?: unknown): void {
    if (this.#over) return;
    this.#end();
    this.listener.failed(new BackendError(kind, message, { cause }));
  }

  #end(): void {
    this.#over = true;
    this.#parser.stop();
    this.#flushHalf();
    if (this.#inputTokens < 0 && this.#outputTokens < 0) return;
    const inputTokens = Math.max(0, this.#inputTokens);
    const outputTokens = Math.max(0, this.#outputTokens);
    this.listener.event({ kind: "usage", inputTokens, outputTokens });
  }

  #flushHalf(): void {
    if (this.#half === "") return;
    this.#half = "";
    this.listener.event({ kind: "text", text: "\ufffd" });
  }
}

/** Whether it is a whole number from 0 up. */
export const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

/** The words of an error object: its message, with its code or type; what it is where it has none. */
export function errorWords(error: unknown, data: string): string {
  if (typeof error === "string") return error;
  if (typeof error === "object" && error !== null) {
    const { message, code, type } = error as Record<string, unknown>;
    const label = [code, type].find((value) => typeof value === "string" || typeof value === "number");
    if (typeof message === "string") return label === undefined ? message : `${message} (${label})`;
  }
  return excerpt(data);
}

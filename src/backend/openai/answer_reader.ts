/**
 * What an OpenAI-style provider streams, as the daemon's events. Pure: bytes in, events out.
 * @module
 */

import { BackendError } from "../../errors.ts";
import { SseParser } from "../../upstream/sse_parser.ts";
import type { StreamEvent } from "../backend.ts";
import { TextTemplate } from "./text_template.ts";

/** One event's bound: a chunk carries a few words, at most a whole answer of a server that does not stream. */
const MAX_EVENT_BYTES = 524_288;
/** Of what cannot be understood, so much is quoted. */
const EXCERPT_CHARACTERS = 120;

/** Who hears of an answer. After `done` or `failed`, nothing comes. */
export interface AnswerListener {
  event(event: StreamEvent): void;
  /** The provider marked the end. */
  done(): void;
  /** `malformed`, `stream_error` or `truncated`; messages quote what the provider sent. */
  failed(error: BackendError): void;
}

interface Annotation {
  readonly url_citation?: { readonly url?: unknown; readonly title?: unknown } | null;
}

/** What is given besides texts, usage and the finish reason. */
export interface Wanted {
  readonly reasoning: boolean;
  readonly toolCalls: boolean;
  readonly sources: boolean;
  /** The chunks as they came, in the place of all that is said in them but usage and finish reason. */
  readonly chunks: boolean;
  /** Of the chunks, also those with counts of tokens alone: the daemon asks for them itself. */
  readonly counts: boolean;
}

const ONLY_TEXT: Wanted = {
  counts: false,
  reasoning: false,
  toolCalls: false,
  sources: false,
  chunks: false,
};

/** The fields that are looked at, any of which may be missing, null or of another type. */
interface Chunk {
  readonly error?: unknown;
  readonly object?: unknown;
  readonly message?: unknown;
  readonly usage?: { readonly prompt_tokens?: unknown; readonly completion_tokens?: unknown } | null;
  readonly choices?: readonly (Choice | null)[] | null;
}
interface Choice {
  readonly index?: unknown;
  readonly finish_reason?: unknown;
  readonly delta?: Delta | null;
}
interface Delta {
  readonly content?: unknown;
  readonly refusal?: unknown;
  /** DeepSeek, vLLM, llama.cpp. */
  readonly reasoning_content?: unknown;
  /** OpenRouter, Groq. */
  readonly reasoning?: unknown;
  readonly tool_calls?: unknown;
  readonly annotations?: unknown;
}
interface ToolCall {
  readonly index?: unknown;
  readonly id?: unknown;
  readonly function?: { readonly name?: unknown; readonly arguments?: unknown } | null;
}

/** Reads one answer. */
export class AnswerReader {
  readonly #listener: AnswerListener;
  readonly #parser: SseParser;
  readonly #template = new TextTemplate();
  readonly #wanted: Wanted;
  /** The first half of a surrogate pair whose second half the next text begins with. */
  #half = "";
  #inputTokens = -1;
  #outputTokens = -1;
  #over = false;
  /** The model has said why it stopped. */
  #finished = false;

  constructor(listener: AnswerListener, wanted: Wanted = ONLY_TEXT) {
    this.#listener = listener;
    this.#wanted = wanted;
    this.#parser = new SseParser(this, MAX_EVENT_BYTES);
  }

  /** @param bytes the next ones of the body; not kept after the return */
  push(bytes: Uint8Array): void {
    this.#parser.push(bytes);
  }

  /**
   * The body has ended, as it should. Some servers leave out the blank line after their end mark, some the mark: an answer
   * that has its finish reason is whole without.
   */
  end(): void {
    if (this.#over) return;
    if (this.#finished || this.#parser.unfinished()?.trim() === "[DONE]") this.#done();
    else this.#fail("truncated", "the stream ended before [DONE] and any finish reason");
  }

  /** For the parser. */
  sse(data: string, event: string): void {
    const plain = event === "" ? this.#template.match(data) : null;
    if (plain !== null) return this.#wanted.chunks ? this.#passOn(data) : this.#text(plain);
    const chunk = this.#chunk(data);
    if (chunk === null) return;
    if (chunk.error || event === "error" || chunk.object === "error") {
      return this.#fail("stream_error", `the provider reports: ${errorText(chunk, data)}`);
    }
    const choice = Array.isArray(chunk.choices) ? chunk.choices[0] : null;
    if (this.#wanted.chunks && (choice || !chunk.usage || this.#wanted.counts)) this.#passOn(data);
    // Only one choice is asked for; another's words would be mixed into it.
    if (choice && (choice.index === undefined || choice.index === 0)) {
      const { delta, finish_reason: reason } = choice;
      let further = false;
      if (delta && !this.#wanted.chunks) {
        if (this.#wanted.reasoning) further = this.#reasoning(delta.reasoning_content ?? delta.reasoning);
        this.#text(delta.content);
        this.#text(delta.refusal);
        if (this.#wanted.toolCalls) further = this.#toolCalls(delta.tool_calls) || further;
        if (this.#wanted.sources) further = this.#citations(delta.annotations) || further;
      }
      if (typeof reason === "string" && reason !== "") {
        this.#finished = true;
        this.#flushHalf();
        this.#listener.event({ kind: "finish", reason });
      } else if (
        typeof delta?.content === "string" && delta.content !== "" && !delta.refusal && !chunk.usage &&
        !further
      ) {
        this.#template.learn(data, delta.content, contentOf);
      }
    }
    if (chunk.usage) {
      // Some servers send a running count with every chunk: the last one holds.
      const { prompt_tokens: input, completion_tokens: output } = chunk.usage;
      if (isCount(input)) this.#inputTokens = input;
      if (isCount(output)) this.#outputTokens = output;
    }
  }

  /** For the parser. */
  sseTooLong(maxBytes: number): void {
    this.#fail("malformed", `an event of more than ${maxBytes} bytes`);
  }

  #chunk(data: string): Chunk | null {
    if (data.startsWith("[DONE]")) {
      this.#done();
      return null;
    }
    if (data === "") return null;
    try {
      const chunk: unknown = JSON.parse(data);
      if (typeof chunk === "object" && chunk !== null) return chunk;
    } catch (cause) {
      this.#fail("malformed", `an event that is not JSON: ${excerpt(data)}`, cause);
      return null;
    }
    this.#fail("malformed", `an event that is not an object: ${excerpt(data)}`);
    return null;
  }

  #text(content: unknown): void {
    if (typeof content !== "string" || content === "") return;
    let text = this.#half === "" ? content : this.#half + content;
    this.#half = "";
    const last = text.charCodeAt(text.length - 1);
    if (last >= 0xd800 && last <= 0xdbff) {
      this.#half = text.slice(-1);
      text = text.slice(0, -1);
      if (text === "") return;
    }
    this.#listener.event({ kind: "text", text: text.isWellFormed() ? text : text.toWellFormed() });
  }

  // Halves of a surrogate pair stay halves, as JSON has them in escapes: whoever joins the pieces has the whole.
  #reasoning(text: unknown): boolean {
    if (typeof text !== "string" || text === "") return false;
    this.#listener.event({ kind: "reasoning", text });
    return true;
  }

  #toolCalls(calls: unknown): boolean {
    if (!Array.isArray(calls)) return false;
    for (const call of calls as readonly (ToolCall | null)[]) {
      if (typeof call !== "object" || call === null) continue;
      const { id, function: called } = call;
      const name = called?.name;
      const piece = called?.arguments;
      this.#listener.event({
        kind: "tool_call",
        // Some servers that never call two tools at once leave it out.
        index: isCount(call.index) ? call.index : 0,
        ...(typeof id === "string" && id !== "" ? { id } : {}),
        ...(typeof name === "string" && name !== "" ? { name } : {}),
        arguments: typeof piece === "string" ? piece : "",
      });
    }
    return calls.length > 0;
  }

  #citations(annotations: unknown): boolean {
    if (!Array.isArray(annotations)) return false;
    for (const annotation of annotations as readonly (Annotation | null)[]) {
      const { url, title } = annotation?.url_citation ?? {};
      if (typeof url !== "string") continue;
      this.#listener.event({ kind: "source", url, ...(typeof title === "string" ? { title } : {}) });
    }
    return annotations.length > 0;
  }

  #passOn(data: string): void {
    this.#listener.event({ kind: "chunk", data });
  }

  #flushHalf(): void {
    if (this.#half === "") return;
    this.#half = "";
    this.#listener.event({ kind: "text", text: "\ufffd" });
  }

  #tell(): void {
    this.#flushHalf();
    if (this.#inputTokens < 0 && this.#outputTokens < 0) return;
    const inputTokens = Math.max(0, this.#inputTokens);
    const outputTokens = Math.max(0, this.#outputTokens);
    this.#listener.event({ kind: "usage", inputTokens, outputTokens });
  }

  #done(): void {
    this.#over = true;
    this.#parser.stop();
    this.#tell();
    this.#listener.done();
  }

  #fail(kind: "malformed" | "stream_error" | "truncated", message: string, cause?: unknown): void {
    if (this.#over) return;
    this.#over = true;
    this.#parser.stop();
    this.#tell();
    this.#listener.failed(new BackendError(kind, message, { cause }));
  }
}

const contentOf = (chunk: unknown): unknown => (chunk as Chunk).choices?.[0]?.delta?.content;

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

const excerpt = (data: string): string => JSON.stringify(data.slice(0, EXCERPT_CHARACTERS));

/** The words of `{"error": {"message": …}}`, `{"error": "…"}` and `{"object": "error", "message": …}`. */
function errorText(chunk: Chunk, data: string): string {
  const error = chunk.error ?? chunk;
  if (typeof error === "string") return error;
  if (typeof error === "object" && error !== null) {
    const { message, code, type } = error as Record<string, unknown>;
    const label = [code, type].find((value) => typeof value === "string" || typeof value === "number");
    if (typeof message === "string") return label === undefined ? message : `${message} (${label})`;
  }
  return excerpt(data);
}

/**
 * The stream of a run in the mode `messages-tuple` as the daemon's events: what its models say, and nothing of what it
 * does besides. Pure: bytes in, events out.
 * @module
 */

import { forgetOldest } from "../../upstream/forget_oldest.ts";
import { errorWords, EventReader, isCount } from "../http/event_reader.ts";
import { isObject, type Json } from "../http/chat_words.ts";
import { finishWord } from "../http/finish_words.ts";
import { TextTemplate } from "../http/text_template.ts";

/** Messages of a run that are remembered: the first ones; and calls: the last ones. */
const MAX_KNOWN = 1_000;

/** The fields of a message that are looked at, any of which may be missing, null or of another type. */
interface Message {
  readonly type?: unknown;
  readonly id?: unknown;
  readonly content?: unknown;
  readonly additional_kwargs?: { readonly reasoning_content?: unknown; readonly refusal?: unknown } | null;
  readonly response_metadata?: { readonly finish_reason?: unknown; readonly stop_reason?: unknown } | null;
  readonly usage_metadata?: { readonly input_tokens?: unknown; readonly output_tokens?: unknown } | null;
  readonly tool_calls?: unknown;
  readonly tool_call_chunks?: unknown;
}

/** Reads one answer. */
export class RunReader extends EventReader {
  readonly #template = new TextTemplate();
  /** Messages that have begun: the whole of one, which may follow its pieces, says nothing new. */
  readonly #known = new Set<unknown>();
  /** The message under way; undefined before the first. */
  #message: unknown;
  /** Calls by message and index in it, since messages of nodes that run at the same time come mixed: their number. */
  readonly #calls = new Map<string, number>();
  #callCount = 0;
  #begun = false;
  #said = false;
  /** A message has begun since the last text: a paragraph, too. */
  #paragraph = false;
  #reason = "";
  readonly #tokens = { input: 0, output: 0 };

  /**
   * The body has ended in order. That is a run's end: the server (langgraph-api 0.16) has no other, tells of a failure
   * before, and a run that waits for a person has no reason of its last message's.
   */
  end(): void {
    if (this.over) return;
    if (this.#begun) this.#ended();
    else this.fail("truncated", "the stream ended before its first event");
  }

  sse(data: string, event: string): void {
    this.#begun = true;
    // Of subgraphs, the name goes on with theirs.
    const [name] = event.split("|", 1);
    switch (name) {
      case "messages": {
        const plain = this.#template.match(data);
        if (plain !== null) return this.text(plain);
        const tuple = this.parse(data);
        const message = Array.isArray(tuple) ? tuple[0] : undefined;
        return isObject(message) ? this.#chunk(message, data) : undefined;
      }
      case "error": {
        const error = this.parse(data);
        if (error === null) return;
        const { error: type, message } = error as Json;
        return this.fail("stream_error", `the provider reports: ${errorWords({ message, type }, data)}`);
      }
      case "end":
        return this.#end(data);
    }
    // What is not known says nothing to a browser: metadata, and what else a run may be told to stream.
  }

  #end(data: string): void {
    const end = data === "" || data === "null" ? {} : this.parse(data) as Json | null;
    if (end === null) return;
    const status = end["status"];
    if (status === "error" || status === "timeout") {
      return this.fail("stream_error", `the provider reports: the run ended with the status ${status}`);
    }
    this.#ended();
  }

  #ended(): void {
    if (this.#reason !== "") this.finish(this.#reason);
    this.done();
  }

  #chunk(message: Message, data: string): void {
    const { type, id, content } = message;
    const isPiece = type === "AIMessageChunk";
    if (!isPiece && (type !== "ai" || this.#known.has(id))) return;
    if (id !== this.#message) this.#begins(id);
    let further = this.reasoning(message.additional_kwargs?.reasoning_content);
    if (Array.isArray(content)) { for (const part of content) this.#part(part); }
    else this.#text(content);
    const refusal = message.additional_kwargs?.refusal;
    this.#text(refusal);
    if (isPiece) further = this.#callPieces(id, message.tool_call_chunks) || further;
    else this.#wholeCalls(message.tool_calls);
    // Both are asked: a provider's last piece may have the counts and the reason at once.
    const counts = this.#counts(message.usage_metadata);
    const stops = this.#stops(message.response_metadata);
    further = counts || stops || further;
    if (isPiece && !further && !refusal && typeof content === "string" && content !== "") {
      this.#template.learn(data, content, contentOf);
    }
  }

  #begins(id: unknown): void {
    // Messages of nodes that run at the same time come mixed: each begins once.
    this.#paragraph = this.#said && !this.#known.has(id);
    this.#message = id;
    if (typeof id === "string" && this.#known.size < MAX_KNOWN) this.#known.add(id);
  }

  #text(content: unknown): void {
    if (typeof content !== "string" || content === "") return;
    if (this.#paragraph) this.text("\n\n");
    this.#paragraph = false;
    this.#said = true;
    this.text(content);
  }

  #part(part: unknown): void {
    if (!isObject(part)) return this.#text(part);
    switch (part["type"]) {
      case "text":
        this.#text(part["text"]);
        if (!Array.isArray(part["annotations"])) return;
        for (const each of part["annotations"]) if (isObject(each)) this.source(each["url"], each["title"]);
        break;
      case "refusal":
        this.#text(part["refusal"]);
        break;
      case "thinking":
        this.reasoning(part["thinking"]);
        break;
      case "reasoning":
        this.reasoning(part["reasoning"]);
        break;
    }
  }

  /** @returns whether there were any */
  #callPieces(message: unknown, pieces: unknown): boolean {
    if (!Array.isArray(pieces)) return false;
    for (const piece of pieces) {
      if (!isObject(piece)) continue;
      const { id, name, args, index } = piece;
      const place = JSON.stringify([message, index]);
      if (typeof id === "string" && id !== "") {
        this.#calls.set(place, this.#callCount);
        forgetOldest(this.#calls, MAX_KNOWN);
        this.toolCall(this.#callCount++, id, name, args);
      } else if (this.#callCount > 0) {
        this.toolCall(this.#calls.get(place) ?? this.#callCount - 1, undefined, name, args);
      }
    }
    return pieces.length > 0;
  }

  #wholeCalls(calls: unknown): void {
    if (!Array.isArray(calls)) return;
    for (const call of calls) {
      if (!isObject(call)) continue;
      this.toolCall(this.#callCount++, call["id"], call["name"], JSON.stringify(call["args"] ?? {}));
    }
  }

  /** Those of all pieces and messages add up. */
  #counts(usage: Message["usage_metadata"]): boolean {
    if (!usage) return false;
    if (isCount(usage.input_tokens)) this.#tokens.input += usage.input_tokens;
    if (isCount(usage.output_tokens)) this.#tokens.output += usage.output_tokens;
    this.counted(this.#tokens.input, this.#tokens.output);
    return true;
  }

  /** The last reason holds: others are those of messages between which tools were called. */
  #stops(metadata: Message["response_metadata"]): boolean {
    const reason = metadata?.finish_reason ?? metadata?.stop_reason;
    if (typeof reason !== "string" || reason === "") return false;
    this.#reason = finishWord(reason);
    return true;
  }
}

const contentOf = (tuple: unknown): unknown =>
  Array.isArray(tuple) ? (tuple[0] as Message).content : undefined;

/**
 * A stream of the Messages API as the daemon's events. Pure: bytes in, events out.
 * @module
 */

import type { ErrorType } from "@anthropic-ai/sdk/resources/shared";
import type { BackendFailure } from "../../errors.ts";
import { errorWords, EventReader, isCount } from "../http/event_reader.ts";
import { finishWord } from "../http/finish_words.ts";
import { TextTemplate } from "../http/text_template.ts";

/** What the status of the same error would stand for. */
const KINDS: ReadonlyMap<unknown, BackendFailure> = new Map<ErrorType | "request_too_large", BackendFailure>([
  ["invalid_request_error", "bad_request"],
  ["request_too_large", "bad_request"],
  ["authentication_error", "auth"],
  ["permission_error", "auth"],
  ["not_found_error", "not_found"],
  ["rate_limit_error", "rate_limited"],
  ["timeout_error", "server_error"],
  ["api_error", "server_error"],
  ["overloaded_error", "server_error"],
]);

/** The fields that are looked at, any of which may be missing, null or of another type. */
interface Event {
  readonly type?: unknown;
  readonly index?: unknown;
  readonly message?: { readonly usage?: Usage | null } | null;
  readonly content_block?: Block | null;
  readonly delta?: Delta | null;
  readonly usage?: Usage | null;
  readonly error?: { readonly type?: unknown } | null;
}
interface Usage {
  readonly input_tokens?: unknown;
  readonly cache_creation_input_tokens?: unknown;
  readonly cache_read_input_tokens?: unknown;
  readonly output_tokens?: unknown;
}
interface Block {
  readonly type?: unknown;
  readonly id?: unknown;
  readonly name?: unknown;
  readonly input?: unknown;
  readonly text?: unknown;
  readonly thinking?: unknown;
}
interface Delta {
  readonly type?: unknown;
  readonly text?: unknown;
  readonly thinking?: unknown;
  readonly partial_json?: unknown;
  readonly citation?: { readonly url?: unknown; readonly title?: unknown } | null;
  readonly stop_reason?: unknown;
}

/** Reads one answer. */
export class MessageReader extends EventReader {
  readonly #template = new TextTemplate();
  /** Blocks come one after the other: the call under way, as the provider counts blocks, and how many calls there were. */
  #callBlock: unknown;
  #calls = 0;
  /** What that call began with, as long as no piece has come: all that one of a tool without parameters has. */
  #input: unknown;
  /** Of the prompt: those of no cache, written to one, read from one. */
  readonly #inputTokens = [0, 0, 0];

  /** The body has ended, as it should. An answer that has its stop reason is whole without the last event. */
  end(): void {
    if (this.over) return;
    if (this.finished) this.done();
    else this.fail("truncated", "the stream ended before message_stop and any stop reason");
  }

  sse(data: string, event: string): void {
    const plain = event === "content_block_delta" ? this.#template.match(data) : null;
    if (plain !== null) return this.text(plain);
    if (data === "") return;
    const said: Event | null = this.parse(data);
    if (said === null) return;
    switch (said.type) {
      case "content_block_delta":
        return this.#delta(said, data);
      case "content_block_start":
        return this.#block(said);
      case "content_block_stop":
        return this.#blockOver();
      case "message_start":
        return this.#usage(said.message?.usage);
      case "message_delta":
        this.#usage(said.usage);
        if (typeof said.delta?.stop_reason === "string") {
          this.finish(finishWord(said.delta.stop_reason));
        }
        return;
      case "message_stop":
        return this.done();
      case "error": {
        const error = said.error ?? said;
        return this.fail(
          KINDS.get(error.type) ?? "stream_error",
          `the provider reports: ${errorWords(error, data)}`,
        );
      }
    }
    // What is not known says nothing to a browser: ping, and what may be added to the API.
  }

  #delta({ delta, index }: Event, data: string): void {
    switch (delta?.type) {
      case "text_delta":
        this.text(delta.text);
        if (typeof delta.text === "string" && delta.text !== "") {
          this.#template.learn(data, delta.text, textOf);
        }
        break;
      case "thinking_delta":
        this.reasoning(delta.thinking);
        break;
      case "input_json_delta":
        if (index === this.#callBlock && delta.partial_json !== "") {
          this.#input = undefined;
          this.toolCall(this.#calls - 1, undefined, undefined, delta.partial_json);
        }
        break;
      case "citations_delta":
        this.source(delta.citation?.url, delta.citation?.title);
        break;
    }
  }

  #block({ content_block: block, index }: Event): void {
    this.#blockOver();
    this.#callBlock = undefined;
    switch (block?.type) {
      case "tool_use":
        this.#callBlock = index;
        this.#input = block.input ?? {};
        this.toolCall(this.#calls++, block.id, block.name, "");
        break;
      case "text":
        this.text(block.text);
        break;
      case "thinking":
        this.reasoning(block.thinking);
        break;
    }
    // What the provider's own tools are asked and say is no affair of the page.
  }

  #blockOver(): void {
    if (this.#input === undefined) return;
    this.toolCall(this.#calls - 1, undefined, undefined, JSON.stringify(this.#input));
    this.#input = undefined;
  }

  /** Counts are of the whole answer so far, and those that are missing stay. */
  #usage(usage: Usage | null | undefined): void {
    if (!usage) return;
    const input = [usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens];
    for (const [at, count] of input.entries()) if (isCount(count)) this.#inputTokens[at] = count;
    const sum = input.some(isCount) ? this.#inputTokens.reduce((all, count) => all + count) : undefined;
    this.counted(sum, usage.output_tokens);
  }
}

const textOf = (event: unknown): unknown => {
  const { type, delta } = event as Event;
  return type === "content_block_delta" && delta?.type === "text_delta" ? delta.text : undefined;
};

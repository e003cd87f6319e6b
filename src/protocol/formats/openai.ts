/**
 * The format `openai`: the chunks of a streamed chat completion, as the provider sent them. Where a backend has none,
 * they are made of its events. Pure.
 * @module
 */
import type { StreamFailure } from "../../errors.ts";
import type { AnswerFormat, FurtherEvent } from "../stream_event.ts";
import { dataEvent, DONE_EVENT } from "./content.ts";

/** What the chunks that are made say about the answer. */
export interface Completion {
  readonly id: string;
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

/** See the module. */
export class OpenAiFormat implements AnswerFormat {
  readonly headers = "";
  readonly #completion: Completion;
  readonly #usage: boolean;
  #role: "assistant" | undefined = "assistant";
  /** The provider's own chunks go on: what else is known of the answer is in them. */
  #passesOn = false;
  #finished = false;

  /** @param usage whether a chunk with counts of tokens is made */
  constructor(completion: Completion, usage: boolean) {
    this.#completion = completion;
    this.#usage = usage;
  }

  text(text: string): string {
    return this.#delta({ content: text });
  }

  further(event: FurtherEvent): string {
    if (event.kind === "chunk") {
      this.#passesOn = true;
      // A provider may well have written its JSON in several lines.
      return `data: ${event.data.replaceAll("\n", "\ndata: ")}\n\n`;
    }
    if (this.#passesOn) return "";
    switch (event.kind) {
      case "reasoning":
        return this.#delta({ reasoning_content: event.text });
      case "tool_call": {
        const { index, id, name, arguments: piece, custom } = event;
        const kind = custom ? "custom" : "function";
        const called = custom ? { name, input: piece } : { name, arguments: piece };
        const type = id === undefined ? undefined : kind;
        return this.#delta({ tool_calls: [{ index, id, type, [kind]: called }] });
      }
      case "finish":
        return this.#finish(event.reason);
      case "usage":
        return this.#usage ? this.#counts(event.inputTokens, event.outputTokens) : "";
      case "source":
        return "";
    }
  }

  end(): string {
    return (this.#passesOn || this.#finished ? "" : this.#finish("stop")) + DONE_EVENT;
  }

  /** An object, as the provider has it, which its SDK throws. */
  failure(failure: StreamFailure, text: string): string {
    return dataEvent({ error: { message: text, type: failure, param: null, code: null } });
  }

  #delta(delta: Readonly<Record<string, unknown>>): string {
    const role = this.#role;
    this.#role = undefined;
    return this.#chunk([{ index: 0, delta: { role, ...delta }, finish_reason: null }]);
  }

  #finish(reason: string): string {
    this.#finished = true;
    return this.#chunk([{ index: 0, delta: { role: this.#role }, finish_reason: reason }]);
  }

  #counts(input: number, output: number): string {
    return this.#chunk([], {
      usage: { prompt_tokens: input, completion_tokens: output, total_tokens: input + output },
    });
  }

  #chunk(choices: readonly unknown[], rest: Readonly<Record<string, unknown>> = {}): string {
    const { id, created, model } = this.#completion;
    return dataEvent({ id, object: "chat.completion.chunk", created, model, choices, ...rest });
  }
}

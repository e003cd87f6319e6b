/**
 * The format `content`, in which every answer comes for which no other is asked. Pure.
 *
 * What `include` adds are events with a name. `EventSource` gives them to those who listen to that name, never to
 * `onmessage`, so a page that knows the plain answer only does not see them; and their data has neither `content` nor
 * `error`, the members that a reader looks for who does not know names.
 * @module
 */
import type { StreamFailure } from "../../errors.ts";
import type { Include } from "../response_choice.ts";
import type { AnswerFormat, FurtherEvent } from "../stream_event.ts";

/** An event without a name. JSON leaves no CR, LF or NUL in it that could break the framing. */
export function dataEvent(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`;
}

/** The last event of a stream that ended as it should. */
export const DONE_EVENT = "data: [DONE]\n\n";

/** The event of a piece of text: {@linkcode dataEvent}, without an object for each. */
export function textEvent(text: string): string {
  return `data: {"content":${JSON.stringify(text)}}\n\n`;
}

/** The event of a failure after the head. */
export function errorEvent(message: string): string {
  return dataEvent({ error: message });
}

function named(name: Include, value: unknown): string {
  return `event: ${name}\ndata: {"${name}":${JSON.stringify(value)}}\n\n`;
}

/** The plain answer with what was asked for besides. */
export class ContentFormat implements AnswerFormat {
  readonly headers = "";
  readonly #include: readonly Include[];

  constructor(include: readonly Include[]) {
    this.#include = include;
  }

  text(text: string): string {
    return textEvent(text);
  }

  further(event: FurtherEvent): string {
    switch (event.kind) {
      case "reasoning":
        return this.#named("reasoning", event.text);
      case "tool_call": {
        const { index, id, name, arguments: piece } = event;
        return this.#named("tool_calls", [{ index, id, name, arguments: piece }]);
      }
      case "finish":
        return this.#named("finish", event.reason);
      case "usage":
        return this.#named("usage", { input_tokens: event.inputTokens, output_tokens: event.outputTokens });
      case "chunk":
      case "source":
        return "";
    }
  }

  #named(name: Include, value: unknown): string {
    return this.#include.includes(name) ? named(name, value) : "";
  }

  end(): string {
    return DONE_EVENT;
  }

  failure(_: StreamFailure, text: string): string {
    return errorEvent(text);
  }
}

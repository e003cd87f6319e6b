/**
 * Anthropic's Messages API (https://platform.claude.com/docs/en/api/messages), streamed. Its SDK gives types alone: a
 * head of five fields needs no package in the daemon.
 * @module
 */

import type { HttpOptions } from "../http/options.ts";
import type { RequestHead } from "../../upstream/exchange.ts";
import type { BackendRequest } from "../backend.ts";
import type { AnswerListener, BodyReader, Dialect, Draft, Wanted } from "../http/dialect.ts";
import { jsonHead } from "../http/head.ts";
import { FixedDraft } from "../http/fixed_draft.ts";
import { MessageReader } from "./message_reader.ts";
import { messagesBody } from "./request.ts";

/** The version of the API, in which its streams are as the reader knows them. */
const VERSION = "2023-06-01";

/** Of the keys of `backend.anthropic` in the configuration, those that are about requests. */
export interface AnthropicOptions extends Pick<HttpOptions, "apiKey" | "apiBase" | "headers" | "body"> {
  /** Tokens of an answer at most, where a request does not say. */
  readonly maxTokens: number;
}

/** See the module. */
export class Anthropic implements Dialect {
  readonly name = "anthropic";
  readonly #head: RequestHead;
  readonly #options: AnthropicOptions;

  constructor(options: AnthropicOptions) {
    this.#options = options;
    this.#head = jsonHead(options, "/messages", [["anthropic-version", VERSION], [
      "x-api-key",
      options.apiKey,
    ]]);
  }

  get url(): URL {
    return this.#head.url;
  }

  draft(request: BackendRequest): Draft {
    return new FixedDraft(this.#head, () => JSON.stringify(messagesBody(request, this.#options)));
  }

  reader(listener: AnswerListener, wanted: Wanted): BodyReader {
    return new MessageReader(listener, wanted);
  }
}

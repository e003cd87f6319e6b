/**
 * api.openai.com and all that speak its language: chat completions, streamed.
 *
 * `npm:openai` makes the head of the requests, once for all workers (`template.ts`). A round through the SDK for each
 * request costs 210 µs and 10 KB of garbage more (bench/upstream).
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import type { BackendRequest } from "../backend.ts";
import type { AnswerListener, Dialect, Draft, Wanted } from "../http/dialect.ts";
import type { Refused } from "../http/refusal.ts";
import { AnswerReader } from "./answer_reader.ts";
import { padsEvents, templateHead } from "./head.ts";
import type { OpenAiOptions } from "./options.ts";
import { adapted, type BodyOptions, Models, requestBody, type Traits } from "./request.ts";
import type { RequestTemplate } from "./template.ts";

/** See the module. */
export class OpenAi implements Dialect {
  readonly name = "openai";
  readonly head: RequestHead;
  readonly body: BodyOptions;
  readonly models = new Models();

  /** @param template made of the same options */
  constructor(
    { body, includeUsage }: Pick<OpenAiOptions, "body" | "includeUsage">,
    template: RequestTemplate,
  ) {
    this.head = templateHead(template);
    this.body = { body, includeUsage, padsChunks: padsEvents(this.head) };
  }

  get url(): URL {
    return this.head.url;
  }

  draft(request: BackendRequest): Draft {
    return new Completion(this, request);
  }

  reader(listener: AnswerListener, wanted: Wanted): AnswerReader {
    return new AnswerReader(listener, wanted);
  }
}

/** A request, and what its model takes. */
class Completion implements Draft {
  readonly repeatable = true;
  readonly #openAi: OpenAi;
  readonly #request: BackendRequest;
  /** What the model was known to take at the beginning, and what it is asked with now. */
  readonly #first: Traits;
  #traits: Traits;

  constructor(openAi: OpenAi, request: BackendRequest) {
    this.#openAi = openAi;
    this.#request = request;
    this.#first = this.#traits = openAi.models.of(request.model);
  }

  get head(): RequestHead {
    return this.#openAi.head;
  }

  body(): string {
    return requestBody(this.#request, this.#traits, this.#openAi.body);
  }

  accepted(): void {
    this.#openAi.models.learn(this.#request.model, this.#traits);
  }

  adapt(refused: Refused): boolean {
    const other = adapted(this.#request, refused, this.#traits, this.#first, this.#openAi.body);
    if (other === null) return false;
    this.#traits = other;
    return true;
  }
}

/**
 * OpenAI's Responses API (https://platform.openai.com/docs/api-reference/responses), streamed. `npm:openai` makes the
 * head of the requests, as for chat completions.
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import type { BackendRequest } from "../backend.ts";
import type { AnswerListener, BodyReader, Dialect, Draft, Wanted } from "../http/dialect.ts";
import { FixedDraft } from "../http/fixed_draft.ts";
import type { HttpOptions } from "../http/options.ts";
import { padsEvents, templateHead } from "../openai/head.ts";
import type { RequestTemplate } from "../openai/template.ts";
import { responsesBody } from "./request.ts";
import { ResponseReader } from "./response_reader.ts";

/** See the module. */
export class OpenAiResponses implements Dialect {
  readonly name = "openai-responses";
  readonly #head: RequestHead;
  readonly #options: { readonly body: HttpOptions["body"]; readonly pads: boolean };

  /** @param template made of the same options */
  constructor({ body }: Pick<HttpOptions, "body">, template: RequestTemplate) {
    this.#head = templateHead(template);
    this.#options = { body, pads: padsEvents(this.#head) };
  }

  get url(): URL {
    return this.#head.url;
  }

  draft(request: BackendRequest): Draft {
    return new FixedDraft(this.#head, () => JSON.stringify(responsesBody(request, this.#options)));
  }

  reader(listener: AnswerListener, wanted: Wanted): BodyReader {
    return new ResponseReader(listener, wanted);
  }
}

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
import type { RequestTemplate } from "../openai/template.ts";
import { responsesBody } from "./request.ts";
import { ResponseReader } from "./response_reader.ts";

/** Who pads the events at random unless it is asked not to. */
const PADDING_HOST = "api.openai.com";

/** See the module. */
export class OpenAiResponses implements Dialect {
  readonly name = "openai-responses";
  readonly #head: RequestHead;
  readonly #options: { readonly body: HttpOptions["body"]; readonly pads: boolean };

  /** @param template made of the same options */
  constructor({ body }: Pick<HttpOptions, "body">, template: RequestTemplate) {
    this.#head = { method: "POST", url: new URL(template.url), headers: template.headers };
    this.#options = { body, pads: this.#head.url.hostname === PADDING_HOST };
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

/**
 * The head of all requests of one backend, and what it tells of who answers.
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import type { RequestTemplate } from "./template.ts";

/** As the template has it. */
export function templateHead({ url, headers }: RequestTemplate): RequestHead {
  return { method: "POST", url: new URL(url), headers };
}

/** Whether whoever answers pads its events at random unless it is asked not to: then each has to be parsed. */
export function padsEvents({ url }: RequestHead): boolean {
  return url.hostname === "api.openai.com";
}

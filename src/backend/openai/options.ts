/**
 * What the OpenAI backend is made with.
 * @module
 */

import type { HttpOptions } from "../http/options.ts";

/** The keys of `backend.openai` in the configuration, and what else it needs. Empty strings mean none. */
export interface OpenAiOptions extends HttpOptions {
  readonly organization: string;
  readonly project: string;
  /** Ask for token counts, of the models that take the question. */
  readonly includeUsage: boolean;
}

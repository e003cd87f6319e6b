/**
 * A request's body, and what is learned of each model from what it refuses. Pure.
 * @module
 */

import { forgetOldest } from "../../upstream/forget_oldest.ts";
import type { BackendRequest } from "../backend.ts";
import type { Refused } from "../http/refusal.ts";

/** The names of the limit on an answer's length: reasoning models of OpenAI's take the second only. */
export type LimitName = "max_tokens" | "max_completion_tokens";

/** What a model takes. */
export interface Traits {
  /** `stream_options` of the daemon's own. */
  readonly streamOptions: boolean;
  /** `stream_options.include_obfuscation`. */
  readonly obfuscation: boolean;
  /** Null as long as nothing is known. */
  readonly limitName: LimitName | null;
}

const UNKNOWN: Traits = { streamOptions: true, obfuscation: true, limitName: null };
/** Models that something is known of; a handoff may name any. */
const MAX_MODELS = 1_000;

/** What has been learned, by model. */
export class Models {
  readonly #traits = new Map<string, Traits>();

  of(model: string): Traits {
    return this.#traits.get(model) ?? UNKNOWN;
  }

  /** A request with these has been accepted. */
  learn(model: string, traits: Traits): void {
    if (traits === this.of(model)) return;
    this.#traits.set(model, traits);
    forgetOldest(this.#traits, MAX_MODELS);
  }
}

/** What of the configuration goes into a body. */
export interface BodyOptions {
  readonly body: Readonly<Record<string, unknown>>;
  readonly includeUsage: boolean;
  /** The provider pads its chunks at random unless it is asked not to: then each has to be parsed. */
  readonly padsChunks: boolean;
}

/** The limit under the name that the model takes: the handoff's own, else what the configuration has. */
function limitOf(
  { maxTokens, maxCompletionTokens }: BackendRequest,
  { limitName: name }: Traits,
  { max_tokens, max_completion_tokens }: BodyOptions["body"],
): Partial<Record<LimitName, unknown>> {
  const given: Partial<Record<LimitName, unknown>> = maxCompletionTokens !== undefined
    ? { max_completion_tokens: maxCompletionTokens }
    : maxTokens !== undefined
    ? { max_tokens: maxTokens }
    : { max_tokens, max_completion_tokens };
  return name === null ? given : { [name]: given[name] ?? given[otherName(name)] };
}

const otherName = (name: LimitName): LimitName =>
  name === "max_tokens" ? "max_completion_tokens" : "max_tokens";

/** @returns the body as JSON: of the same name, the handoff's fields win over its `request`, that over the configuration */
export function requestBody(request: BackendRequest, traits: Traits, options: BodyOptions): string {
  const { max_tokens: _, max_completion_tokens: __, stream_options, ...further } = options.body;
  const asksForUsage = options.includeUsage || request.include.includes("usage");
  const streamOptions = {
    ...(options.padsChunks && traits.streamOptions && traits.obfuscation
      ? { include_obfuscation: false }
      : {}),
    ...(typeof stream_options === "object" ? stream_options : {}),
    ...(asksForUsage && traits.streamOptions ? { include_usage: true } : {}),
  };
  return JSON.stringify({
    ...further,
    ...request.members,
    model: request.model,
    // Roles and parts are passed on as they came: which ones it takes is the provider's affair.
    messages: request.messages,
    stream: true,
    ...(Object.keys(streamOptions).length > 0 ? { stream_options: streamOptions } : {}),
    ...limitOf(request, traits, options.body),
    ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
  });
}

/**
 * What to leave out or name otherwise after a refusal that names a parameter.
 *
 * @param traits that the refused request had
 * @param first what is known of the model
 * @returns what to try next, or null: the refusal is about something else, or all has been tried
 */
export function adapted(
  request: BackendRequest,
  refused: Refused,
  traits: Traits,
  first: Traits,
  options: BodyOptions,
): Traits | null {
  const other = without(refused, traits, first);
  // What the configuration itself has in `stream_options` goes out all the same.
  return other !== null && requestBody(request, other, options) !== requestBody(request, traits, options)
    ? other
    : null;
}

function without({ param, status }: Refused, traits: Traits, first: Traits): Traits | null {
  if (param === null || (status !== 400 && status !== 422)) return null;
  if (param === "stream_options.include_obfuscation" && traits.obfuscation) {
    return { ...traits, obfuscation: false };
  }
  if (/^stream_options\b/.test(param) && traits.streamOptions) return { ...traits, streamOptions: false };
  const limits = param === "max_tokens" || param === "max_completion_tokens";
  // Once a request: a value that is wrong is wrong under either name.
  return limits && traits.limitName === first.limitName ? { ...traits, limitName: otherName(param) } : null;
}

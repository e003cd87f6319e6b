/**
 * Why a model stopped, in the words of chat completions, so that a page need not know who answers. Pure.
 * @module
 */

import type { StopReason } from "@anthropic-ai/sdk/resources/messages";

const ANTHROPIC: readonly (readonly [StopReason, string])[] = [
  ["end_turn", "stop"],
  ["stop_sequence", "stop"],
  ["max_tokens", "length"],
  ["model_context_window_exceeded", "length"],
  ["tool_use", "tool_calls"],
  ["refusal", "content_filter"],
];
/** Gemini says them in capitals, `MAX_TOKENS` among them. */
const WORDS: ReadonlyMap<string, string> = new Map([...ANTHROPIC, ["safety", "content_filter"]]);

/** The word for a provider's own; that itself where there is none. */
export function finishWord(reason: string): string {
  const word = reason === reason.toUpperCase() ? reason.toLowerCase() : reason;
  return WORDS.get(word) ?? word;
}

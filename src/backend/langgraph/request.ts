/**
 * A request for a run. Pure.
 * @module
 */

import type { BackendRequest } from "../backend.ts";
import { isObject, type Json } from "../http/chat_words.ts";

/**
 * Messages go out as they are, since LangChain takes those of chat completions. Model, temperature and limits are the
 * graph's.
 *
 * @returns the body; of the same name, the handoff's `request` wins over the configuration
 */
export function runBody(
  { members = {}, messages }: BackendRequest,
  { body, assistantId }: { readonly body: Json; readonly assistantId: string },
): Json {
  const given: Json = { assistant_id: assistantId, on_disconnect: "cancel", ...body, ...members };
  const { input, command } = given;
  return {
    ...given,
    // A command goes on where a run was interrupted, and has its own words.
    ...(command === undefined ? { input: { ...(isObject(input) ? input : {}), messages } } : {}),
    stream_mode: ["messages-tuple"],
  };
}

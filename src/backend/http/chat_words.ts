/**
 * The words of chat completions that handoffs are written in, for providers that have others: messages, their parts,
 * tools. Whatever is not of a shape that is known here is the provider's own, and goes on as it is. Pure.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { ChatMessage } from "../backend.ts";

/** A JSON object. */
export type Json = Readonly<Record<string, unknown>>;

/** Whether it is an object, and no array. */
export const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A message with the members that those of some roles have. */
export type Message = ChatMessage & {
  readonly tool_calls?: unknown;
  readonly tool_call_id?: unknown;
};

/** A call of a tool, in a message of the role `assistant`. */
export interface Call {
  readonly id: unknown;
  readonly name: unknown;
  /** JSON, as the model wrote it. */
  readonly arguments: string;
}

/** The calls of a message. */
export function callsOf({ tool_calls: calls }: Message): readonly Call[] {
  if (!Array.isArray(calls)) return [];
  return calls.filter(isObject).map(({ id, function: called }) => {
    const { name, arguments: text } = isObject(called) ? called : {};
    return { id, name, arguments: typeof text === "string" ? text : "" };
  });
}

/**
 * What a message says, as parts, each put into the provider's words.
 *
 * @param part puts one part into them
 */
export function partsOf(content: ChatMessage["content"], part: (part: unknown) => unknown): unknown[] {
  if (typeof content === "string") return content === "" ? [] : [part({ type: "text", text: content })];
  return (content ?? []).map(part);
}

/** Those with which the instructions of a conversation begin, and the others. */
export function instructionsFirst(
  messages: readonly ChatMessage[],
): { readonly instructions: readonly ChatMessage[]; readonly others: readonly Message[] } {
  const end = messages.findIndex(({ role }) => role !== "system" && role !== "developer");
  const count = end < 0 ? messages.length : end;
  return { instructions: messages.slice(0, count), others: messages.slice(count) };
}

/** The media type and data of a `data:` URL in Base64; null for another URL. */
export function dataUrl(url: string): { readonly mediaType: string; readonly data: string } | null {
  const match = /^data:([\w.+-]+\/[\w.+-]+)(?:;[^,;]*)*;base64,/i.exec(url);
  return match === null ? null : { mediaType: match[1] as string, data: url.slice(match[0].length) };
}

/** What `{"type": "function", "function": {…}}` holds; null for a tool of another kind. */
export function functionOf(tool: unknown): Json | null {
  return isObject(tool) && tool["type"] === "function" && isObject(tool["function"])
    ? tool["function"]
    : null;
}

/** What `{"type": "json_schema", "json_schema": {…}}` holds; null for another format. */
export function schemaOf(format: unknown): Json | null {
  if (!isObject(format) || format["type"] !== "json_schema" || !isObject(format["json_schema"])) return null;
  return format["json_schema"];
}

/** An object without the members that are undefined. */
export function defined(members: Json): Json {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}

/** For what cannot be said to a provider. */
export const cannotSay = (what: string, cause?: unknown): BackendError =>
  new BackendError("bad_request", what, { cause });

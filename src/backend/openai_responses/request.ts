/**
 * A request in the words of the Responses API. Pure.
 * @module
 */

import type { BackendRequest, ChatMessage } from "../backend.ts";
import {
  callsOf,
  defined,
  functionOf,
  instructionsFirst,
  isObject,
  type Json,
  type Message,
  partsOf,
  schemaOf,
} from "../http/chat_words.ts";

/** @returns the body; of the same name, the handoff's fields win over its `request`, that over the configuration */
export function responsesBody(
  request: BackendRequest,
  options: { readonly body: Json; readonly pads: boolean },
): Json {
  const { instructions, others } = split(request.messages);
  const limit = request.maxCompletionTokens ?? request.maxTokens;
  return {
    store: false,
    ...(options.pads ? { stream_options: { include_obfuscation: false } } : {}),
    ...options.body,
    ...members(request.members ?? {}),
    model: request.model,
    ...(limit === undefined ? {} : { max_output_tokens: limit }),
    ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
    ...(instructions === "" ? {} : { instructions }),
    input: others.flatMap(items),
    stream: true,
  };
}

/** Instructions are one text; where one of them has more than texts, all stay messages. */
function split(
  messages: readonly ChatMessage[],
): { readonly instructions: string; readonly others: readonly Message[] } {
  const { instructions, others } = instructionsFirst(messages);
  const texts = instructions.flatMap(({ content }) => partsOf(content, textOf));
  if (texts.some((text) => typeof text !== "string")) return { instructions: "", others: messages };
  return { instructions: texts.join("\n\n"), others };
}

const textOf = (part: unknown): unknown => isObject(part) && part["type"] === "text" ? part["text"] : null;

/** The members of the handoff's `request`. What has another name here gets it; `seed` has no counterpart. */
function members(given: Json): Json {
  const {
    reasoning_effort: effort,
    response_format: format,
    seed: _,
    tool_choice: choice,
    tools,
    ...own
  } = given;
  const schema = schemaOf(format);
  const text = format === undefined
    ? {}
    : { format: schema === null ? format : defined({ type: "json_schema", ...schema }) };
  return {
    ...own,
    ...(effort === undefined ? {} : { reasoning: { ...part(own, "reasoning"), effort } }),
    ...(format === undefined ? {} : { text: { ...part(own, "text"), ...text } }),
    ...(choice === undefined ? {} : { tool_choice: toolChoice(choice) }),
    ...(Array.isArray(tools) ? { tools: tools.map(tool) } : {}),
  };
}

function part(own: Json, name: string): Json {
  const value = own[name];
  return isObject(value) ? value : {};
}

/** Functions are strict here unless they say otherwise, and are not in chat completions. */
function tool(given: unknown): unknown {
  const called = functionOf(given);
  return called === null ? given : { type: "function", parameters: null, strict: false, ...called };
}

function toolChoice(choice: unknown): unknown {
  const name = functionOf(choice)?.["name"];
  return name === undefined ? choice : { type: "function", name };
}

/** A message as items of the input: itself, then the calls in it. */
function items(message: Message): Json[] {
  const { role, content, tool_call_id: callId } = message;
  const inputPart = (each: unknown): unknown => partIn(role, each);
  const said = typeof content === "string" ? content : partsOf(content, inputPart);
  if (role === "tool") return [{ type: "function_call_output", call_id: callId, output: said }];
  const calls = callsOf(message).map(({ id, name, arguments: text }) => ({
    type: "function_call",
    call_id: id,
    name,
    arguments: text,
  }));
  return said.length === 0 && calls.length > 0 ? calls : [{ role, content: said }, ...calls];
}

function partIn(role: string, given: unknown): unknown {
  if (!isObject(given)) return given;
  switch (given["type"]) {
    case "text":
      return { ...given, type: role === "assistant" ? "output_text" : "input_text" };
    case "image_url": {
      const image = given["image_url"];
      const { url, detail } = isObject(image) ? image : { url: image, detail: undefined };
      return typeof url === "string"
        ? { type: "input_image", image_url: url, detail: detail ?? "auto" }
        : given;
    }
    case "file":
      return isObject(given["file"]) ? { type: "input_file", ...given["file"] } : given;
    default:
      return given;
  }
}

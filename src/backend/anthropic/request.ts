/**
 * A request in the words of the Messages API. Pure.
 * @module
 */

import type { BackendRequest } from "../backend.ts";
import {
  callsOf,
  cannotSay,
  dataUrl,
  defined,
  functionOf,
  instructionsFirst,
  isObject,
  type Json,
  type Message,
  partsOf,
  schemaOf,
} from "../http/chat_words.ts";

/**
 * @returns the body; of the same name, the handoff's fields win over its `request`, that over the configuration
 * @throws BackendError `bad_request`: the arguments of a call in the conversation are no JSON
 */
export function messagesBody(
  request: BackendRequest,
  options: { readonly body: Json; readonly maxTokens: number },
): Json {
  const { instructions, others } = instructionsFirst(request.messages);
  const limit = request.maxCompletionTokens ?? request.maxTokens;
  const system = instructions.flatMap(({ content }) => partsOf(content, block));
  return {
    max_tokens: options.maxTokens,
    ...options.body,
    ...members(request.members ?? {}),
    model: request.model,
    ...(limit === undefined ? {} : { max_tokens: limit }),
    ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
    ...(system.length === 0 ? {} : { system }),
    messages: conversation(others, instructions.length),
    stream: true,
  };
}

/** The members of the handoff's `request`. What has another name here gets it; `seed` has no counterpart. */
function members(given: Json): Json {
  const {
    metadata,
    parallel_tool_calls: parallel,
    reasoning_effort: effort,
    response_format: format,
    seed: _,
    stop,
    tool_choice: choice,
    tools,
    ...own
  } = given;
  const schema = schemaOf(format);
  const outputConfig = {
    ...(isObject(own["output_config"]) ? own["output_config"] : {}),
    ...(effort === undefined ? {} : { effort }),
    ...(schema === null ? {} : { format: { type: "json_schema", schema: schema["schema"] } }),
  };
  return {
    ...own,
    ...(format === undefined || schema !== null ? {} : unformatted(format)),
    ...(Object.keys(outputConfig).length === 0 ? {} : { output_config: outputConfig }),
    ...(stop === undefined ? {} : { stop_sequences: Array.isArray(stop) ? stop : [stop] }),
    ...(isObject(metadata) && typeof metadata["user_id"] === "string"
      ? { metadata: { user_id: metadata["user_id"] } }
      : {}),
    ...(Array.isArray(tools) ? { tools: tools.map(tool) } : {}),
    ...toolChoice(choice, parallel),
  };
}

/** Text is what comes without a format; what cannot be said is refused by the provider, by its name. */
function unformatted(format: unknown): Json {
  return isObject(format) && format["type"] === "text" ? {} : { response_format: format };
}

function tool(given: unknown): unknown {
  const called = functionOf(given);
  if (called === null) return given;
  const { name, description, parameters, strict } = called;
  return defined({
    name,
    description,
    input_schema: parameters ?? { type: "object", properties: {} },
    strict: strict ?? undefined,
  });
}

function toolChoice(choice: unknown, parallel: unknown): Json {
  const one = parallel === false ? { disable_parallel_tool_use: true } : {};
  if (choice === undefined) return parallel === false ? { tool_choice: { type: "auto", ...one } } : {};
  if (choice === "none") return { tool_choice: { type: "none" } };
  if (choice === "auto") return { tool_choice: { type: "auto", ...one } };
  if (choice === "required") return { tool_choice: { type: "any", ...one } };
  const name = functionOf(choice)?.["name"];
  if (name !== undefined) return { tool_choice: { type: "tool", name, ...one } };
  return { tool_choice: isObject(choice) ? { ...one, ...choice } : choice };
}

/** @param first the number of the first of them, for messages */
function conversation(messages: readonly Message[], first: number): Json[] {
  const turns: Json[] = [];
  let results: unknown[] = [];
  messages.forEach((message, at) => {
    const { role, content } = message;
    if (role === "tool") {
      // The results of one turn's calls are one message.
      if (results.length === 0) turns.push({ role: "user", content: results });
      results.push(result(message));
      return;
    }
    results = [];
    const calls = callsOf(message);
    if (calls.length === 0) {
      turns.push({
        role: asRole(role),
        content: typeof content === "string" ? content : partsOf(content, block),
      });
    } else {
      const uses = calls.map(({ id, name, arguments: text }, number) => ({
        type: "tool_use",
        id,
        name,
        input: parsed(text, `messages[${first + at}].tool_calls[${number}].function.arguments`),
      }));
      turns.push({ role: "assistant", content: [...partsOf(content, block), ...uses] });
    }
  });
  return turns;
}

const asRole = (role: string): string => role === "developer" ? "system" : role;

function result({ tool_call_id, content }: Message): Json {
  const said = typeof content === "string" ? content : partsOf(content, block);
  return { type: "tool_result", tool_use_id: tool_call_id, content: said };
}

function parsed(text: string, where: string): unknown {
  try {
    return text === "" ? {} : JSON.parse(text);
  } catch (cause) {
    throw cannotSay(`${where} is not JSON, which the provider takes it as`, cause);
  }
}

/** A part of a message as a content block. */
function block(part: unknown): unknown {
  if (!isObject(part)) return part;
  switch (part["type"]) {
    case "image_url": {
      const image = part["image_url"];
      const url = isObject(image) ? image["url"] : image;
      return typeof url === "string" ? { ...cached(part), type: "image", source: source(url) } : part;
    }
    case "file": {
      const file = part["file"];
      if (!isObject(file)) return part;
      const { file_data: data, file_id: id, filename: title } = file;
      if (typeof data === "string") {
        return defined({ ...cached(part), type: "document", source: source(data), title });
      }
      return typeof id === "string"
        ? defined({ ...cached(part), type: "document", source: { type: "file", file_id: id }, title })
        : part;
    }
    default:
      return part;
  }
}

const cached = ({ cache_control }: Json): Json => cache_control === undefined ? {} : { cache_control };

function source(url: string): Json {
  const data = dataUrl(url);
  return data === null
    ? { type: "url", url }
    : { type: "base64", media_type: data.mediaType, data: data.data };
}

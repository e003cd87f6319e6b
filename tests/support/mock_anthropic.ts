/**
 * How the stand-in speaks Anthropic's Messages API. Its events have the types of the SDK, so that the compiler sees
 * where they are not the API's.
 * @module
 */
import type { Message, RawMessageStreamEvent, StopReason } from "@anthropic-ai/sdk/resources/messages";
import type { ErrorResponse, ErrorType } from "@anthropic-ai/sdk/resources/shared";
import type { Voice, Writer } from "./mock_llm_voices.ts";

/** An event of the stream. */
const anthropicEvent = (event: RawMessageStreamEvent | { type: "ping" } | ErrorResponse): string =>
  `event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`;

type Block = Extract<RawMessageStreamEvent, { type: "content_block_start" }>["content_block"];
type Delta = Extract<RawMessageStreamEvent, { type: "content_block_delta" }>["delta"];

const USAGE: Message["usage"] = {
  input_tokens: 4,
  cache_creation_input_tokens: 1,
  cache_read_input_tokens: 2,
  output_tokens: 1,
  cache_creation: null,
  inference_geo: null,
  output_tokens_details: null,
  server_tool_use: null,
  service_tier: "standard",
  speed: null,
};

class AnthropicWriter implements Writer {
  readonly #model: string;
  /** The block under way, and its number. */
  #open = "";
  #block = -1;

  constructor(model: string) {
    this.#model = model;
  }

  begin(): string {
    const message: Message = {
      id: "msg_mock",
      type: "message",
      role: "assistant",
      model: this.#model,
      content: [],
      container: null,
      diagnostics: null,
      stop_details: null,
      stop_reason: null,
      stop_sequence: null,
      usage: USAGE,
    };
    return anthropicEvent({ type: "message_start", message });
  }

  text(text: string): string {
    return this.#delta("text", { type: "text", text: "", citations: null }, { type: "text_delta", text });
  }

  think(thinking: string): string {
    const block: Block = { type: "thinking", thinking: "", signature: "" };
    return this.#delta("thinking", block, { type: "thinking_delta", thinking });
  }

  source(url: string, title: string): string {
    return this.#delta("text", { type: "text", text: "", citations: null }, {
      type: "citations_delta",
      citation: { type: "web_search_result_location", url, title, cited_text: "sunny", encrypted_index: "" },
    });
  }

  call(id: string, name: string): string {
    const block: Block = { type: "tool_use", id, name, input: {}, caller: { type: "direct" } };
    return this.#close() + this.#start(`call ${id}`, block) + this.input("");
  }

  input(piece: string): string {
    return anthropicEvent({
      type: "content_block_delta",
      index: this.#block,
      delta: { type: "input_json_delta", partial_json: piece },
    });
  }

  alive(): string {
    return anthropicEvent({ type: "ping" });
  }

  finish(reason: string, output: number): string {
    return this.#close() + anthropicEvent({
      type: "message_delta",
      delta: {
        container: null,
        stop_details: null,
        stop_reason: (reason || "end_turn") as StopReason,
        stop_sequence: null,
      },
      usage: {
        cache_creation_input_tokens: null,
        cache_read_input_tokens: null,
        input_tokens: null,
        output_tokens: output,
        output_tokens_details: null,
        server_tool_use: null,
      },
    });
  }

  mark(): string {
    return anthropicEvent({ type: "message_stop" });
  }

  error(type: string, message: string): string {
    return anthropicEvent(errorOf(type as ErrorType, message));
  }

  #delta(kind: string, block: Block, delta: Delta): string {
    const start = this.#open === kind ? "" : this.#close() + this.#start(kind, block);
    return start + anthropicEvent({ type: "content_block_delta", index: this.#block, delta });
  }

  #start(kind: string, block: Block): string {
    this.#open = kind;
    return anthropicEvent({ type: "content_block_start", index: ++this.#block, content_block: block });
  }

  #close(): string {
    if (this.#open === "") return "";
    const index = this.#block;
    const signed = this.#open === "thinking"
      ? anthropicEvent({
        type: "content_block_delta",
        index,
        delta: { type: "signature_delta", signature: "c2lnbmVk" },
      })
      : "";
    this.#open = "";
    return signed + anthropicEvent({ type: "content_block_stop", index });
  }
}

function errorOf(type: ErrorType, message: string): ErrorResponse {
  return { type: "error", error: { type, message } as ErrorResponse["error"], request_id: "req_mock" };
}

const TYPES: Readonly<Record<number, ErrorType>> = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  429: "rate_limit_error",
  529: "overloaded_error",
};

/** See the module. */
export const ANTHROPIC: Voice = {
  writer: ({ model }) => new AnthropicWriter(String(model)),
  refused: (status, message) => errorOf(TYPES[status] ?? "api_error", message),
  textEvent: "content_block_delta",
  callsReason: "tool_use",
};

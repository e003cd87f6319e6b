/**
 * How the stand-in speaks OpenAI's Responses API. Its events have the types of the SDK, so that the compiler sees where
 * they are not the API's.
 * @module
 */
import type OpenAI from "openai";
import type { Voice, Writer } from "./mock_llm_voices.ts";

type Event = OpenAI.Responses.ResponseStreamEvent;
type Response = OpenAI.Responses.Response;
type Item = OpenAI.Responses.ResponseOutputItem;
/** An event without its number. */
type Unnumbered = Event extends infer Each ? Each extends Event ? Omit<Each, "sequence_number"> : never
  : never;

class ResponsesWriter implements Writer {
  readonly #model: string;
  #number = 0;
  /** What is under way: the item and its place in the output. */
  #open: Item | null = null;
  readonly #output: Item[] = [];
  #ended: Partial<Response> = {};

  constructor(model: string) {
    this.#model = model;
  }

  begin(): string {
    const response = this.#response("in_progress");
    return this.#event({ type: "response.created", response }) +
      this.#event({ type: "response.in_progress", response });
  }

  text(delta: string): string {
    let out = "";
    if (this.#open?.type !== "message") {
      const item: Item = {
        id: "msg_mock",
        type: "message",
        role: "assistant",
        status: "in_progress",
        content: [],
      };
      const part: OpenAI.Responses.ResponseOutputText = { type: "output_text", text: "", annotations: [] };
      out += this.#close() + this.#add(item) +
        this.#event({ type: "response.content_part.added", ...this.#place(), part });
      item.content.push(part);
    }
    const part = this.#part();
    part.text += delta;
    return out + this.#event({ type: "response.output_text.delta", ...this.#place(), delta, logprobs: [] });
  }

  think(delta: string): string {
    let out = "";
    if (this.#open?.type !== "reasoning") {
      out += this.#close() + this.#add({ id: "rs_mock", type: "reasoning", summary: [] }) +
        this.#event({
          type: "response.reasoning_summary_part.added",
          ...this.#item(),
          summary_index: 0,
          part: { type: "summary_text", text: "" },
        });
    }
    const item = this.#open as unknown as OpenAI.Responses.ResponseReasoningItem;
    item.summary = [{ type: "summary_text", text: (item.summary[0]?.text ?? "") + delta }];
    return out +
      this.#event({
        type: "response.reasoning_summary_text.delta",
        ...this.#item(),
        summary_index: 0,
        delta,
      });
  }

  source(url: string, title: string): string {
    const annotation = { type: "url_citation" as const, url, title, start_index: 0, end_index: 12 };
    this.#part().annotations.push(annotation);
    return this.#event({
      type: "response.output_text.annotation.added",
      ...this.#place(),
      annotation,
      annotation_index: 0,
    });
  }

  call(callId: string, name: string): string {
    return this.#close() + this.#add({
      id: `fc_${callId}`,
      type: "function_call",
      call_id: callId,
      name,
      arguments: "",
      status: "in_progress",
    });
  }

  input(delta: string): string {
    const item = this.#open as OpenAI.Responses.ResponseFunctionToolCall;
    item.arguments += delta;
    return this.#event({ type: "response.function_call_arguments.delta", ...this.#item(), delta });
  }

  alive(): string {
    return this.#event({ type: "response.in_progress", response: this.#response("in_progress") });
  }

  finish(reason: string, output: number): string {
    const out = this.#close();
    this.#ended = {
      status: reason === "" ? "completed" : "incomplete",
      incomplete_details: reason === "" ? null : { reason: reason as "max_output_tokens" | "content_filter" },
      usage: {
        input_tokens: 7,
        input_tokens_details: { cached_tokens: 2, cache_write_tokens: 0 },
        output_tokens: output,
        output_tokens_details: { reasoning_tokens: 0 },
        total_tokens: 7 + output,
      },
    };
    return out;
  }

  mark(): string {
    const response = { ...this.#response("completed"), ...this.#ended, output: this.#output };
    return response.status === "incomplete"
      ? this.#event({ type: "response.incomplete", response })
      : this.#event({ type: "response.completed", response });
  }

  error(type: string, message: string): string {
    const code = type === "rate_limit_error" ? "rate_limit_exceeded" : "server_error";
    if (type === "overloaded_error") return this.#event({ type: "error", code, message, param: null });
    const response = { ...this.#response("failed"), error: { code, message } as Response["error"] };
    return this.#event({ type: "response.failed", response });
  }

  #part(): OpenAI.Responses.ResponseOutputText {
    if (this.#open?.type !== "message") throw new Error("no message is under way");
    return this.#open.content[0] as OpenAI.Responses.ResponseOutputText;
  }

  #item(): { item_id: string; output_index: number } {
    return { item_id: this.#open?.id ?? "", output_index: this.#output.length };
  }

  #place(): { item_id: string; output_index: number; content_index: number } {
    return { ...this.#item(), content_index: 0 };
  }

  #add(item: Item): string {
    this.#open = item;
    return this.#event({ type: "response.output_item.added", output_index: this.#output.length, item });
  }

  #close(): string {
    const item = this.#open;
    if (item === null) return "";
    let out = "";
    if (item.type === "message") {
      const part = this.#part();
      out +=
        this.#event({ type: "response.output_text.done", ...this.#place(), text: part.text, logprobs: [] }) +
        this.#event({ type: "response.content_part.done", ...this.#place(), part });
      item.status = "completed";
    } else if (item.type === "function_call") {
      out += this.#event({
        type: "response.function_call_arguments.done",
        ...this.#item(),
        arguments: item.arguments,
      });
      item.status = "completed";
    }
    out += this.#event({ type: "response.output_item.done", output_index: this.#output.length, item });
    this.#output.push(item);
    this.#open = null;
    return out;
  }

  #response(status: "in_progress" | "completed" | "failed"): Response {
    // The SDK adds `output_text` itself.
    const response: Omit<Response, "output_text"> = {
      id: "resp_mock",
      object: "response",
      created_at: 1_700_000_000,
      status,
      model: this.#model,
      access_programs: null,
      output: [],
      error: null,
      incomplete_details: null,
      instructions: null,
      metadata: null,
      parallel_tool_calls: true,
      temperature: 1,
      tool_choice: "auto",
      tools: [],
      top_p: 1,
    };
    return response as Response;
  }

  #event(event: Unnumbered): string {
    const data = { ...event, sequence_number: this.#number++ };
    return `event: ${event.type}\ndata: ${JSON.stringify(data)}\n\n`;
  }
}

/** See the module. */
export const RESPONSES: Voice = {
  writer: ({ model }) => new ResponsesWriter(String(model)),
  refused: (status, message) => ({
    error: { message, type: "mock_error", param: null, code: `mock_${status}` },
  }),
  textEvent: "response.output_text.delta",
  callsReason: "",
};

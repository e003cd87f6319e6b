/**
 * A stream of the Responses API as the daemon's events. It has no `[DONE]`: the response's own end is the last event.
 * Pure: bytes in, events out.
 * @module
 */

import type { BackendFailure } from "../../errors.ts";
import { errorWords, EventReader } from "../http/event_reader.ts";

/** What the status of the same error would stand for; of what is wrong with the request, see {@linkcode kindOf}. */
const KINDS: ReadonlyMap<unknown, BackendFailure> = new Map<string, BackendFailure>([
  ["rate_limit_exceeded", "rate_limited"],
  ["insufficient_quota", "rate_limited"],
  ["server_error", "server_error"],
  ["server_is_overloaded", "server_error"],
  ["vector_store_timeout", "server_error"],
]);
/** Calls that an answer may have under way at once. */
const MAX_CALLS = 1_000;

/** The fields that are looked at, any of which may be missing, null or of another type. */
interface Event {
  readonly type?: unknown;
  readonly delta?: unknown;
  readonly output_index?: unknown;
  readonly summary_index?: unknown;
  readonly item?: {
    readonly type?: unknown;
    readonly call_id?: unknown;
    readonly name?: unknown;
    readonly arguments?: unknown;
    readonly input?: unknown;
  } | null;
  readonly annotation?: { readonly url?: unknown; readonly title?: unknown } | null;
  readonly response?: Response | null;
  readonly error?: unknown;
}
interface Response {
  readonly error?: unknown;
  readonly incomplete_details?: { readonly reason?: unknown } | null;
  readonly usage?: { readonly input_tokens?: unknown; readonly output_tokens?: unknown } | null;
}

/** Reads one answer. */
export class ResponseReader extends EventReader {
  /** The calls under way, by their place in the output: their number, and whether something of their input has come. */
  readonly #calls = new Map<unknown, { readonly number: number; begun: boolean }>();
  #callCount = 0;

  end(): void {
    if (!this.over) this.fail("truncated", "the stream ended before the response did");
  }

  sse(data: string, event: string): void {
    if (data === "" || data === "[DONE]") return;
    const said: Event | null = this.parse(data);
    if (said === null) return;
    switch (said.type) {
      case "response.output_text.delta":
      case "response.refusal.delta":
        return this.text(said.delta);
      case "response.reasoning_summary_text.delta":
      case "response.reasoning_text.delta":
        return void this.reasoning(said.delta);
      case "response.reasoning_summary_part.added":
        // Paragraphs, each with a heading.
        if (typeof said.summary_index === "number" && said.summary_index > 0) this.reasoning("\n\n");
        return;
      case "response.output_item.added":
        return this.#item(said);
      case "response.function_call_arguments.delta":
        return this.#piece(said, false);
      case "response.custom_tool_call_input.delta":
        return this.#piece(said, true);
      case "response.output_item.done":
        return this.#itemOver(said);
      case "response.output_text.annotation.added":
        return this.source(said.annotation?.url, said.annotation?.title);
      case "response.completed":
        return this.#finished(said.response, this.#callCount > 0 ? "tool_calls" : "stop");
      case "response.incomplete": {
        const reason = said.response?.incomplete_details?.reason;
        return this.#finished(said.response, reason === "content_filter" ? reason : "length");
      }
      case "response.failed":
        return this.#failed(said.response?.error, data);
    }
    if (said.type === "error" || event === "error") this.#failed(said.error ?? said, data);
    // What is not known says nothing to a browser, such as what the provider's own tools do.
  }

  #item({ item, output_index: place }: Event): void {
    const custom = item?.type === "custom_tool_call";
    if (!custom && item?.type !== "function_call") return;
    if (this.#calls.size >= MAX_CALLS) {
      return this.fail("malformed", `more than ${MAX_CALLS} calls under way at once`);
    }
    const input = custom ? item.input : item.arguments;
    this.#calls.set(place, { number: this.#callCount, begun: typeof input === "string" && input !== "" });
    this.toolCall(this.#callCount++, item.call_id, item.name, input, custom);
  }

  /** Some servers of this style send no pieces of a call: its item has the whole. */
  #itemOver({ item, output_index: place }: Event): void {
    const call = this.#calls.get(place);
    this.#calls.delete(place);
    if (call === undefined || call.begun) return;
    const custom = item?.type === "custom_tool_call";
    const input = custom ? item.input : item?.arguments;
    if (input) this.toolCall(call.number, undefined, undefined, input, custom);
  }

  #piece({ output_index: place, delta }: Event, custom: boolean): void {
    const call = this.#calls.get(place);
    if (call === undefined || delta === "") return;
    call.begun = true;
    this.toolCall(call.number, undefined, undefined, delta, custom);
  }

  #finished(response: Response | null | undefined, reason: string): void {
    this.counted(response?.usage?.input_tokens, response?.usage?.output_tokens);
    this.finish(reason);
    this.done();
  }

  #failed(error: unknown, data: string): void {
    const { code, message } = (error ?? {}) as { readonly code?: unknown; readonly message?: unknown };
    this.fail(kindOf(code), `the provider reports: ${errorWords({ code, message }, data)}`);
  }
}

function kindOf(code: unknown): BackendFailure {
  const kind = KINDS.get(code);
  if (kind !== undefined) return kind;
  const isRequests = typeof code === "string" &&
    /^(invalid|image|unsupported|empty|failed_to|context_length)_/.test(code);
  return isRequests ? "bad_request" : "stream_error";
}

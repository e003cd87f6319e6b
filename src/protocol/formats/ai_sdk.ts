/**
 * The format `ai-sdk`: Vercel's UI message stream, version 1, in the parts that the AI SDK 5 knows
 * (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol). Pure.
 * @module
 */
import type { StreamFailure } from "../../errors.ts";
import type { Include } from "../response_choice.ts";
import type { AnswerFormat, FurtherEvent } from "../stream_event.ts";
import { dataEvent, DONE_EVENT } from "./content.ts";

/** Of all calls of an answer, so much is kept until they are whole. */
const MAX_ARGUMENTS_CHARS = 1024 * 1024;
/** From the words of chat completions; all others are `other`. */
const REASONS = new Map([
  ["stop", "stop"],
  ["length", "length"],
  ["content_filter", "content-filter"],
  ["tool_calls", "tool-calls"],
  ["function_call", "tool-calls"],
]);
/** A stream that ends so was cut by the daemon, not broken by a failure. */
const CUTS: readonly StreamFailure[] = ["shutdown", "max_stream"];

interface Call {
  readonly toolCallId: string;
  readonly toolName: string;
  /** Its arguments are any text. */
  readonly custom: boolean;
  arguments: string;
  /** Some of them were left out. */
  cut: boolean;
}
type ToolCallEvent = Extract<FurtherEvent, { kind: "tool_call" }>;

/** See the module. */
export class AiSdkFormat implements AnswerFormat {
  readonly headers = "x-vercel-ai-ui-message-stream: v1\r\n";
  readonly #include: readonly Include[];
  #begun = false;
  /** The part under way, and its number. */
  #open: "text" | "reasoning" | undefined;
  #parts = 0;
  #sources = 0;
  /** By index, those that are not whole yet. */
  readonly #calls = new Map<number, Call>();
  #argumentsChars = 0;
  readonly #metadata: Record<string, unknown> = {};

  constructor(include: readonly Include[]) {
    this.#include = include;
  }

  text(text: string): string {
    return this.#piece("text", text);
  }

  further(event: FurtherEvent): string {
    switch (event.kind) {
      case "reasoning":
        return this.#include.includes("reasoning") ? this.#piece("reasoning", event.text) : "";
      case "tool_call":
        return this.#include.includes("tool_calls") ? this.#call(event) : "";
      case "source": {
        const { url, title } = event;
        return this.#begin() + dataEvent({ type: "source-url", sourceId: `${this.#sources++}`, url, title });
      }
      case "finish":
        if (this.#include.includes("finish")) {
          const { reason } = event;
          this.#metadata["finishReason"] = REASONS.get(reason) ?? "other";
        }
        return "";
      case "usage":
        if (this.#include.includes("usage")) {
          const { inputTokens, outputTokens } = event;
          this.#metadata["usage"] = { inputTokens, outputTokens, totalTokens: inputTokens + outputTokens };
        }
        return "";
      case "chunk":
        return "";
    }
  }

  end(): string {
    const messageMetadata = Object.keys(this.#metadata).length > 0 ? this.#metadata : undefined;
    return this.#begin() + this.#close() + this.#ended(() => true) + dataEvent({ type: "finish-step" }) +
      dataEvent({ type: "finish", messageMetadata }) + DONE_EVENT;
  }

  failure(failure: StreamFailure, text: string): string {
    // To be stopped is what somebody wanted, and no error.
    if (failure === "stopped") return this.#begin() + dataEvent({ type: "abort" });
    return this.#begin() + dataEvent({ type: "error", errorText: text }) +
      (CUTS.includes(failure) ? dataEvent({ type: "abort" }) : "");
  }

  #begin(): string {
    if (this.#begun) return "";
    this.#begun = true;
    return dataEvent({ type: "start" }) + dataEvent({ type: "start-step" });
  }

  #piece(kind: "text" | "reasoning", delta: string): string {
    let out = this.#begin();
    if (this.#open !== kind) {
      out += this.#close();
      this.#open = kind;
      out += dataEvent({ type: `${kind}-start`, id: `${this.#parts}` });
    }
    return out + dataEvent({ type: `${kind}-delta`, id: `${this.#parts}`, delta });
  }

  /** Ends the part under way, and the calls that are whole: others may go on, beside what another model says. */
  #close(): string {
    let out = "";
    if (this.#open !== undefined) out += dataEvent({ type: `${this.#open}-end`, id: `${this.#parts++}` });
    this.#open = undefined;
    return out + this.#ended(isWhole);
  }

  #ended(which: (call: Call) => boolean): string {
    let out = "";
    for (const [index, call] of this.#calls) {
      if (!which(call)) continue;
      out += whole(call);
      this.#calls.delete(index);
    }
    return out;
  }

  #call({ index, id, name, arguments: piece, custom = false }: ToolCallEvent): string {
    let out = this.#begin();
    let call = this.#calls.get(index);
    // Some servers give each call the index 0, whole, with an id of its own.
    if (call !== undefined && id !== undefined && id !== call.toolCallId) {
      out += whole(call);
      this.#calls.delete(index);
      call = undefined;
    }
    if (call === undefined) {
      if (this.#open !== undefined) out += this.#close();
      call = { toolCallId: id ?? `call-${index}`, toolName: name ?? "", custom, arguments: "", cut: false };
      this.#calls.set(index, call);
      out += dataEvent({ type: "tool-input-start", toolCallId: call.toolCallId, toolName: call.toolName });
    }
    if (piece === "") return out;
    this.#argumentsChars += piece.length;
    if (this.#argumentsChars <= MAX_ARGUMENTS_CHARS) call.arguments += piece;
    else call.cut = true;
    return out + dataEvent({ type: "tool-input-delta", toolCallId: call.toolCallId, inputTextDelta: piece });
  }
}

/** Whether its arguments have all come, as far as can be seen: of a function they are an object. */
function isWhole({ custom, arguments: text }: Call): boolean {
  if (custom) return true;
  if (!text.endsWith("}")) return false;
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** A call whose arguments have all come. */
function whole({ toolCallId, toolName, custom, arguments: text, cut }: Call): string {
  const failed = (errorText: string): string =>
    dataEvent({ type: "tool-input-error", toolCallId, toolName, input: text, errorText });
  if (cut) return failed("The arguments of the call are too long");
  try {
    const input: unknown = custom ? text : text === "" ? {} : JSON.parse(text);
    return dataEvent({ type: "tool-input-available", toolCallId, toolName, input });
  } catch {
    return failed("The arguments of the call are not JSON");
  }
}

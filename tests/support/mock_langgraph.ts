/**
 * How the stand-in speaks as a LangGraph server does that streams a run in the mode `messages-tuple`.
 * @module
 */
import type { Voice, Writer } from "./mock_llm_voices.ts";

/** What a server says of each message: long, and the same for all of a node. */
const METADATA = {
  created_by: "system",
  graph_id: "agent",
  assistant_id: "fe096781-5601-53d2-b2f6-0d3403f7e9ca",
  run_attempt: 1,
  langgraph_version: "1.0.0",
  langgraph_plan: "developer",
  langgraph_host: "self-hosted",
  langgraph_step: 1,
  langgraph_node: "call_model",
  langgraph_triggers: ["branch:to:call_model"],
  langgraph_path: ["__pregel_pull", "call_model"],
  ls_provider: "openai",
  ls_model_name: "gpt-4o",
  ls_model_type: "chat",
  tags: [],
};

class LangGraphWriter implements Writer {
  readonly #runId: string;
  #number = 0;
  #calls = 0;

  constructor(runId: string) {
    this.#runId = runId;
  }

  begin(): string {
    return this.#event("metadata", { run_id: this.#runId, attempt: 1 }) +
      this.#event("messages", [{ type: "human", id: "human-1", content: "Hello" }, METADATA]);
  }

  text(content: string): string {
    return this.#chunk({ content });
  }

  think(reasoning: string): string {
    return this.#chunk({ additional_kwargs: { reasoning_content: reasoning } });
  }

  source(url: string, title: string): string {
    const annotations = [{ type: "citation", url, title }];
    return this.#chunk({ content: [{ type: "text", text: "", annotations, index: 0 }] });
  }

  call(id: string, name: string): string {
    return this.#callChunk({ id, name, args: "", index: this.#calls++ });
  }

  input(args: string): string {
    return this.#callChunk({ id: null, name: null, args, index: this.#calls - 1 });
  }

  alive(): string {
    return ": heartbeat\n\n";
  }

  finish(reason: string, output: number): string {
    const usage = { input_tokens: 7, output_tokens: output, total_tokens: 7 + output };
    return this.#chunk({ response_metadata: { finish_reason: reason || "stop", model_name: "gpt-4o" } }) +
      this.#chunk({ usage_metadata: usage });
  }

  mark(): string {
    return this.#event("end", null);
  }

  error(type: string, message: string): string {
    return this.#event("error", { error: type, message });
  }

  #callChunk(call: Readonly<Record<string, unknown>>): string {
    return this.#chunk({ tool_call_chunks: [{ ...call, type: "tool_call_chunk" }] });
  }

  #chunk(set: Readonly<Record<string, unknown>>): string {
    return this.#event("messages", [
      {
        content: "",
        additional_kwargs: {},
        response_metadata: {},
        type: "AIMessageChunk",
        name: null,
        id: `run--${this.#runId}`,
        tool_calls: [],
        invalid_tool_calls: [],
        usage_metadata: null,
        tool_call_chunks: [],
        ...set,
      },
      METADATA,
    ]);
  }

  // Ids are those of Redis streams, numbered here.
  #event(event: string, data: unknown): string {
    return `id: 1700000000000-${this.#number++}\r\nevent: ${event}\r\ndata: ${JSON.stringify(data)}\r\n\r\n`;
  }
}

/** See the module. */
export const LANGGRAPH: Voice = {
  writer: (_, path) => new LangGraphWriter(/\/runs\/([^/]+)\/stream/.exec(path)?.[1] ?? "run-1"),
  refused: (_, message) => ({ detail: message }),
  textEvent: "messages",
  callsReason: "tool_calls",
};

/**
 * A LangGraph server (https://docs.langchain.com/langsmith/agent-server-api), whose runs are streamed: one of its own,
 * one on a thread, or one that is under way already, which is joined.
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import type { BackendRequest } from "../backend.ts";
import type { AnswerListener, BodyReader, Dialect, Draft, Wanted } from "../http/dialect.ts";
import { cannotSay } from "../http/chat_words.ts";
import { FixedDraft } from "../http/fixed_draft.ts";
import { jsonHead } from "../http/head.ts";
import type { HttpOptions } from "../http/options.ts";
import { runBody } from "./request.ts";
import { RunReader } from "./run_reader.ts";

/** Of the keys of `backend.langgraph` in the configuration, those that are about requests. */
export interface LangGraphOptions extends Pick<HttpOptions, "apiKey" | "apiBase" | "headers" | "body"> {
  /** The assistant, or graph, of requests that name none. */
  readonly assistantId: string;
}

/** What a joined run is asked for: all that it has said so far, where the server keeps it. */
const JOIN = "stream?stream_mode=messages-tuple&cancel_on_disconnect=0";
const FROM_THE_BEGINNING = ["last-event-id", "-1"] as const;

/** See the module. */
export class LangGraph implements Dialect {
  readonly name = "langgraph";
  /** Of runs without a thread. */
  readonly #head: RequestHead;
  readonly #options: LangGraphOptions;

  constructor(options: LangGraphOptions) {
    this.#options = options;
    this.#head = jsonHead(options, "/runs/stream", [["x-api-key", options.apiKey]]);
  }

  get url(): URL {
    return this.#head.url;
  }

  draft(request: BackendRequest): Draft {
    const { threadId, runId } = request;
    if (threadId === undefined) return new FixedDraft(this.#head, () => this.#body(request));
    for (const [field, id] of [["thread_id", threadId], ["run_id", runId]]) {
      if (id === "." || id === "..") {
        // In a path these lead elsewhere, encoded or not.
        return new FixedDraft(this.#head, () => {
          throw cannotSay(`${field} is ${id}, which is the id of nothing`);
        });
      }
    }
    const thread = `../threads/${encodeURIComponent(threadId)}/runs/`;
    if (runId === undefined) {
      const head = { ...this.#head, url: new URL(`${thread}stream`, this.#head.url) };
      // The thread keeps each message, and would have this one twice.
      return new FixedDraft(head, () => this.#body(request), false);
    }
    return new FixedDraft({
      method: "GET",
      url: new URL(`${thread}${encodeURIComponent(runId)}/${JOIN}`, this.#head.url),
      headers: [...this.#head.headers.filter(([name]) => name !== "content-type"), FROM_THE_BEGINNING],
    }, () => "");
  }

  reader(listener: AnswerListener, wanted: Wanted): BodyReader {
    return new RunReader(listener, wanted);
  }

  #body(request: BackendRequest): string {
    return JSON.stringify(runBody(request, this.#options));
  }
}

/**
 * What one provider's API is to all that asks over HTTP and reads Server-Sent Events: the words of a request, and how
 * its answer is read. A new provider of that kind is an object of {@linkcode Dialect}.
 * @module
 */

import type { BackendError } from "../../errors.ts";
import type { RequestHead } from "../../upstream/exchange.ts";
import type { BackendRequest, StreamEvent } from "../backend.ts";
import type { Refused } from "./refusal.ts";

/** A provider's API. One object for all answers of a backend. */
export interface Dialect {
  /** The name in `backend.provider`, and the metrics' label. */
  readonly name: string;
  /** Where its answers are asked for. */
  readonly url: URL;
  /** Puts a request into its words. Throws nothing. */
  draft(request: BackendRequest): Draft;
  /** Reads one answer, whose request was accepted. */
  reader(listener: AnswerListener, wanted: Wanted): BodyReader;
}

/** One request on its way: what is sent, the first time and again. */
export interface Draft {
  /** One object for all requests that have the same: it is encoded once. */
  readonly head: RequestHead;
  /** Whether no harm is done where the provider takes it twice. */
  readonly repeatable: boolean;
  /**
   * The body, "" for none.
   *
   * @throws BackendError `bad_request`: what is asked cannot be said in this API; the message names the field
   */
  body(): string;
  /** The provider has taken it as it was sent last. */
  accepted(): void;
  /** @returns whether the next try says it otherwise, since the refusal is about a choice of the daemon's own */
  adapt(refused: Refused): boolean;
}

/** Reads the body of one answer. */
export interface BodyReader {
  /** @param bytes the next ones of the body; not kept after the return */
  push(bytes: Uint8Array): void;
  /** The body has ended, as HTTP has it. */
  end(): void;
  /** What it came by has failed, and no more comes. */
  broke(error: BackendError): void;
}

/** Who hears of an answer. After `done` or `failed`, nothing comes. */
export interface AnswerListener {
  event(event: StreamEvent): void;
  /** The provider marked the end. */
  done(): void;
  /** Messages quote what the provider sent. */
  failed(error: BackendError): void;
}

/** What is given besides texts, usage and the finish reason. */
export interface Wanted {
  readonly reasoning: boolean;
  readonly toolCalls: boolean;
  readonly sources: boolean;
  /** The chunks as they came, in the place of all that is said in them but usage and finish reason. */
  readonly chunks: boolean;
  /** Of the chunks, also those with counts of tokens alone: the daemon asks for them itself. */
  readonly counts: boolean;
}

/** For a client that asks for nothing else. */
export const ONLY_TEXT: Wanted = {
  counts: false,
  reasoning: false,
  toolCalls: false,
  sources: false,
  chunks: false,
};

/** What the client of a request is to have. In the format `openai` it has whatever the provider says. */
export function wantedOf({ format, include }: BackendRequest): Wanted {
  const chunks = format === "openai";
  return {
    reasoning: chunks || include.includes("reasoning"),
    toolCalls: chunks || include.includes("tool_calls"),
    sources: format === "ai-sdk",
    chunks,
    counts: include.includes("usage"),
  };
}

/**
 * The types of a backend of one's own. They are all that there is to import, with `import type`, so that nothing of it is
 * needed when the daemon runs: this file may lie beside the backend, or be left out.
 * @module
 */

/** The default export of the module. Called once at the start, to see whether it can, and once in each worker. */
export type MakeBackend = (
  options: Readonly<Record<string, unknown>>,
) => OwnBackend | Promise<OwnBackend>;

/** What it gives. */
export interface OwnBackend {
  /**
   * Gives the answer as it comes; texts may be plain strings. A stream that closes is an answer that is whole; an error,
   * thrown here or in the stream, is one that has failed, see {@linkcode Failure}.
   *
   * @param signal aborts when nobody wants the answer any more: the client has gone, or it took too long
   */
  stream(request: BackendRequest, signal: AbortSignal): AnswerStream | Promise<AnswerStream>;
  /** The daemon ends, or has a new configuration: releases what the answers share. */
  close?(): void | Promise<void>;
}

/** It is read no faster than the client takes it. */
export type AnswerStream = ReadableStream<StreamEvent | string>;

/** What is asked: the handoff's data, checked, with the defaults filled in. */
export interface BackendRequest {
  readonly requestId: string;
  /** Never empty. */
  readonly messages: readonly ChatMessage[];
  readonly model: string;
  readonly maxTokens?: number;
  readonly maxCompletionTokens?: number;
  readonly temperature?: number;
  readonly userId?: string;
  /** Of the handoff's `request`. */
  readonly members?: Readonly<Record<string, unknown>>;
  readonly format: "content" | "openai" | "ai-sdk";
  readonly include: readonly ("usage" | "finish" | "reasoning" | "tool_calls")[];
}

/** One message, with whatever else the handoff has in it. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly unknown[] | null;
}

/** One step of an answer. `reasoning`, `tool_call` and `source` reach those alone who ask for them. */
export type StreamEvent =
  /** The provider has accepted: the head of the response may go out. */
  | { readonly kind: "open" }
  | { readonly kind: "text"; readonly text: string }
  /** The provider lives: the time-out begins anew. */
  | { readonly kind: "alive" }
  | { readonly kind: "usage"; readonly inputTokens: number; readonly outputTokens: number }
  /** Why the model stopped: `stop`, `length`, … */
  | { readonly kind: "finish"; readonly reason: string }
  | { readonly kind: "reasoning"; readonly text: string }
  /** A piece of a call; the first one of an index has id and name, and all pieces of `arguments` are JSON together. */
  | {
    readonly kind: "tool_call";
    readonly index: number;
    readonly id?: string;
    readonly name?: string;
    readonly arguments: string;
  }
  | { readonly kind: "source"; readonly url: string; readonly title?: string }
  /** The whole answer has come. */
  | { readonly kind: "end" };

/** What an error may have besides its message, which goes into the log; without it, it counts as `other`. */
export interface Failure extends Error {
  readonly kind:
    | "unavailable"
    | "timeout"
    | "auth"
    | "not_found"
    | "rate_limited"
    | "bad_request"
    | "server_error"
    | "malformed"
    | "truncated"
    | "stream_error"
    | "other";
}

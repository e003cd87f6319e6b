/**
 * What a backend is. Everything that someone needs in order to add one stands on this page.
 *
 * The simple way is a function from a request to a Web `ReadableStream` of {@linkcode StreamEvent}s, which
 * `fromStreams` (`src/backend/from_streams.ts`) makes a {@linkcode Backend} of. The lean way is this interface itself:
 * one stream for all answers. Either way: write `src/backend/NAME.ts` that exports a function returning a `Backend`,
 * add it to `makeBackend` in `src/backend/mod.ts`, and its name and keys to `src/config/keys.ts`.
 *
 * The rules that the daemon relies on:
 *
 * 1. {@linkcode Backend.ask} returns at once and throws nothing; whatever fails is an event `error` with a
 *    `BackendError` (`src/errors.ts`), whose `kind` decides status, log field and metric.
 * 2. The first event other than `error` and `alive` says that the provider has accepted: it makes the daemon write
 *    `200 OK`. A failure before it becomes a 502 or 504; after it, an error event in the stream. So a backend with
 *    nothing to say yet, but a provider that said yes, gives `open`.
 * 3. A normal end is `end`; only then does the client get `[DONE]`. An end that the provider did not mark as one is
 *    an error of kind `truncated`. After `end` or `error` nothing follows.
 * 4. While an answer is paused its provider is read no further, so that backpressure reaches it. What was read already
 *    may still be given.
 * 5. When an answer is cancelled (the client went away, a time-out, a shutdown) everything that it holds is released
 *    at once: sockets, timers, memory; no event of it comes any more.
 * 6. Time-outs to the first event and between events are the daemon's affair: it cancels. A backend sets none.
 * 7. A backend shares nothing between requests but its connections; one request's trouble is never another's.
 * 8. `reasoning` and `tool_call` are given only where the request's `include` has them or its `format` is `openai`, `source`
 *    and `chunk` only where its `format` says so (`stream_event.ts`); no backend has to give those two. `usage` and `finish` are always
 *    given where the provider says them: the log and the metrics have them, too.
 *
 * @module
 */
import type { UpstreamStats } from "../ops/metrics/metrics.ts";
import type { HandoffRequest } from "../protocol/handoff_request.ts";
import type { EventBatch, Recipient } from "../protocol/stream_event.ts";

export type { UpstreamStats } from "../ops/metrics/metrics.ts";
export type { ChatMessage } from "../protocol/handoff_request.ts";
export type { EventBatch, Recipient, StreamEvent } from "../protocol/stream_event.ts";

/** What to ask: the handoff's data, checked, with the defaults filled in. */
export type BackendRequest = HandoffRequest;

/** A provider of answers. One per worker, made at its start and closed at its end or by a reload. */
export interface Backend {
  /** The name in `backend.provider`, and the metrics' label. */
  readonly name: string;

  /** Where its provider is, for traces; of one that is asked over a network. */
  readonly url?: URL;

  /** The events of all answers, in order: what one turn of the event loop brings is one chunk. Never fails. */
  readonly events: ReadableStream<EventBatch>;

  /**
   * Asks for an answer.
   *
   * @param recipient whose the answer's events are; only carried along
   */
  ask(request: BackendRequest, recipient: Recipient): Answer;

  /** For the metrics, where there are connections to tell of. */
  stats?(): UpstreamStats | undefined;

  /**
   * Releases what is shared between requests (pools). Nothing is asked after it; answers that are under way (a reload
   * replaced the backend) end undisturbed, then `events` closes and this resolves.
   */
  close(): Promise<void>;
}

/** One answer under way. After its last event these do nothing. */
export interface Answer {
  /** The client is full: read no further. */
  pause(): void;
  /** It has room again. */
  resume(): void;
  /** Nobody wants it any more. */
  cancel(): void;
}

/**
 * What a backend is. Everything that someone needs in order to add one stands on this page.
 *
 * A backend turns one request into one Web `ReadableStream` of {@linkcode StreamEvent}s. To add one:
 * write `src/backend/<name>.ts` that exports a function returning a {@linkcode Backend}, add its name to the
 * registry in `src/backend/mod.ts` and its keys to the schema in `src/config.ts`.
 *
 * The rules that the daemon relies on:
 *
 * 1. `stream()` returns at once and throws nothing; whatever fails, fails the stream (`controller.error`) with a
 *    `BackendError` (`src/errors.ts`), whose `kind` decides status, log field and metric.
 * 2. The first event, of any kind, says that the provider has accepted: it makes the daemon write `200 OK`. A
 *    failure before it becomes a 502 or 504; after it, an error event in the stream. So a backend with nothing to
 *    say yet, but a provider that said yes, emits `open`.
 * 3. A normal end is `controller.close()`; only then does the client get `[DONE]`. An end that the provider did
 *    not mark as one is an error of kind `truncated`.
 * 4. Use a high-water mark of 0 and produce in `pull`: the daemon reads one event at a time, and no further than its
 *    client takes them. That is how backpressure reaches the provider.
 * 5. When `signal` aborts or the stream is cancelled (the client went away, a time-out, a shutdown) everything that
 *    the request holds is released at once: sockets, timers, memory. Both may happen, in any order.
 * 6. Time-outs to the first event and between events are the daemon's affair: it aborts. A backend sets none.
 * 7. A backend shares nothing between requests but its connections; one request's trouble is never another's.
 *
 * @module
 */
import type { UpstreamStats } from "../ops/metrics/metrics.ts";
import type { HandoffRequest } from "../protocol/handoff_request.ts";

export type { UpstreamStats } from "../ops/metrics/metrics.ts";

export type { ChatMessage } from "../protocol/handoff_request.ts";

/** What to ask: the handoff's data, checked, with the defaults filled in. */
export type BackendRequest = HandoffRequest;

/**
 * One step of an answer. The set is closed; `text` is the only one the browser sees.
 *
 * - `open`: the provider accepted the request, nothing to show yet.
 * - `text`: a piece of the answer, whole in Unicode (no half of a surrogate pair).
 * - `usage`: what the answer cost, in tokens.
 * - `finish`: why the model stopped, in the provider's word (`stop`, `length`, `content_filter`, …).
 */
export type StreamEvent =
  | { readonly kind: "open" }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "usage"; readonly inputTokens: number; readonly outputTokens: number }
  | { readonly kind: "finish"; readonly reason: string };

/** A provider of answers. One per worker, made at its start and closed at its end. */
export interface Backend {
  /** The name in `backend.provider`, and the metrics' label. */
  readonly name: string;

  /**
   * Asks for an answer.
   *
   * @param request what to ask
   * @param signal aborts when nobody wants the answer any more
   * @returns the answer as it comes, high-water mark 0; fails with `BackendError` (`src/errors.ts`)
   */
  stream(request: BackendRequest, signal: AbortSignal): ReadableStream<StreamEvent>;

  /** For the metrics, where there are connections to tell of. */
  stats?(): UpstreamStats;

  /**
   * Releases what is shared between requests (pools). No stream is begun after it; streams that are under way (a
   * reload replaced the backend) end undisturbed and release theirs.
   */
  close(): Promise<void>;
}

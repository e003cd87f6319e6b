/**
 * One handoff from its arrival to the close of its client.
 * @module
 */
import type { Backend, BackendRequest, StreamEvent } from "../backend/backend.ts";
import type { Client, ClientOwner, ClientSink, Socket } from "./client_sink.ts";
import type { Deadline, DeadlineOwner, Deadlines } from "../timing/timer_wheel.ts";
import type { Drain, Drainable } from "./connection_set.ts";
import { BackendError, HandoffRequestError, type StreamFailure } from "../errors.ts";
import { parseHandoffRequest, type RequestDefaults } from "../protocol/handoff_request.ts";
import type { Log } from "../ops/log/log.ts";
import type { Metrics } from "../ops/metrics/metrics.ts";
import type { Outbox } from "./outbox.ts";
import { plainResponse, type PlainStatus, STREAM_HEAD } from "../protocol/http_response.ts";
import { DONE_EVENT, errorEvent, textEvent } from "../protocol/sse.ts";

/** What the connections of one worker share. */
export interface ConnectionParts {
  readonly outbox: Outbox<Client>;
  readonly sink: ClientSink;
  readonly deadlines: Deadlines;
  readonly drain: Drain;
  readonly metrics: Metrics;
  readonly log: Log;
  /** Replaced by a reload; a connection keeps the one it began with. */
  readonly backend: Backend;
  readonly defaults: RequestDefaults;
  /** To the first event, and from one to the next, in milliseconds. */
  readonly backendTimeoutMs: number;
}

/** A handoff, as far as a connection needs it. */
export interface AcceptedHandoff {
  /** Valid only during the call. */
  readonly payload: Uint8Array;
  /** Whether the daemon has more clients than it may. */
  readonly overLimit: boolean;
}

/** What a client reads when its stream breaks after the head. */
const FAILURE_TEXT: Record<StreamFailure, string> = {
  client_disconnected: "Client disconnected",
  write_timeout: "Write timeout",
  backend_timeout: "Backend timeout",
  backend_error: "Backend error",
  shutdown: "Server is shutting down",
  other: "Internal error",
};

/** One client and its answer. Ends by itself: every wait of it has a deadline. */
export class Connection implements ClientOwner, DeadlineOwner, Drainable {
  readonly #parts: ConnectionParts;
  readonly #client: Client;
  readonly #startedAt = performance.now();
  #request: BackendRequest | undefined;
  #abort: AbortController | undefined;
  #reader: ReadableStreamDefaultReader<StreamEvent> | undefined;
  #backendDeadline: Deadline | undefined;
  #headSent = false;
  #lastPushed = false;
  #events = 0;
  #usage: { inputTokens: number; outputTokens: number } | undefined;
  #finishReason: string | undefined;
  #failure: StreamFailure | undefined;

  /** Takes over the socket. {@linkcode Connection.begin} follows at once. */
  constructor(parts: ConnectionParts, socket: Socket) {
    this.#parts = parts;
    this.#client = parts.sink.adopt(socket, this);
    parts.drain.enter(this);
    parts.metrics.connectionOpened();
  }

  /** Answers the handoff: reads its data during the call, all else follows by itself. */
  begin({ payload, overLimit }: AcceptedHandoff): void {
    const { metrics, log, defaults } = this.#parts;
    if (overLimit) {
      metrics.connectionRejected();
      log.warning("Connection limit reached, client answered 503");
      return this.#answer(503, "Too many connections");
    }
    try {
      this.#request = parseHandoffRequest(payload, defaults);
    } catch (error) {
      if (!(error instanceof HandoffRequestError)) throw error;
      metrics.handoffFailed("bad_request");
      log.warning("Handoff data refused, client answered 400", { reason: error.message });
      return this.#answer(400, error.message);
    }
    this.#openBackend(this.#request);
  }

  /** Ends the stream early because the daemon stops: an error event, or 503 before the head. */
  shutDown(): void {
    this.#fail("shutdown");
  }

  #openBackend(request: BackendRequest): void {
    const { backend, metrics, deadlines, backendTimeoutMs } = this.#parts;
    metrics.streamStarted();
    metrics.backendRequest(backend.name);
    this.#abort = new AbortController();
    try {
      this.#reader = backend.stream(request, this.#abort.signal).getReader();
    } catch (error) {
      return this.#backendFailed(error); // against the rules of a backend, and yet nobody else's trouble
    }
    this.#backendDeadline = deadlines.after(backendTimeoutMs, this);
    this.#pump(this.#reader).catch((error) => this.#backendFailed(error));
  }

  async #pump(reader: ReadableStreamDefaultReader<StreamEvent>): Promise<void> {
    while (true) {
      const { done, value } = await reader.read();
      if (this.#failure !== undefined) return;
      // A client that is full stops its own reader: the backend is pulled no further, and its time stands still.
      if (this.#client.full) {
        this.#backendDeadline?.cancel();
        await this.#client.room();
        if (this.#failure !== undefined) return;
      }
      this.#backendDeadline?.extend();
      if (done) break;
      if (this.#take(value)) await this.#parts.outbox.nextTurn();
    }
    this.#stopBackend(undefined);
    this.#pushLast(this.#headSent ? DONE_EVENT : STREAM_HEAD + DONE_EVENT);
  }

  // Returns whether this client has had its share of the turn.
  #take(event: StreamEvent): boolean {
    let text = "";
    if (event.kind === "text") {
      text = textEvent(event.text);
      this.#events++;
      this.#parts.metrics.eventSent();
    } else if (event.kind === "usage") this.#usage = event;
    else if (event.kind === "finish") this.#finishReason = event.reason;
    if (!this.#headSent) {
      this.#headSent = true;
      text = STREAM_HEAD + text;
      this.#parts.metrics.backendFirstEvent((performance.now() - this.#startedAt) / 1000);
    }
    return text !== "" && this.#parts.outbox.push(this.#client, text);
  }

  /** The backend was silent for too long. */
  deadlineReached(): void {
    this.#parts.metrics.backendError(this.#parts.backend.name, "timeout");
    this.#logFailure(`Backend gave nothing for ${this.#parts.backendTimeoutMs} ms`, {});
    this.#fail("backend_timeout");
  }

  #backendFailed(error: unknown): void {
    if (this.#failure !== undefined) return; // what cancelling it brought about
    const { backend, metrics } = this.#parts;
    const kind = error instanceof BackendError ? error.kind : "other";
    metrics.backendError(backend.name, kind);
    this.#logFailure("Backend failed", { kind, error });
    this.#fail(kind === "timeout" ? "backend_timeout" : "backend_error");
  }

  // Tells the client, as far as it can still be told, and ends.
  #fail(failure: StreamFailure): void {
    if (this.#lastPushed || this.#client.ended) return;
    this.#failure = failure;
    this.#stopBackend(failure);
    if (this.#headSent) this.#pushLast(errorEvent(FAILURE_TEXT[failure]));
    else if (failure === "shutdown") this.#answer(503, FAILURE_TEXT.shutdown);
    else if (failure === "backend_timeout") this.#answer(504, FAILURE_TEXT.backend_timeout);
    else this.#answer(502, "Backend unavailable");
  }

  #answer(status: PlainStatus, line: string): void {
    this.#pushLast(plainResponse(status, line));
  }

  // Nothing may follow, even while the client is too full to take it.
  #pushLast(text: string): void {
    this.#lastPushed = true;
    this.#parts.outbox.pushLast(this.#client, text);
  }

  #stopBackend(failure: StreamFailure | undefined): void {
    this.#backendDeadline?.cancel();
    if (this.#reader === undefined) return;
    this.#parts.metrics.backendDone((performance.now() - this.#startedAt) / 1000);
    if (failure !== undefined) {
      const reason = new DOMException(FAILURE_TEXT[failure], "AbortError");
      this.#abort?.abort(reason);
      this.#reader.cancel(reason).catch((error) => {
        this.#parts.log.debug("Backend failed while it was cancelled", { ...this.#identity(), error });
      });
    }
    this.#reader = undefined;
    this.#abort = undefined;
  }

  /** The client's socket is closed. */
  clientEnded(failure: StreamFailure | undefined): void {
    const { metrics, drain } = this.#parts;
    this.#failure ??= failure;
    this.#stopBackend(failure);
    if (this.#request !== undefined) {
      const durationSecs = (performance.now() - this.#startedAt) / 1000;
      metrics.streamEnded(durationSecs, this.#failure);
      this.#logEnd(this.#request, durationSecs);
    }
    drain.leave(this);
  }

  #logEnd(request: BackendRequest, durationSecs: number): void {
    const { metrics, log, backend } = this.#parts;
    if (this.#usage !== undefined) {
      metrics.tokensUsed(request.model, this.#usage.inputTokens, this.#usage.outputTokens);
    }
    if (!log.enabled("info")) return;
    log.info(this.#failure === undefined ? "Stream complete" : "Stream ended early", {
      ...this.#identity(),
      backend: backend.name,
      model: request.model,
      duration_ms: Math.round(durationSecs * 1000),
      events: this.#events,
      ...(this.#failure === undefined ? {} : { reason: this.#failure }),
      ...(this.#finishReason === undefined ? {} : { finish_reason: this.#finishReason }),
      ...(this.#usage === undefined
        ? {}
        : { input_tokens: this.#usage.inputTokens, output_tokens: this.#usage.outputTokens }),
    });
  }

  #logFailure(message: string, fields: Record<string, unknown>): void {
    this.#parts.log.warning(message, { ...this.#identity(), backend: this.#parts.backend.name, ...fields });
  }

  #identity(): Record<string, unknown> {
    const { requestId, userId } = this.#request ?? {};
    return { request_id: requestId, ...(userId === undefined ? {} : { user_id: userId }) };
  }
}

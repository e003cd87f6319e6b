/**
 * One handoff from its arrival to the close of its client: the client, its answer and its time-out in one object.
 * @module
 */
import type { Answer, Backend, BackendRequest } from "../backend/backend.ts";
import type { EventQueue } from "../backend/event_queue.ts";
import {
  type BackendError,
  type HandoffFailure,
  HandoffRequestError,
  type StreamFailure,
} from "../errors.ts";
import type { ClientEvents, Handoff } from "../native/reactor.ts";
import type { Log } from "../ops/log/log.ts";
import type { Metrics } from "../ops/metrics/metrics.ts";
import type { StreamTrace, Tracing } from "../ops/tracing.ts";
import { parseHandoffRequest, type RequestRules } from "../protocol/handoff_request.ts";
import { formatFor } from "../protocol/formats/choose.ts";
import type { PlainStatus } from "../protocol/http_response.ts";
import { failureOf } from "../protocol/sse.ts";
import type { AnswerFormat, ClientEvent, Recipient } from "../protocol/stream_event.ts";
import { Timer, type TimerWheel } from "../timing/timer_wheel.ts";
import type { Clients } from "./clients.ts";
import type { ConnectionSet } from "./connection_set.ts";
import type { LoadShedding } from "./load_shedding.ts";

/** What the connections of one worker share. */
export interface ConnectionParts {
  readonly clients: Pick<Clients, "sendKept">;
  readonly sockets: Sockets;
  readonly wheel: TimerWheel;
  readonly connections: ConnectionSet;
  /** Is told of what is kept of requests. */
  readonly shedding: Pick<LoadShedding, "hold" | "release">;
  /** For what the daemon itself says to clients. */
  readonly own: EventQueue;
  readonly metrics: Metrics;
  /** Where OpenTelemetry is asked for. */
  readonly tracing?: Tracing | undefined;
  readonly log: Log;
  /** Replaced by a reload; an answer keeps the one it began with. */
  readonly backend: Backend;
  readonly rules: RequestRules;
  /** To the first event, and from one to the next, in milliseconds. */
  readonly backendTimeoutMs: number;
  /** Silence after which a client gets a sign of life, in milliseconds; 0: none. */
  readonly heartbeatMs: number;
  /** How long a client may take nothing, in milliseconds. */
  readonly writeTimeoutMs: number;
}

/** Where a client's socket is closed: the reactor. */
export interface Sockets {
  /** Closes it at once (close(2)). */
  close(client: number): void;
  /** The shim has closed it after its last bytes. */
  closedByEnd(client: number): void;
}

/** What a client that was handed over in vain is told. */
const REFUSALS: Partial<Record<HandoffFailure, readonly [PlainStatus, string]>> = {
  payload_truncated: [413, "Handoff data is too long"],
};
/** One for all. */
const HEARTBEAT: ClientEvent = { kind: "heartbeat" };
const ETIMEDOUT = 110;
/** What waits for one client at most: more than a backend that was told to pause can still give. */
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/** See the module. Ends by itself: every wait of it has a time-out. */
export class Connection extends Timer implements Recipient, ClientEvents {
  readonly id: number;
  ended = false;
  headSent = false;
  headers = "";
  format: AnswerFormat | null = null;
  frame = "";
  frameEnds = false;
  readonly #parts: ConnectionParts;
  /** When its handoff came, on the clock of performance.now. */
  readonly startedMs = performance.now();
  #requestId = "";
  #userId: string | undefined;
  /** Set as long as a backend has been asked. */
  #model: string | undefined;
  #answer: Answer | undefined;
  #trace: StreamTrace | undefined;
  /** Of the request, until the provider has taken it. */
  #requestBytes = 0;
  #kept: Uint8Array<ArrayBuffer> | undefined;
  #endKept = false;
  /** The last event was taken note of: nothing may follow. */
  #over = false;
  /** The backend has given its first event. */
  #begun = false;
  /** When the backend's time is over, on the wheel's clock; 0: its time and the wheel's wait began together. */
  #backendDueMs = 0;
  #events = 0;
  #usage: { readonly inputTokens: number; readonly outputTokens: number } | undefined;
  #finishReason: string | undefined;
  #failure: StreamFailure | undefined;

  /** Takes over a client and answers it. Reads the handoff's data during the call, all else follows by itself. */
  constructor(parts: ConnectionParts, handoff: Handoff, stopping: boolean) {
    super();
    this.id = handoff.client;
    this.#parts = parts;
    parts.connections.add(this);
    parts.metrics.connectionOpened();
    const request = this.#admit(handoff, stopping);
    if (request !== undefined) this.#ask(request, handoff.payload.length);
  }

  // Returns the request, or nothing if the client was told why not.
  #admit(handoff: Handoff, stopping: boolean): BackendRequest | undefined {
    const { metrics, rules } = this.#parts;
    if (handoff.refusal !== undefined) {
      // It was counted and logged where it was judged.
      this.#refuse(...REFUSALS[handoff.refusal] ?? [503, "Handoff refused"]);
    } else if (stopping) this.#refuse(503, "Server is shutting down");
    else if (handoff.overLimit || handoff.noRoom) {
      metrics.connectionRejected();
      this.#logRefusal(
        handoff.overLimit
          ? "Connection limit reached, client answered 503"
          : "No worker has memory left for more, client answered 503",
        {},
      );
      this.#refuse(503, handoff.overLimit ? "Too many connections" : "Too many requests at a time");
    } else {
      try {
        return parseHandoffRequest(handoff.payload, rules);
      } catch (error) {
        if (!(error instanceof HandoffRequestError)) throw error;
        metrics.handoffFailed("bad_request");
        this.#logRefusal("Handoff data refused, client answered 400", { reason: error.message });
        this.#refuse(400, error.message);
      }
    }
    return undefined;
  }

  #logRefusal(message: string, fields: Record<string, unknown>): void {
    this.#requestId = this.#parts.rules.makeRequestId();
    this.#parts.log.child("handoff").warning(message, { ...this.#identity(), ...fields });
  }

  #refuse(status: PlainStatus, line: string): void {
    this.#parts.own.push(this, { kind: "refusal", status, line });
  }

  #ask(request: BackendRequest, requestBytes: number): void {
    const { backend, metrics, shedding, tracing } = this.#parts;
    this.#requestBytes = requestBytes;
    shedding.hold(requestBytes);
    this.#requestId = request.requestId;
    this.#userId = request.userId;
    this.#model = request.model;
    if (request.responseHeaders !== undefined) this.headers = request.responseHeaders;
    this.format = formatFor(request, Math.floor(Date.now() / 1000));
    metrics.streamStarted();
    metrics.backendRequest(backend.name);
    this.#trace = tracing?.begin(request, backend, this.startedMs);
    this.#waitForBackend();
    this.#answer = backend.ask(request, this);
  }

  /** Ends the stream early because the daemon stops. */
  shutDown(): void {
    this.#cut("shutdown");
  }

  /** Ends the stream early because it has lasted too long. */
  outlived(): void {
    if (!this.#over) this.#cut("max_stream");
  }

  /** Ends without a word, as the last resort of a drain. */
  close(): void {
    this.#abort("shutdown");
  }

  #cut(failure: StreamFailure): void {
    this.#cancelAnswer();
    this.#parts.own.push(this, { kind: "cut", failure });
  }

  note(event: ClientEvent): boolean {
    if (this.#over || this.ended) return false;
    const { metrics } = this.#parts;
    switch (event.kind) {
      case "heartbeat":
        return true;
      case "text":
      case "reasoning":
      case "tool_call":
      case "chunk":
        if (++this.#events === 1) this.#trace?.firstText();
        metrics.eventSent();
        break;
      case "usage":
        this.#usage = event;
        break;
      case "finish":
        this.#finishReason = event.reason;
        break;
      case "end":
        this.#lastEvent(undefined);
        break;
      case "error":
        this.#backendFailed(event.error);
        this.#lastEvent(failureOf(event.error.kind));
        break;
      case "cut":
        this.#lastEvent(event.failure);
        break;
      case "refusal":
        this.#lastEvent(undefined);
        break;
    }
    if (event.kind !== "alive") this.#releaseRequest();
    if (!this.#begun && this.#failure === undefined && event.kind !== "alive" && event.kind !== "refusal") {
      this.#begun = true;
      metrics.backendFirstEvent((performance.now() - this.startedMs) / 1000);
    }
    // While a client is full the time is its own.
    if (this.#answer !== undefined && !this.full) this.#backendGave(event);
    return true;
  }

  #backendGave(event: ClientEvent): void {
    const { wheel, heartbeatMs, backendTimeoutMs } = this.#parts;
    if (event.kind !== "alive" || heartbeatMs === 0) this.#waitForBackend();
    else this.#backendDueMs = wheel.now() + backendTimeoutMs; // for the client this was silence
  }

  // One timer for both: the next sign of life, or the end of the backend's time.
  #waitForBackend(): void {
    if (this.#backendDueMs !== 0) this.#backendDueMs = 0;
    this.#parts.wheel.set(this, firstWaitMs(this.#parts));
  }

  #lastEvent(failure: StreamFailure | undefined): void {
    this.#over = true;
    this.#failure = failure;
    if (this.#answer !== undefined) this.#answerEnded();
  }

  #answerEnded(): void {
    this.#answer = undefined;
    this.#releaseRequest();
    this.#trace?.answered();
    this.#parts.metrics.backendDone((performance.now() - this.startedMs) / 1000);
  }

  // The backend has let go of it.
  #releaseRequest(): void {
    if (this.#requestBytes === 0) return;
    this.#parts.shedding.release(this.#requestBytes);
    this.#requestBytes = 0;
  }

  #cancelAnswer(): void {
    const answer = this.#answer;
    if (answer === undefined) return;
    this.#answerEnded();
    answer.cancel();
  }

  #backendFailed(error: BackendError): void {
    this.#parts.metrics.backendError(this.#parts.backend.name, error.kind);
    this.#trace?.failed(error.kind);
    this.#logFailure("Backend failed", { kind: error.kind, error });
  }

  get full(): boolean {
    return this.#kept !== undefined;
  }

  sent(result: number, data: Uint8Array<ArrayBuffer>, offset: number, length: number, end: boolean): void {
    if (this.ended) return;
    if (result < 0) this.gone(-result);
    else if (result < length) this.#keep(data.slice(offset + result, offset + length), end, result > 0);
    else if (end) {
      this.#parts.sockets.closedByEnd(this.id);
      this.#finish(undefined);
    } else if (this.#kept !== undefined) this.#drained();
  }

  #keep(rest: Uint8Array<ArrayBuffer>, end: boolean, progress: boolean): void {
    if (rest.length > MAX_KEPT_BYTES) return this.#tooMuch();
    const isNew = this.#kept === undefined;
    this.#kept = rest;
    this.#endKept = end;
    if (isNew) this.#answer?.pause();
    if (isNew || progress) this.#parts.wheel.set(this, this.#parts.writeTimeoutMs);
  }

  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    const kept = this.#kept ?? new Uint8Array();
    if (kept.length + bytes.length > MAX_KEPT_BYTES) return this.#tooMuch();
    const joined = new Uint8Array(kept.length + bytes.length);
    joined.set(kept);
    joined.set(bytes, kept.length);
    this.#kept = joined;
    this.#endKept ||= end;
  }

  #tooMuch(): void {
    this.#logFailure("More came for a client than is kept while it takes nothing", {
      max_kept_bytes: MAX_KEPT_BYTES,
    });
    this.#abort("other");
  }

  #drained(): void {
    this.#kept = undefined;
    if (this.#answer === undefined) return;
    // The time-out of writing is over, that of the backend begins anew; it may well be the earlier one.
    this.#waitForBackend();
    this.#answer.resume();
  }

  writable(): void {
    if (this.#kept !== undefined) this.#parts.clients.sendKept(this, this.#kept, this.#endKept);
  }

  gone(errno: number): void {
    // The kernel gives up on bytes that stay unacknowledged for the write time-out (TCP_USER_TIMEOUT).
    this.#abort(errno === ETIMEDOUT ? "write_timeout" : "client_disconnected");
  }

  /** The client took nothing, or the backend gave nothing, for too long; or it is time for a sign of life. */
  timedOut(): void {
    if (this.full) return this.#abort("write_timeout");
    const { own, wheel, heartbeatMs, backendTimeoutMs } = this.#parts;
    const backendDueMs = this.#backendDueMs || this.dueMs + (backendTimeoutMs - firstWaitMs(this.#parts));
    if (backendDueMs <= this.dueMs) return this.#backendTimedOut();
    own.push(this, HEARTBEAT);
    this.#backendDueMs = backendDueMs;
    wheel.repeat(this, Math.min(heartbeatMs, backendDueMs - this.dueMs));
  }

  #backendTimedOut(): void {
    const { metrics, backend, backendTimeoutMs } = this.#parts;
    metrics.backendError(backend.name, "timeout");
    this.#logFailure(`Backend gave nothing for ${backendTimeoutMs} ms`, {});
    this.#cut("backend_timeout");
  }

  // Closes the socket at once; what was kept is dropped.
  #abort(failure: StreamFailure): void {
    if (this.ended) return;
    this.#parts.sockets.close(this.id);
    this.#finish(failure);
  }

  #finish(failure: StreamFailure | undefined): void {
    const { metrics, wheel, connections } = this.#parts;
    this.ended = true;
    this.#failure ??= failure;
    this.#kept = undefined;
    this.frame = "";
    wheel.cancel(this);
    this.#cancelAnswer();
    if (this.#model !== undefined) {
      const durationSecs = (performance.now() - this.startedMs) / 1000;
      metrics.streamEnded(durationSecs, this.#failure);
      this.#trace?.end({
        failure: this.#failure,
        finishReason: this.#finishReason,
        usage: this.#usage,
      });
      this.#logEnd(this.#model, durationSecs);
    }
    connections.delete(this);
  }

  #logEnd(model: string, durationSecs: number): void {
    const { metrics, log, backend } = this.#parts;
    if (this.#usage !== undefined) {
      metrics.tokensUsed(model, this.#usage.inputTokens, this.#usage.outputTokens);
    }
    if (!log.enabled("info")) return;
    log.info(this.#failure === undefined ? "Stream complete" : "Stream ended early", {
      ...this.#identity(),
      backend: backend.name,
      model,
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
    this.#parts.log.child("backend").warning(message, {
      ...this.#identity(),
      backend: this.#parts.backend.name,
      ...fields,
    });
  }

  #identity(): Record<string, unknown> {
    return {
      request_id: this.#requestId,
      ...(this.#userId === undefined ? {} : { user_id: this.#userId }),
    };
  }
}

/** How long a connection waits for its backend until there is something to do, in milliseconds. */
function firstWaitMs({ heartbeatMs, backendTimeoutMs }: ConnectionParts): number {
  return heartbeatMs > 0 && heartbeatMs < backendTimeoutMs ? heartbeatMs : backendTimeoutMs;
}

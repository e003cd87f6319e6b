/**
 * What is asked of a backend for one answer, from the request to its last event: time-out, metrics, trace, log.
 * @module
 */
import type { Answer, BackendRequest } from "../backend/backend.ts";
import type { EventQueue } from "../backend/event_queue.ts";
import { asBackendError, type BackendError, type BackendRefusal, type StreamFailure } from "../errors.ts";
import type { Log } from "../ops/log/log.ts";
import type { Metrics } from "../ops/metrics/metrics.ts";
import type { StreamTrace, Tracing } from "../ops/tracing.ts";
import { formatFor } from "../protocol/formats/choose.ts";
import { failureOf } from "../protocol/sse.ts";
import type { AnswerFormat, ClientEvent } from "../protocol/stream_event.ts";
import { Timer, type TimerWheel } from "../timing/timer_wheel.ts";
import type { Backends, Route } from "./backends.ts";
import type { ConnectionSet } from "./connection_set.ts";
import type { LoadShedding } from "./load_shedding.ts";
import { type Asker, isPlain, Tries } from "./tries.ts";

/** What the calls of one worker share. */
export interface CallParts {
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
  /** A reload changes them; an answer keeps the one it began with. */
  readonly backends: Pick<Backends, "route">;
  /** Silence after which a client gets a sign of life, in milliseconds; 0: none. */
  readonly heartbeatMs: number;
}

/** One for all. */
const HEARTBEAT: ClientEvent = { kind: "heartbeat" };

/** See the module. It is a base class, so that a client and its answer are one object. */
export abstract class BackendCall<Parts extends CallParts = CallParts> extends Timer implements Asker {
  abstract readonly id: number;
  abstract readonly ended: boolean;
  abstract readonly full: boolean;
  headSent = false;
  headers = "";
  format: AnswerFormat | null = null;
  frame = "";
  frameEnds = false;
  protected readonly parts: Parts;
  /** When its handoff came, on the wheel's clock, which is that of performance.now. */
  readonly startedMs: number;
  protected requestId = "";
  protected userId: string | undefined;
  /** Set as long as a backend has been asked. */
  protected model: string | undefined;
  /** Who was asked last. */
  #route: Route | undefined;
  protected answer: Answer | undefined;
  /** Of the try under way. */
  #trace: StreamTrace | undefined;
  #hasFailedTry = false;
  /** Of the request, until the provider has taken it. */
  #requestBytes = 0;
  /** The last event was taken note of: nothing may follow. */
  protected over = false;
  /** The backend has given its first event. */
  #begun = false;
  /** When the backend's time is over, on the wheel's clock; 0: its time and the wheel's wait began together. */
  #backendDueMs = 0;
  #events = 0;
  #usage: { readonly inputTokens: number; readonly outputTokens: number } | undefined;
  #finishReason: string | undefined;
  protected failure: StreamFailure | undefined;

  constructor(parts: Parts) {
    super();
    this.parts = parts;
    this.startedMs = parts.wheel.now();
  }

  abstract sent(
    result: number,
    data: Uint8Array<ArrayBuffer>,
    offset: number,
    length: number,
    end: boolean,
  ): void;
  abstract append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void;
  /** Nobody takes what comes for the moment, and the backend was told so. */
  protected abstract get waits(): boolean;

  /** What the log says of it from now on. */
  protected identify({ requestId, userId }: BackendRequest): void {
    this.requestId = requestId;
    this.userId = userId;
  }

  /** @param requestBytes what the request keeps in memory until the provider has taken it */
  protected ask(request: BackendRequest, requestBytes: number): void {
    const { backends, shedding, wheel } = this.parts;
    const route = backends.route(request.backend);
    this.#requestBytes = requestBytes;
    shedding.hold(requestBytes);
    this.identify(request);
    this.model = request.model;
    this.format = this.formatOf(request);
    if (route === undefined) return this.cut("backend_busy"); // a reload has taken it away since it was chosen
    this.#route = route;
    if (!isPlain(route)) {
      // One time for all that may come, the wait for a place included; before the wait is set, so that it is not later.
      const dueMs = wheel.now() + this.#timeoutMs;
      this.waitForBackend();
      this.#backendDueMs = dueMs;
      const tries = new Tries(this.parts, this);
      this.answer = tries;
      return tries.begin(route, request);
    }
    this.waitForBackend();
    this.#asked(route, request);
    try {
      this.answer = route.backend.ask(request, this);
    } catch (error) {
      // A bug of that backend's, which costs nobody else anything.
      this.parts.own.push(this, { kind: "error", error: asBackendError(error) });
    }
  }

  /** How the answer to a request is written. */
  protected formatOf(request: BackendRequest): AnswerFormat | null {
    return formatFor(request, Math.floor(Date.now() / 1000));
  }

  trying(route: Route, request: BackendRequest): void {
    this.#route = route;
    this.model = request.model;
    this.format = this.formatOf(request);
    this.#asked(route, request);
  }

  #asked(route: Route, request: BackendRequest): void {
    const { metrics, tracing } = this.parts;
    metrics.backendRequest(route.name);
    const fromMs = this.#hasFailedTry ? performance.now() : this.startedMs;
    this.#trace = tracing?.begin(request, route.backend, fromMs);
    this.#logStep("Backend asked");
  }

  tryFailed(route: Route, error: BackendError, next: Route): void {
    this.parts.metrics.backendError(route.name, error.kind);
    this.logFailure("Backend failed", { kind: error.kind, error, fallback: next.name });
    this.#trace?.failed(error.kind);
    this.#trace?.end({ failure: failureOf(error.kind), finishReason: undefined, usage: undefined });
    this.#trace = undefined; // the next one may well not be asked, and has none then
    this.#hasFailedTry = true;
  }

  tryRefused(route: Route, reason: BackendRefusal, next: Route | undefined): void {
    this.#route = route;
    this.parts.metrics.backendRefused(route.name, reason);
    this.logFailure("Backend not asked", { reason, ...(next === undefined ? {} : { fallback: next.name }) });
    if (next === undefined) this.cut("backend_busy");
  }

  /** Ends the answer early, and says so. */
  protected cut(failure: StreamFailure): void {
    this.cancelAnswer();
    this.parts.own.push(this, { kind: "cut", failure });
  }

  note(event: ClientEvent): boolean {
    if (this.over || this.ended) return false;
    const { metrics } = this.parts;
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
    if (!this.#begun && this.failure === undefined && event.kind !== "alive" && event.kind !== "refusal") {
      this.#begun = true;
      metrics.backendFirstEvent(this.lastedSecs());
      this.#logStep("Backend answers");
    }
    // While a client is full the time is its own.
    if (this.answer !== undefined && !this.waits) this.#backendGave(event);
    return true;
  }

  #backendGave(event: ClientEvent): void {
    const { wheel, heartbeatMs } = this.parts;
    if (event.kind !== "alive" || heartbeatMs === 0) this.waitForBackend();
    else this.#backendDueMs = wheel.now() + this.#timeoutMs; // for the client this was silence
  }

  /** One timer for both: the next sign of life, or the end of the backend's time. */
  protected waitForBackend(): void {
    if (this.#backendDueMs !== 0) this.#backendDueMs = 0;
    this.parts.wheel.set(this, this.#firstWaitMs());
  }

  /** How long it waits for its backend until there is something to do, in milliseconds. */
  #firstWaitMs(): number {
    const { heartbeatMs } = this.parts;
    const timeoutMs = this.#timeoutMs;
    return heartbeatMs > 0 && heartbeatMs < timeoutMs ? heartbeatMs : timeoutMs;
  }

  get #timeoutMs(): number {
    return (this.#route as Route).config.timeoutMs;
  }

  /** The backend gave nothing for too long, or it is time for a sign of life. */
  timedOut(): void {
    const { own, wheel, heartbeatMs } = this.parts;
    const backendDueMs = this.#backendDueMs || this.dueMs + (this.#timeoutMs - this.#firstWaitMs());
    if (backendDueMs <= this.dueMs) return this.#backendTimedOut();
    own.push(this, HEARTBEAT);
    this.#backendDueMs = backendDueMs;
    wheel.repeat(this, Math.min(heartbeatMs, backendDueMs - this.dueMs));
  }

  #backendTimedOut(): void {
    this.parts.metrics.backendError((this.#route as Route).name, "timeout");
    this.logFailure(`Backend gave nothing for ${this.#timeoutMs} ms`, {});
    if (this.answer instanceof Tries) this.answer.gaveNothing();
    this.cut("backend_timeout");
  }

  #lastEvent(failure: StreamFailure | undefined): void {
    this.over = true;
    this.failure = failure;
    if (this.answer !== undefined) this.#answerEnded();
  }

  #answerEnded(): void {
    this.answer = undefined;
    this.#releaseRequest();
    this.#trace?.answered();
    this.parts.metrics.backendDone(this.lastedSecs());
  }

  // The backend has let go of it.
  #releaseRequest(): void {
    if (this.#requestBytes === 0) return;
    this.parts.shedding.release(this.#requestBytes);
    this.#requestBytes = 0;
  }

  protected cancelAnswer(): void {
    this.#releaseRequest();
    const answer = this.answer;
    if (answer === undefined) return;
    this.#answerEnded();
    answer.cancel();
  }

  #backendFailed(error: BackendError): void {
    this.parts.metrics.backendError((this.#route as Route).name, error.kind);
    this.#trace?.failed(error.kind);
    this.logFailure("Backend failed", { kind: error.kind, error });
  }

  /** Since its handoff came. */
  protected lastedSecs(): number {
    return (this.parts.wheel.now() - this.startedMs) / 1000;
  }

  /** What there is to tell once all of it is over: trace, tokens, log. */
  protected summarize(what: string, model: string, durationSecs: number): void {
    this.#trace?.end({ failure: this.failure, finishReason: this.#finishReason, usage: this.#usage });
    if (this.#usage !== undefined) {
      this.parts.metrics.tokensUsed(model, this.#usage.inputTokens, this.#usage.outputTokens);
    }
    this.logEnd(what, durationSecs, model);
  }

  /** @param model that was asked, if one was */
  protected logEnd(what: string, durationSecs: number, model?: string): void {
    const { log } = this.parts;
    if (!log.enabled("info")) return;
    log.info(this.failure === undefined ? `${what} complete` : `${what} ended early`, {
      ...this.identity(),
      ...(model === undefined ? {} : { backend: this.#route?.name, model, events: this.#events }),
      duration_ms: Math.round(durationSecs * 1000),
      ...(this.failure === undefined ? {} : { reason: this.failure }),
      ...(this.#finishReason === undefined ? {} : { finish_reason: this.#finishReason }),
      ...(this.#usage === undefined
        ? {}
        : { input_tokens: this.#usage.inputTokens, output_tokens: this.#usage.outputTokens }),
    });
  }

  /** For who wants to see each step on the way to the provider. */
  #logStep(message: string): void {
    const log = this.parts.log.child("backend");
    if (!log.enabled("debug")) return;
    log.debug(message, {
      ...this.identity(),
      backend: this.#route?.name,
      model: this.model,
      after_ms: Math.round(this.lastedSecs() * 1000),
    });
  }

  protected logFailure(message: string, fields: Record<string, unknown>): void {
    this.parts.log.child("backend").warning(message, {
      ...this.identity(),
      ...(this.#route === undefined ? {} : { backend: this.#route.name }),
      ...fields,
    });
  }

  /** What tells it from others in the log. */
  protected identity(): Record<string, unknown> {
    return {
      request_id: this.requestId,
      ...(this.userId === undefined ? {} : { user_id: this.userId }),
    };
  }
}

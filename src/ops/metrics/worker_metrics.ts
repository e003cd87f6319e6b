/**
 * What happens in one worker, counted for Prometheus.
 * @module
 */
import {
  type BackendFailure,
  type BackendRefusal,
  HANDOFF_FAILURES,
  type HandoffFailure,
  STREAM_FAILURES,
  type StreamFailure,
} from "../../errors.ts";
import { modelLabel } from "../model_label.ts";
import { Counter } from "./counter.ts";
import { DurationHistogram } from "./duration_histogram.ts";
import {
  type Metrics,
  STREAM_OUTCOMES,
  type StreamOutcome,
  type StreamStats,
  type UpstreamStats,
} from "./metrics.ts";
import { metric, type MetricSnapshot, type MetricsSnapshot } from "./snapshot.ts";
import type { StreamGauge } from "./stream_gauge.ts";

/** What there is to tell of a backend now. */
export interface BackendState {
  readonly name: string;
  /** How many wait for a place; undefined where there is no limit. */
  readonly waiting: number | undefined;
  /** Whether it is left alone, since it fails; undefined where it is always asked. */
  readonly circuitOpen: boolean | undefined;
}

/** What a {@linkcode WorkerMetrics} is made of. */
export interface WorkerMetricsParts {
  readonly streams: StreamGauge;
  /** The models that have a series of their own; tokens of others are counted as those of `other`. */
  models(): readonly string[];
  /** How long the oldest stream has been running; 0 if there is none. */
  oldestSecs?(): number;
  /** What the backend tells of its connections; asked for each snapshot. */
  upstream?(): UpstreamStats | undefined;
  /** What there is to tell of each backend: how many wait for it, and whether it is left alone; asked for each snapshot. */
  backends?(): readonly BackendState[];
  /** What there is of streams that have an id; asked for each snapshot. */
  resumable?(): StreamStats;
}

const UPSTREAM_METRICS = [
  ["connections", "gauge", "daemon_upstream_connections", "Connections to providers that are open"],
  ["streams", "gauge", "daemon_upstream_streams", "Requests under way over them"],
  ["waiting", "gauge", "daemon_upstream_waiting", "Requests that wait for a connection"],
  [
    "opened",
    "counter",
    "daemon_upstream_connections_opened_total",
    "Connections to providers that were opened",
  ],
  [
    "failedDials",
    "counter",
    "daemon_upstream_connect_failures_total",
    "Connections that could not be opened",
  ],
  ["retries", "counter", "daemon_upstream_retries_total", "Requests that were tried again"],
  [
    "cancelled",
    "counter",
    "daemon_upstream_cancelled_total",
    "Requests given up, as a rule since the client left",
  ],
] as const;

const RESUME_METRICS = [
  ["live", "gauge", "daemon_resume_streams_live", "Streams with an id that are under way"],
  ["kept", "gauge", "daemon_resume_streams_kept", "Streams with an id that have ended and are kept"],
  ["bytes", "gauge", "daemon_resume_bytes", "Memory of the streams with an id"],
  [
    "evicted",
    "counter",
    "daemon_resume_evicted_total",
    "Streams forgotten before their time, since others needed the room",
  ],
  [
    "unsaved",
    "counter",
    "daemon_resume_unsaved_total",
    "Streams whose copy in the store was given up, since the store could not take it",
  ],
] as const;

/** The age of the oldest stream; the largest of all workers' counts. */
export const OLDEST_METRIC = "daemon_stream_oldest_seconds";

/** `daemon_handoffs_failed`, every reason at zero: workers and the daemon itself refuse handoffs. */
export const handoffsFailedCounter = (): Counter<"reason"> =>
  new Counter("daemon_handoffs_failed", "Handoffs refused", HANDOFF_FAILURES.map((reason) => ({ reason })));

/** `daemon_stream_errors_total`, every reason at zero: streams end in workers, or with them. */
export const streamErrorsCounter = (): Counter<"reason"> =>
  new Counter(
    "daemon_stream_errors_total",
    "Streams that did not end with [DONE]",
    STREAM_FAILURES.map((reason) => ({ reason })),
  );

/** Counts for Prometheus what happens in one worker, in numbers. */
export class WorkerMetrics implements Metrics {
  readonly #parts: WorkerMetricsParts;
  #events = 0;
  #bytes = 0;
  #connections = 0;
  #handoffs = 0;
  #rejected = 0;
  /** By the model's label. */
  readonly #tokens = new Map<string, { input: number; output: number }>();
  readonly #handoffsFailed = handoffsFailedCounter();
  readonly #streamErrors = streamErrorsCounter();
  readonly #backendRequests = new Counter<"backend">("daemon_backend_requests", "Requests to backends");
  readonly #backendErrors = new Counter<"backend" | "kind">("daemon_backend_errors", "Failures of backends");
  readonly #backendRefused = new Counter<"backend" | "reason">(
    "daemon_backend_refused_total",
    "Requests for which a backend was not asked",
  );
  readonly #resumeRequests = new Counter<"outcome">(
    "daemon_resume_requests_total",
    "Handoffs that named a stream by its id",
    STREAM_OUTCOMES.map((outcome) => ({ outcome })),
  );
  readonly #handoffSeconds = new DurationHistogram(
    "daemon_handoff_duration_seconds",
    "From the accept of a handoff connection to its whole payload",
    0.0001,
  );
  readonly #streamSeconds = new DurationHistogram(
    "daemon_stream_duration_seconds",
    "From the handoff to the close of the client",
    0.01,
  );
  readonly #backendSeconds = new DurationHistogram(
    "daemon_backend_duration_seconds",
    "From the request to the backend's end",
    0.01,
  );
  readonly #backendTtfb = new DurationHistogram(
    "daemon_backend_ttfb_seconds",
    "From the request to the backend's first event",
    0.001,
  );

  constructor(parts: WorkerMetricsParts) {
    this.#parts = parts;
  }

  handoffReceived(durationSecs: number): void {
    this.#handoffs++;
    this.#handoffSeconds.observe(durationSecs);
  }

  handoffFailed(reason: HandoffFailure): void {
    this.#handoffsFailed.add({ reason });
  }

  connectionOpened(): void {
    this.#connections++;
  }

  connectionRejected(): void {
    this.#rejected++;
  }

  streamStarted(): void {
    this.#parts.streams.enter();
  }

  streamEnded(durationSecs: number, failure: StreamFailure | undefined): void {
    this.#parts.streams.leave();
    this.#streamSeconds.observe(durationSecs);
    if (failure !== undefined) this.#streamErrors.add({ reason: failure });
  }

  eventSent(): void {
    this.#events++;
  }

  bytesSent(bytes: number): void {
    this.#bytes += bytes;
  }

  backendRequest(backend: string): void {
    this.#backendRequests.add({ backend });
  }

  backendFirstEvent(durationSecs: number): void {
    this.#backendTtfb.observe(durationSecs);
  }

  backendDone(durationSecs: number): void {
    this.#backendSeconds.observe(durationSecs);
  }

  backendError(backend: string, kind: BackendFailure): void {
    this.#backendErrors.add({ backend, kind });
  }

  backendRefused(backend: string, reason: BackendRefusal): void {
    this.#backendRefused.add({ backend, reason });
  }

  tokensUsed(requested: string, input: number, output: number): void {
    const model = modelLabel(requested, this.#parts.models());
    const tokens = this.#tokens.get(model);
    if (tokens === undefined) {
      this.#tokens.set(model, { input, output });
      return;
    }
    tokens.input += input;
    tokens.output += output;
  }

  streamAskedFor(outcome: StreamOutcome): void {
    this.#resumeRequests.add({ outcome });
  }

  /** All of it, for `MetricsPage.render`. */
  snapshot(): MetricsSnapshot {
    const { upstream, resumable, oldestSecs, backends } = this.#parts;
    const [provider, streams, states] = [upstream?.(), resumable?.(), backends?.() ?? []];
    return [
      ...UPSTREAM_METRICS.map(([stat, type, name, help]) => one(type, name, help, provider?.[stat] ?? 0)),
      ...RESUME_METRICS.map(([stat, type, name, help]) => one(type, name, help, streams?.[stat] ?? 0)),
      one(
        "gauge",
        "daemon_resume_store_up",
        "Whether all workers reach the store of streams; always 1 where that is memory",
        streams?.storeUp ?? 1,
        "min",
      ),
      this.#resumeRequests.snapshot(),
      one("gauge", OLDEST_METRIC, "How long the oldest stream has been running", oldestSecs?.() ?? 0, "max"),
      ofEach(
        states,
        "daemon_backend_waiting",
        "Requests that wait for a place at a backend",
        ({ waiting }) => waiting,
      ),
      ofEach(
        states,
        "daemon_backend_circuit_open",
        "Workers that leave a backend alone, since it fails",
        ({ circuitOpen }) => circuitOpen === undefined ? undefined : Number(circuitOpen),
      ),
      one("counter", "daemon_connections_total", "Handoffs that became a client", this.#connections),
      one(
        "counter",
        "daemon_connections_rejected_total",
        "Clients that were answered 503: too many connections, no memory for one more, or the daemon stops",
        this.#rejected,
      ),
      one("counter", "daemon_handoffs_received", "Complete handoffs received", this.#handoffs),
      this.#handoffsFailed.snapshot(),
      this.#handoffSeconds.snapshot(),
      this.#streamErrors.snapshot(),
      this.#streamSeconds.snapshot(),
      one("counter", "daemon_stream_events_sent_total", "Events sent to clients", this.#events),
      one("counter", "daemon_stream_bytes_sent", "Bytes sent to clients", this.#bytes),
      this.#backendRequests.snapshot(),
      this.#backendErrors.snapshot(),
      this.#backendRefused.snapshot(),
      this.#backendSeconds.snapshot(),
      this.#backendTtfb.snapshot(),
      metric(
        "counter",
        "daemon_backend_tokens_total",
        "Tokens as the provider counted them",
        [...this.#tokens].flatMap(([model, { input, output }]) => [
          { labels: { model, direction: "input" }, value: input },
          { labels: { model, direction: "output" }, value: output },
        ]),
      ),
    ];
  }
}

/** A metric of one series. */
function one(
  type: "counter" | "gauge",
  name: string,
  help: string,
  value: number,
  aggregator?: "min" | "max",
): MetricSnapshot {
  return metric(type, name, help, [{ labels: {}, value }], aggregator);
}

/** A gauge with a series for each backend of which there is something to tell. */
function ofEach(
  states: readonly BackendState[],
  name: string,
  help: string,
  valueOf: (state: BackendState) => number | undefined,
): MetricSnapshot {
  const values = states.flatMap((state) => {
    const value = valueOf(state);
    return value === undefined ? [] : [{ labels: { backend: state.name }, value }];
  });
  return metric("gauge", name, help, values);
}

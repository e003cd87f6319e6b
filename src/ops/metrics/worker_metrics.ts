/**
 * What happens in one worker, counted for Prometheus.
 * @module
 */
import client, { type Counter, type Registry } from "prom-client";
import {
  type BackendFailure,
  type BackendRefusal,
  HANDOFF_FAILURES,
  type HandoffFailure,
  STREAM_FAILURES,
  type StreamFailure,
} from "../../errors.ts";
import { modelLabel } from "../model_label.ts";
import { DurationHistogram } from "./duration_histogram.ts";
import {
  type Metrics,
  type MetricsSnapshot,
  STREAM_OUTCOMES,
  type StreamOutcome,
  type StreamStats,
  type UpstreamStats,
} from "./metrics.ts";
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
  ["connections", "Gauge", "daemon_upstream_connections", "Connections to providers that are open"],
  ["streams", "Gauge", "daemon_upstream_streams", "Requests under way over them"],
  ["waiting", "Gauge", "daemon_upstream_waiting", "Requests that wait for a connection"],
  [
    "opened",
    "Counter",
    "daemon_upstream_connections_opened_total",
    "Connections to providers that were opened",
  ],
  [
    "failedDials",
    "Counter",
    "daemon_upstream_connect_failures_total",
    "Connections that could not be opened",
  ],
  ["retries", "Counter", "daemon_upstream_retries_total", "Requests that were tried again"],
  [
    "cancelled",
    "Counter",
    "daemon_upstream_cancelled_total",
    "Requests given up, as a rule since the client left",
  ],
] as const;

const RESUME_METRICS = [
  ["live", "Gauge", "daemon_resume_streams_live", "Streams with an id that are under way"],
  ["kept", "Gauge", "daemon_resume_streams_kept", "Streams with an id that have ended and are kept"],
  ["bytes", "Gauge", "daemon_resume_bytes", "Memory of the streams with an id"],
  [
    "evicted",
    "Counter",
    "daemon_resume_evicted_total",
    "Streams forgotten before their time, since others needed the room",
  ],
  [
    "unsaved",
    "Counter",
    "daemon_resume_unsaved_total",
    "Streams whose copy in the store was given up, since the store could not take it",
  ],
] as const;

/** The age of the oldest stream; the largest of all workers' counts. */
export const OLDEST_METRIC = "daemon_stream_oldest_seconds";

/** `daemon_handoffs_failed`, every reason at zero: workers and the daemon itself refuse handoffs. */
export function handoffsFailedCounter(registry: Registry): Counter<"reason"> {
  const counter = new client.Counter({
    name: "daemon_handoffs_failed",
    help: "Handoffs refused",
    labelNames: ["reason"],
    registers: [registry],
  });
  for (const reason of HANDOFF_FAILURES) counter.inc({ reason }, 0);
  return counter;
}

/** `daemon_stream_errors_total`, every reason at zero: streams end in workers, or with them. */
export function streamErrorsCounter(registry: Registry): Counter<"reason"> {
  const counter = new client.Counter({
    name: "daemon_stream_errors_total",
    help: "Streams that did not end with [DONE]",
    labelNames: ["reason"],
    registers: [registry],
  });
  for (const reason of STREAM_FAILURES) counter.inc({ reason }, 0);
  return counter;
}

/**
 * Counts for Prometheus what happens in one worker. What every stream does is kept in numbers, and goes through prom-client
 * when the page is asked for.
 */
export class WorkerMetrics implements Metrics {
  readonly #registry = new client.Registry();
  readonly #parts: WorkerMetricsParts;
  #events = 0;
  #bytes = 0;
  #connections = 0;
  #handoffs = 0;
  /** By backend. */
  readonly #backendRequests = new Map<string, number>();
  /** By the model's label. */
  readonly #tokens = new Map<string, { input: number; output: number }>();
  readonly #rejected = this.#counter(
    "daemon_connections_rejected_total",
    "Clients that were answered 503: too many connections, or no memory for one more",
  );
  readonly #handoffsFailed = handoffsFailedCounter(this.#registry);
  readonly #handoffSeconds = new DurationHistogram(
    "daemon_handoff_duration_seconds",
    "From the accept of a handoff connection to its whole payload",
    0.0001,
  );
  readonly #streamErrors = streamErrorsCounter(this.#registry);
  readonly #streamSeconds = new DurationHistogram(
    "daemon_stream_duration_seconds",
    "From the handoff to the close of the client",
    0.01,
  );
  readonly #backendErrors = this.#counter("daemon_backend_errors", "Failures of backends", [
    "backend",
    "kind",
  ]);
  readonly #backendRefused = this.#counter(
    "daemon_backend_refused_total",
    "Requests for which a backend was not asked",
    ["backend", "reason"],
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
  readonly #resumeRequests = this.#counter(
    "daemon_resume_requests_total",
    "Handoffs that named a stream by its id",
    ["outcome"],
  );

  constructor(parts: WorkerMetricsParts) {
    this.#parts = parts;
    for (const [stat, type, name, help] of UPSTREAM_METRICS) {
      this.#mirror(name, help, () => parts.upstream?.()?.[stat] ?? 0, type);
    }
    for (const [stat, type, name, help] of RESUME_METRICS) {
      this.#mirror(name, help, () => parts.resumable?.()[stat] ?? 0, type);
    }
    new client.Gauge({
      name: "daemon_resume_store_up",
      help: "Whether all workers reach the store of streams; always 1 where that is memory",
      aggregator: "min",
      registers: [this.#registry],
      collect(): void {
        this.set(parts.resumable?.().storeUp ?? 1);
      },
    });
    for (const outcome of STREAM_OUTCOMES) this.#resumeRequests.inc({ outcome }, 0);
    new client.Gauge({
      name: OLDEST_METRIC,
      help: "How long the oldest stream has been running",
      aggregator: "max",
      registers: [this.#registry],
      collect(): void {
        this.set(parts.oldestSecs?.() ?? 0);
      },
    });
    this.#stateGauge(
      "daemon_backend_waiting",
      "Requests that wait for a place at a backend",
      ({ waiting }) => waiting,
    );
    this.#stateGauge(
      "daemon_backend_circuit_open",
      "Workers that leave a backend alone, since it fails",
      ({ circuitOpen }) => circuitOpen === undefined ? undefined : Number(circuitOpen),
    );
    this.#mirror("daemon_connections_total", "Handoffs that became a client", () => this.#connections);
    this.#mirror("daemon_handoffs_received", "Complete handoffs received", () => this.#handoffs);
    this.#mirror("daemon_stream_events_sent_total", "Events sent to clients", () => this.#events);
    this.#mirror("daemon_stream_bytes_sent", "Bytes sent to clients", () => this.#bytes);
    this.#mirrorEach(
      "daemon_backend_requests",
      "Requests to backends",
      ["backend"],
      () => this.#backendRequests.entries().map(([backend, count]) => [{ backend }, count]),
    );
    this.#mirrorEach(
      "daemon_backend_tokens_total",
      "Tokens as the provider counted them",
      ["model", "direction"],
      () =>
        this.#tokens.entries().flatMap(([model, { input, output }]) => [
          [{ model, direction: "input" }, input],
          [{ model, direction: "output" }, output],
        ]),
    );
  }

  handoffReceived(durationSecs: number): void {
    this.#handoffs++;
    this.#handoffSeconds.observe(durationSecs);
  }

  handoffFailed(reason: HandoffFailure): void {
    this.#handoffsFailed.inc({ reason });
  }

  connectionOpened(): void {
    this.#connections++;
  }

  connectionRejected(): void {
    this.#rejected.inc();
  }

  streamStarted(): void {
    this.#parts.streams.enter();
  }

  streamEnded(durationSecs: number, failure: StreamFailure | undefined): void {
    this.#parts.streams.leave();
    this.#streamSeconds.observe(durationSecs);
    if (failure !== undefined) this.#streamErrors.inc({ reason: failure });
  }

  eventSent(): void {
    this.#events++;
  }

  bytesSent(bytes: number): void {
    this.#bytes += bytes;
  }

  backendRequest(backend: string): void {
    this.#backendRequests.set(backend, (this.#backendRequests.get(backend) ?? 0) + 1);
  }

  backendFirstEvent(durationSecs: number): void {
    this.#backendTtfb.observe(durationSecs);
  }

  backendDone(durationSecs: number): void {
    this.#backendSeconds.observe(durationSecs);
  }

  backendError(backend: string, kind: BackendFailure): void {
    this.#backendErrors.inc({ backend, kind });
  }

  backendRefused(backend: string, reason: BackendRefusal): void {
    this.#backendRefused.inc({ backend, reason });
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
    this.#resumeRequests.inc({ outcome });
  }

  /** All of it as plain data, for `MetricsPage.render`. */
  async snapshot(): Promise<MetricsSnapshot> {
    const histograms = [this.#handoffSeconds, this.#streamSeconds, this.#backendSeconds, this.#backendTtfb];
    return [
      ...await this.#registry.getMetricsAsJSON() as MetricsSnapshot,
      ...histograms.map((each) => each.snapshot()),
    ];
  }

  #counter<Label extends string = never>(
    name: string,
    help: string,
    labelNames: Label[] = [],
  ): Counter<Label> {
    return new client.Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  // A series for each backend of which there is something to tell.
  #stateGauge(name: string, help: string, valueOf: (state: BackendState) => number | undefined): void {
    const values = () =>
      (this.#parts.backends?.() ?? []).flatMap((state): [Record<"backend", string>, number][] => {
        const value = valueOf(state);
        return value === undefined ? [] : [[{ backend: state.name }, value]];
      });
    this.#mirrorEach(name, help, ["backend"], values, "Gauge");
  }

  #mirror(name: string, help: string, value: () => number, type: "Counter" | "Gauge" = "Counter"): void {
    this.#mirrorEach(name, help, [], () => [[{}, value()]], type);
  }

  // For what is counted elsewhere, or too often to go through prom-client each time.
  #mirrorEach<Label extends string>(
    name: string,
    help: string,
    labelNames: Label[],
    values: () => Iterable<[labels: Record<Label, string>, value: number]>,
    type: "Counter" | "Gauge" = "Counter",
  ): void {
    new client[type]<Label>({
      name,
      help,
      labelNames,
      registers: [this.#registry],
      collect(): void {
        this.reset();
        for (const [labels, value] of values()) this.inc(labels, value);
      },
    });
  }
}

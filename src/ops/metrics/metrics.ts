/**
 * What is counted, as an interface; one implementation that only adds up; and Prometheus.
 * @module
 */
import client, {
  type Counter,
  type Histogram,
  type MetricObjectWithValues,
  type MetricValue,
} from "prom-client";
import {
  type BackendFailure,
  HANDOFF_FAILURES,
  type HandoffFailure,
  STREAM_FAILURES,
  type StreamFailure,
} from "../../errors.ts";

/** What a worker tells of itself. Durations in seconds. Every method is cheap; those of events only add numbers. */
export interface Metrics {
  /** A complete handoff came in, this long after it was accepted. */
  handoffReceived(durationSecs: number): void;
  handoffFailed(reason: HandoffFailure): void;
  connectionOpened(): void;
  /** A client was told 503 at the connection limit. */
  connectionRejected(): void;
  streamStarted(): void;
  streamEnded(durationSecs: number, failure: StreamFailure | undefined): void;
  eventSent(): void;
  bytesSent(bytes: number): void;
  backendRequest(backend: string): void;
  backendFirstEvent(durationSecs: number): void;
  backendDone(durationSecs: number): void;
  backendError(backend: string, kind: BackendFailure): void;
  tokensUsed(model: string, input: number, output: number): void;
}

/** What a backend tells of its connections to the provider. */
export interface UpstreamStats {
  /** Open now. */
  readonly connections: number;
  /** Requests over them now. */
  readonly streams: number;
  /** Requests without a connection yet. */
  readonly waiting: number;
  /** Connections opened so far. */
  readonly opened: number;
  /** Attempts to connect that failed so far. */
  readonly failedDials: number;
  /** Requests that were tried again so far. */
  readonly retries: number;
  /** Requests that were given up from this side so far. */
  readonly cancelled: number;
}

/** A worker's metrics as they travel to the page: plain data. */
export type MetricsSnapshot = Omit<MetricObjectWithValues<MetricValue<string>>, "collect">[];

/**
 * Streams live in each worker, and the most there ever were at a time: numbers in memory that the workers share, since
 * a peak cannot be added up afterwards, and since a worker that dies cannot take off its own.
 */
export class StreamGauge {
  readonly #counts: Int32Array<SharedArrayBuffer>;
  readonly #worker: number;

  /**
   * @param worker whose streams {@linkcode StreamGauge.enter} counts, from 0 up
   * @param memory from {@linkcode StreamGauge.allocate}, the same for all workers
   */
  constructor(worker: number, memory: SharedArrayBuffer) {
    this.#counts = new Int32Array(memory);
    this.#worker = 2 + worker;
  }

  /** Memory for so many workers. */
  static allocate(workers: number): SharedArrayBuffer {
    return new SharedArrayBuffer((2 + workers) * 4);
  }

  /** Of all workers. */
  get active(): number {
    return Atomics.load(this.#counts, 0);
  }

  /** Of all workers. */
  get peak(): number {
    return Atomics.load(this.#counts, 1);
  }

  enter(): void {
    Atomics.add(this.#counts, this.#worker, 1);
    const active = Atomics.add(this.#counts, 0, 1) + 1;
    let peak = this.peak;
    while (active > peak) {
      const seen = Atomics.compareExchange(this.#counts, 1, peak, active);
      if (seen === peak) return;
      peak = seen;
    }
  }

  leave(): void {
    Atomics.sub(this.#counts, this.#worker, 1);
    Atomics.sub(this.#counts, 0, 1);
  }

  /** The worker has died, and its streams with it. */
  clear(): void {
    Atomics.sub(this.#counts, 0, Atomics.exchange(this.#counts, this.#worker, 0));
  }
}

/** For `--benchmark`: sums that cost next to nothing, for the summary at the end. */
export class Totals implements Metrics {
  readonly #sums = {
    connections: 0,
    streams: 0,
    failed_streams: 0,
    refused_handoffs: 0,
    rejected: 0,
    events: 0,
    bytes: 0,
  };

  handoffReceived(): void {}

  handoffFailed(): void {
    this.#sums.refused_handoffs++;
  }

  connectionOpened(): void {
    this.#sums.connections++;
  }

  connectionRejected(): void {
    this.#sums.rejected++;
  }

  streamStarted(): void {
    this.#sums.streams++;
  }

  streamEnded(_durationSecs: number, failure: StreamFailure | undefined): void {
    if (failure !== undefined) this.#sums.failed_streams++;
  }

  eventSent(): void {
    this.#sums.events++;
  }

  bytesSent(bytes: number): void {
    this.#sums.bytes += bytes;
  }

  backendRequest(): void {}
  backendFirstEvent(): void {}
  backendDone(): void {}
  backendError(): void {}
  tokensUsed(): void {}

  /** The sums as gauges of the same names. */
  snapshot(): Promise<MetricsSnapshot> {
    const metric = ([name, value]: [string, number]): MetricsSnapshot[number] => ({
      name,
      help: name,
      // Typed as an enumeration of numbers, but a word in the library's own JSON.
      type: "gauge" as unknown as MetricsSnapshot[number]["type"],
      aggregator: "sum",
      values: [{ value, labels: {} }],
    });
    return Promise.resolve(Object.entries(this.#sums).map(metric));
  }
}

const twofold = (firstSecs: number): number[] => client.exponentialBuckets(firstSecs, 2, 15);

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

/** Counts for Prometheus what happens in one worker. */
export class WorkerMetrics implements Metrics {
  readonly #registry = new client.Registry();
  readonly #streams: StreamGauge;
  #events = 0;
  #bytes = 0;
  readonly #connectionsTotal = this.#counter("daemon_connections_total", "Handoffs that became a client");
  readonly #rejected = this.#counter(
    "daemon_connections_rejected_total",
    "Clients that were answered 503 at the connection limit",
  );
  readonly #handoffs = this.#counter("daemon_handoffs_received", "Complete handoffs received");
  readonly #handoffsFailed = this.#counter("daemon_handoffs_failed", "Handoffs refused", ["reason"]);
  readonly #handoffSeconds = this.#histogram(
    "daemon_handoff_duration_seconds",
    "From the accept of a handoff connection to its whole payload",
    twofold(0.0001),
  );
  readonly #streamErrors = this.#counter(
    "daemon_stream_errors_total",
    "Streams that did not end with [DONE]",
    ["reason"],
  );
  readonly #streamSeconds = this.#histogram(
    "daemon_stream_duration_seconds",
    "From the handoff to the close of the client",
    twofold(0.01),
  );
  readonly #backendRequests = this.#counter("daemon_backend_requests", "Requests to backends", ["backend"]);
  readonly #backendErrors = this.#counter("daemon_backend_errors", "Failures of backends", [
    "backend",
    "kind",
  ]);
  readonly #backendSeconds = this.#histogram(
    "daemon_backend_duration_seconds",
    "From the request to the backend's end",
    twofold(0.01),
  );
  readonly #backendTtfb = this.#histogram(
    "daemon_backend_ttfb_seconds",
    "From the request to the backend's first event",
    twofold(0.001),
  );
  readonly #tokens = this.#counter(
    "daemon_backend_tokens_total",
    "Tokens as the provider counted them",
    ["model", "direction"],
  );

  /** @param upstream what the backend tells of its connections; asked for each snapshot */
  constructor(streams: StreamGauge, upstream: () => UpstreamStats | undefined = () => undefined) {
    this.#streams = streams;
    for (const [stat, type, name, help] of UPSTREAM_METRICS) {
      this.#mirror(name, help, () => upstream()?.[stat] ?? 0, type);
    }
    for (const reason of HANDOFF_FAILURES) this.#handoffsFailed.inc({ reason }, 0);
    for (const reason of STREAM_FAILURES) this.#streamErrors.inc({ reason }, 0);
    this.#mirror("daemon_stream_events_sent_total", "Events sent to clients", () => this.#events);
    this.#mirror("daemon_stream_bytes_sent", "Bytes sent to clients", () => this.#bytes);
  }

  handoffReceived(durationSecs: number): void {
    this.#handoffs.inc();
    this.#handoffSeconds.observe(durationSecs);
  }

  handoffFailed(reason: HandoffFailure): void {
    this.#handoffsFailed.inc({ reason });
  }

  connectionOpened(): void {
    this.#connectionsTotal.inc();
  }

  connectionRejected(): void {
    this.#rejected.inc();
  }

  streamStarted(): void {
    this.#streams.enter();
  }

  streamEnded(durationSecs: number, failure: StreamFailure | undefined): void {
    this.#streams.leave();
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
    this.#backendRequests.inc({ backend });
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

  tokensUsed(model: string, input: number, output: number): void {
    this.#tokens.inc({ model, direction: "input" }, input);
    this.#tokens.inc({ model, direction: "output" }, output);
  }

  /** All of it as plain data, for {@linkcode renderMetrics}. */
  snapshot(): Promise<MetricsSnapshot> {
    return this.#registry.getMetricsAsJSON() as Promise<MetricsSnapshot>;
  }

  #counter<Label extends string = never>(
    name: string,
    help: string,
    labelNames: Label[] = [],
  ): Counter<Label> {
    return new client.Counter({ name, help, labelNames, registers: [this.#registry] });
  }

  #histogram(name: string, help: string, buckets: number[]): Histogram {
    return new client.Histogram({ name, help, buckets, registers: [this.#registry] });
  }

  // For what is counted too often to go through prom-client each time.
  #mirror(name: string, help: string, value: () => number, type: "Counter" | "Gauge" = "Counter"): void {
    new client[type]({
      name,
      help,
      registers: [this.#registry],
      collect(): void {
        this.reset();
        this.inc(value());
      },
    });
  }
}

/** What of a snapshot holds on when its worker has gone: all but the gauges. */
export function countersOf(snapshot: MetricsSnapshot): MetricsSnapshot {
  // Typed as an enumeration of numbers, but a word in the library's own JSON.
  return snapshot.filter(({ type }) => String(type) !== "gauge");
}

/** Several workers' metrics as one: counters and histograms add up. */
export function sumSnapshots(snapshots: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  return client.AggregatorRegistry.aggregate([...snapshots]).getMetricsAsJSON() as Promise<MetricsSnapshot>;
}

/** What only the daemon as a whole knows. */
export interface ProcessFacts {
  readonly version: string;
  connectionsActive(): number;
  openFds(): number;
  readonly maxFds: number;
}

/** The page: the process' own metrics, and those of all workers added up. */
export class MetricsPage {
  readonly #registry = new client.Registry();
  readonly #acceptor = new client.Registry();
  readonly #restarts: Counter;
  /** The workers count those whose data they refuse under the same name. */
  readonly #refused = new client.Counter({
    name: "daemon_handoffs_failed",
    help: "Handoffs refused",
    labelNames: ["reason"],
    registers: [this.#acceptor],
  });

  constructor(streams: StreamGauge, facts: ProcessFacts) {
    const registers = [this.#registry];
    client.collectDefaultMetrics({ register: this.#registry });
    // prom-client reads these from /proc, which the sandbox denies, and would report zeros.
    for (const name of LEFT_OUT) this.#registry.removeSingleMetric(name);
    const gauge = (name: string, help: string, value: () => number) =>
      new client.Gauge({
        name,
        help,
        registers,
        collect(): void {
          this.set(value());
        },
      });
    gauge("process_resident_memory_bytes", "Resident memory size in bytes", () => Deno.memoryUsage().rss);
    gauge("process_open_fds", "Number of open file descriptors", () => facts.openFds());
    gauge("process_max_fds", "Maximum number of open file descriptors", () => facts.maxFds);
    gauge("daemon_connections_active", "Clients whose socket is open", () => facts.connectionsActive());
    gauge("daemon_streams_active", "Streams under way", () => streams.active);
    gauge("daemon_streams_peak", "The most streams there were at a time", () => streams.peak);
    this.#restarts = new client.Counter({
      name: "daemon_worker_restarts_total",
      help: "Workers that died and were replaced",
      registers,
    });
    new client.Gauge({
      name: "daemon_build_info",
      help: "Always 1; the labels tell what runs",
      labelNames: ["version", "deno"],
      registers,
    }).set({ version: facts.version, deno: Deno.version.deno }, 1);
  }

  workerRestarted(): void {
    this.#restarts.inc();
  }

  /** So many handoffs came to nothing before a worker saw them. */
  handoffsRefused(reason: HandoffFailure, count: number): void {
    this.#refused.inc({ reason }, count);
  }

  /** The page in the Prometheus text format. */
  async render(workers: readonly MetricsSnapshot[]): Promise<string> {
    const acceptor = await this.#acceptor.getMetricsAsJSON() as MetricsSnapshot;
    const sum = client.AggregatorRegistry.aggregate<typeof client.prometheusContentType>([
      ...workers,
      acceptor,
    ]);
    return client.Registry.merge([this.#registry, sum]).metrics();
  }
}

const LEFT_OUT = [
  "process_resident_memory_bytes",
  "process_virtual_memory_bytes",
  "process_heap_bytes",
  "process_open_fds",
  "process_max_fds",
  // These are always empty under Deno, and promtool objects to their names.
  ...["handles", "requests", "resources"].flatMap((what) => [
    `nodejs_active_${what}`,
    `nodejs_active_${what}_total`,
  ]),
];

/**
 * The page of metrics: the process' own, and those of all workers added up.
 * @module
 */
import client, { type Counter } from "prom-client";
import gcMetrics from "prom-client/lib/metrics/gc.js";
import heapMetrics from "prom-client/lib/metrics/heapSizeAndUsed.js";
import heapSpaceMetrics from "prom-client/lib/metrics/heapSpacesSizeAndUsed.js";
import cpuMetrics from "prom-client/lib/metrics/processCpuTotal.js";
import startTimeMetric from "prom-client/lib/metrics/processStartTime.js";
import versionMetric from "prom-client/lib/metrics/version.js";
import type { HandoffFailure } from "../../errors.ts";
import { EventLoopLag } from "./event_loop.ts";
import type { MetricsSnapshot } from "./snapshot.ts";
import type { StreamGauge } from "./stream_gauge.ts";
import { handoffsFailedCounter, streamErrorsCounter } from "./worker_metrics.ts";

/** What only the daemon as a whole knows. */
export interface ProcessFacts {
  readonly version: string;
  connectionsActive(): number;
  openFds(): number;
  readonly maxFds: number;
}

/**
 * prom-client's default metrics that mean something here. Left out: those that it reads from /proc, which the sandbox
 * denies; those that are always empty under Deno; and its measure of the event loop, see {@linkcode EventLoopLag}.
 */
const DEFAULT_METRICS = [
  cpuMetrics,
  startTimeMetric,
  heapMetrics,
  heapSpaceMetrics,
  versionMetric,
  gcMetrics,
];

/** The page, and what the daemon itself counts. */
export class MetricsPage {
  /** Of the process. */
  readonly #registry = new client.Registry();
  // What workers count as well: it adds up with theirs.
  readonly #handoffsFailed = handoffsFailedCounter();
  readonly #streamErrors = streamErrorsCounter();
  readonly #restarts: Counter;
  readonly #lag: EventLoopLag;

  constructor(streams: StreamGauge, facts: ProcessFacts) {
    const registers = [this.#registry];
    for (const addTo of DEFAULT_METRICS) addTo(this.#registry);
    this.#lag = new EventLoopLag(this.#registry);
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

  /** A worker died, and so many streams with it. */
  workerDied(lostStreams: number): void {
    this.#restarts.inc();
    this.#streamErrors.add({ reason: "other" }, lostStreams);
  }

  /** So many handoffs were refused before they reached a worker. */
  handoffsRefused(reason: HandoffFailure, count: number): void {
    this.#handoffsFailed.add({ reason }, count);
  }

  /** A worker's event loop let a ping wait for so long. */
  eventLoopLag(delaySecs: number): void {
    this.#lag.observe(delaySecs);
  }

  /** The page in the Prometheus text format. */
  render(workers: readonly MetricsSnapshot[]): Promise<string> {
    this.#lag.collect();
    const own = [this.#handoffsFailed.snapshot(), this.#streamErrors.snapshot()];
    const sum = client.AggregatorRegistry.aggregate<typeof client.prometheusContentType>([own, ...workers]);
    return client.Registry.merge([this.#registry, sum]).metrics();
  }
}

/**
 * What `/status` says: the state of a running daemon at a glance. Plain data, and nothing secret.
 * @module
 */
import type { MetricsSnapshot } from "./metrics/snapshot.ts";
import { sumSnapshots } from "./metrics/sum_snapshots.ts";
import { OLDEST_METRIC } from "./metrics/worker_metrics.ts";

/** One worker. */
export interface WorkerStatus {
  readonly index: number;
  /** Whether it is there and answers. */
  readonly answers: boolean;
  readonly streams: number;
  /** How long its oldest stream has been running. */
  readonly oldest_secs: number;
}

/** What a provider was asked since the start. */
export interface ProviderStatus {
  readonly requests: number;
  /** By kind. */
  readonly errors: Readonly<Record<string, number>>;
}

/** The whole. */
export interface Status {
  readonly version: string;
  readonly deno: string;
  readonly pid: number;
  readonly uptime_secs: number;
  /** `taking handoffs`, or `draining`. */
  readonly state: string;
  readonly connections: number;
  /** As configured, and as the limit of open files allows. */
  readonly max_connections: number;
  readonly streams: number;
  readonly streams_peak: number;
  readonly oldest_secs: number;
  readonly workers: readonly WorkerStatus[];
  /** By name. */
  readonly providers: Readonly<Record<string, ProviderStatus>>;
  /** The configuration in force, as TOML without secrets. */
  readonly config: string;
}

/** How long the oldest stream of a snapshot had been running. */
export function oldestSecs(snapshot: MetricsSnapshot | undefined): number {
  return snapshot?.find(({ name }) => name === OLDEST_METRIC)?.values[0]?.value ?? 0;
}

/** What all providers were asked, from what the workers have counted. */
export async function providersOf(
  snapshots: readonly MetricsSnapshot[],
): Promise<Record<string, ProviderStatus>> {
  const providers: Record<string, { requests: number; errors: Record<string, number> }> = {};
  const of = (labels: Readonly<Partial<Record<string, string | number>>>) =>
    providers[String(labels["backend"])] ??= { requests: 0, errors: {} };
  for (const { name, values } of await sumSnapshots(snapshots)) {
    for (const { labels, value } of values) {
      if (name === "daemon_backend_requests") of(labels).requests += value;
      else if (name === "daemon_backend_errors") of(labels).errors[String(labels["kind"])] = value;
    }
  }
  return providers;
}

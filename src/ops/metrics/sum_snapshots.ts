/**
 * Several workers' metrics as one.
 * @module
 */
import client from "prom-client";
import type { MetricsSnapshot } from "./snapshot.ts";

/** Counters and histograms add up, gauges as each of them says. */
export function sumSnapshots(snapshots: readonly MetricsSnapshot[]): Promise<MetricsSnapshot> {
  return client.AggregatorRegistry.aggregate([...snapshots]).getMetricsAsJSON() as Promise<MetricsSnapshot>;
}

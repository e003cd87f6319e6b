/**
 * A worker's metrics as they travel to the page: plain data, in the shape of prom-client's own JSON. Workers make it
 * themselves, since the library would cost each isolate 20 ms of its start.
 * @module
 */
import type { MetricObjectWithValues, MetricValue } from "prom-client";

/** One metric, with all its series. */
export type MetricSnapshot = Omit<MetricObjectWithValues<MetricValue<string>>, "collect">;
/** All of them. */
export type MetricsSnapshot = MetricSnapshot[];

/** As Prometheus calls the types. */
export type MetricType = "counter" | "gauge" | "histogram";

/**
 * One metric.
 *
 * @param aggregator how several workers' series become one
 */
export function metric(
  type: MetricType,
  name: string,
  help: string,
  values: MetricSnapshot["values"],
  aggregator: "sum" | "min" | "max" = "sum",
): MetricSnapshot {
  // Typed as an enumeration of numbers, but a word in the library's own JSON.
  return { name, help, type: type as unknown as MetricSnapshot["type"], values, aggregator };
}

/** What of a snapshot holds on when its worker has gone: all but the gauges. */
export function countersOf(snapshot: MetricsSnapshot): MetricsSnapshot {
  return snapshot.filter(({ type }) => type as unknown !== "gauge");
}

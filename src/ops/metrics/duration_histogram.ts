/**
 * A histogram of durations that costs next to nothing to fill: every stream goes through several, and prom-client's takes
 * microseconds a time. It is laid out as Prometheus' data model says: https://prometheus.io/docs/concepts/metric_types/
 * @module
 */
import { metric, type MetricSnapshot } from "./snapshot.ts";

const BUCKETS = 15;

/** See the module. */
export class DurationHistogram {
  readonly #name: string;
  readonly #help: string;
  /** The upper bounds of all buckets but the last, which has none. */
  readonly #boundsSecs: readonly number[];
  /** How many were in each bucket, and in no lower one. */
  readonly #counts = new Float64Array(BUCKETS + 1);
  #sumSecs = 0;

  /** @param firstSecs the upper bound of the first of 15 buckets; each further one is twice as wide */
  constructor(name: string, help: string, firstSecs: number) {
    this.#name = name;
    this.#help = help;
    this.#boundsSecs = Array.from({ length: BUCKETS }, (_, index) => firstSecs * 2 ** index);
  }

  observe(secs: number): void {
    const bounds = this.#boundsSecs;
    let bucket = 0;
    while (bucket < BUCKETS && secs > (bounds[bucket] as number)) bucket++;
    this.#counts[bucket] = (this.#counts[bucket] as number) + 1;
    this.#sumSecs += secs;
  }

  snapshot(): MetricSnapshot {
    const series = (suffix: string, value: number, labels: Record<string, string | number> = {}) => ({
      labels,
      value,
      metricName: `${this.#name}_${suffix}`,
    });
    let count = 0;
    const buckets = [...this.#boundsSecs, "+Inf"].map((le, bucket) => {
      count += this.#counts[bucket] as number;
      return series("bucket", count, { le });
    });
    return metric("histogram", this.#name, this.#help, [
      ...buckets,
      series("sum", this.#sumSecs),
      series("count", count),
    ]);
  }
}

/**
 * How late the workers' event loops are, under the names that prom-client gives its own measure. That one looks at the
 * main thread a hundred times a second, for which an idle process has to wake up; this one is told how long each worker
 * let a ping wait, and keeps no timer.
 * @module
 */
import client, { type Gauge, type Registry } from "prom-client";

/** Delays that are kept from one scrape to the next at most: the latest ones. */
const MAX_DELAYS = 1000;

const MEASURES: Readonly<Record<string, { help: string; of(sortedSecs: readonly number[]): number }>> = {
  min: { help: "The shortest", of: (sorted) => sorted[0] as number },
  max: { help: "The longest", of: (sorted) => sorted.at(-1) as number },
  mean: { help: "The mean", of: mean },
  stddev: { help: "The standard deviation", of: deviation },
  p50: { help: "The median", of: (sorted) => percentile(sorted, 50) },
  p90: { help: "The 90th percentile", of: (sorted) => percentile(sorted, 90) },
  p99: { help: "The 99th percentile", of: (sorted) => percentile(sorted, 99) },
};

/** The gauges `nodejs_eventloop_lag_…`. */
export class EventLoopLag {
  readonly #latest: Gauge;
  readonly #measures: readonly { gauge: Gauge; of(sortedSecs: readonly number[]): number }[];
  #delaysSecs: number[] = [];

  constructor(registry: Registry) {
    const gauge = (name: string, help: string): Gauge =>
      new client.Gauge({ name: `nodejs_eventloop_lag_${name}`, help, registers: [registry] });
    this.#latest = gauge("seconds", "How long a worker's event loop let the latest ping wait");
    this.#measures = Object.entries(MEASURES).map(([name, { help, of }]) => ({
      gauge: gauge(`${name}_seconds`, `${help} of those waits since the last scrape`),
      of,
    }));
  }

  /** A ping was answered after so long. */
  observe(delaySecs: number): void {
    this.#latest.set(delaySecs);
    if (this.#delaysSecs.push(delaySecs) > MAX_DELAYS) this.#delaysSecs.shift();
  }

  /** Sets the gauges for a scrape. What came before the last one stays if nothing came since. */
  collect(): void {
    if (this.#delaysSecs.length === 0) return;
    const sorted = this.#delaysSecs.sort((a, b) => a - b);
    this.#delaysSecs = [];
    for (const { gauge, of } of this.#measures) gauge.set(of(sorted));
  }
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

function deviation(values: readonly number[]): number {
  const middle = mean(values);
  return Math.sqrt(mean(values.map((value) => (value - middle) ** 2)));
}

// The nearest rank.
function percentile(sorted: readonly number[], percent: number): number {
  return sorted[Math.ceil(sorted.length * percent / 100) - 1] as number;
}

/**
 * A counter with labels, in plain numbers.
 * @module
 */
import { metric, type MetricSnapshot } from "./snapshot.ts";

/** See the module. */
export class Counter<Label extends string> {
  readonly #name: string;
  readonly #help: string;
  /** By the labels' values. */
  readonly #series = new Map<string, { readonly labels: Readonly<Record<Label, string>>; value: number }>();

  /** @param zeros the series that are there before anything was counted */
  constructor(name: string, help: string, zeros: Iterable<Readonly<Record<Label, string>>> = []) {
    this.#name = name;
    this.#help = help;
    for (const labels of zeros) this.add(labels, 0);
  }

  /** Counts one more, or so many. The labels are always in the same order. */
  add(labels: Readonly<Record<Label, string>>, count = 1): void {
    const key = Object.values(labels).join("\0");
    const series = this.#series.get(key);
    if (series === undefined) this.#series.set(key, { labels, value: count });
    else series.value += count;
  }

  snapshot(): MetricSnapshot {
    return metric("counter", this.#name, this.#help, [...this.#series.values().map((each) => ({ ...each }))]);
  }
}

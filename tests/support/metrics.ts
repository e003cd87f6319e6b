/**
 * A strict reader of the Prometheus text format, version 0.0.4.
 * @module
 */
import assert from "node:assert/strict";
import { MetricsPage } from "../../src/ops/metrics/page.ts";
import type { MetricsSnapshot } from "../../src/ops/metrics/snapshot.ts";
import { StreamGauge } from "../../src/ops/metrics/stream_gauge.ts";

/** One metric of a page. */
export interface Family {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  /** From the series as written, such as `a_bucket{le="1"}`, to its value. */
  readonly series: ReadonlyMap<string, number>;
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = '[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\\\\n]|\\\\["\\\\n])*"';
const SAMPLE = new RegExp(
  `^(${NAME})(\\{${LABEL}(?:,${LABEL})*\\})? ([-+]?(?:[0-9.]+(?:e[-+]?\\d+)?|Inf)|Nan)$`,
);
const SUFFIXES: Readonly<Record<string, readonly string[]>> = {
  counter: [""],
  gauge: [""],
  histogram: ["_bucket", "_sum", "_count"],
  summary: ["", "_sum", "_count"],
};

/** Reads a page; fails on whatever the format does not allow, and on a histogram that does not add up. */
export function parsePage(text: string): Map<string, Family> {
  assert(text.endsWith("\n"), "the last line ends");
  const families = new Map<string, Family>();
  let family: { name: string; help: string; type: string; series: Map<string, number> } | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    if (line === "") continue;
    const help = new RegExp(`^# HELP (${NAME}) (.+)$`).exec(line);
    const type = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|summary)$`).exec(line);
    if (help !== null) {
      const name = help[1] as string;
      assert(!families.has(name), `${name} comes twice`);
      family = { name, help: help[2] as string, type: "", series: new Map() };
      families.set(name, family);
    } else if (type !== null) {
      assert(family !== undefined && family.name === type[1] && family.type === "", line);
      family.type = type[2] as string;
    } else {
      const sample = SAMPLE.exec(line);
      assert(sample !== null && family !== undefined, `not a sample: ${line}`);
      const suffix = (sample[1] as string).slice(family.name.length);
      assert((sample[1] as string).startsWith(family.name), `${line} below ${family.name}`);
      assert(SUFFIXES[family.type]?.includes(suffix), `${line} in a ${family.type}`);
      const key = `${sample[1]}${sample[2] ?? ""}`;
      assert(!family.series.has(key), `${key} comes twice`);
      family.series.set(key, Number((sample[3] as string).replace("Inf", "Infinity")));
    }
  }
  for (const each of families.values()) if (each.type === "histogram") checkHistogram(each);
  return families;
}

function checkHistogram({ name, series }: Family): void {
  const bucketsByLabels = new Map<string, { le: string; value: number }[]>();
  for (const [key, value] of series) {
    const [, le, labels] = new RegExp(`^${name}_bucket\\{le="([^"]+)",?(.*)\\}$`).exec(key) ?? [];
    if (le === undefined || labels === undefined) continue;
    const buckets = bucketsByLabels.get(labels) ?? [];
    bucketsByLabels.set(labels, [...buckets, { le, value }]);
  }
  for (const [labels, buckets] of bucketsByLabels) {
    const values = buckets.map(({ value }) => value);
    assert.deepEqual(values, [...values].sort((a, b) => a - b), `${name}: buckets are cumulative`);
    assert.equal(buckets.at(-1)?.le, "+Inf", `${name}: the last bucket is +Inf`);
    const count = series.get(labels === "" ? `${name}_count` : `${name}_count{${labels}}`);
    assert.equal(values.at(-1), count, `${name}: +Inf is the count`);
  }
}

/** The value of a series without labels; 0 if the page has none. */
export function renderedMetric(text: string, name: string): number {
  return parsePage(text).get(name)?.series.get(name) ?? 0;
}

/** One worker's metrics as they would stand on a page. */
export async function renderedSnapshot(snapshot: MetricsSnapshot): Promise<Map<string, Family>> {
  const page = new MetricsPage(new StreamGauge(0, StreamGauge.allocate(1)), {
    version: "test",
    maxFds: 1,
    openFds: () => 0,
    connectionsActive: () => 0,
  });
  return parsePage(await page.render([snapshot]));
}

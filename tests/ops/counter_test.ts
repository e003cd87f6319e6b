import assert from "node:assert/strict";
import { Counter } from "../../src/ops/metrics/counter.ts";

Deno.test("a counter: a series for all labels together, and a snapshot that stays as it was", () => {
  const counter = new Counter<"backend" | "kind">("failures", "Failures", [{
    backend: "a",
    kind: "timeout",
  }]);
  counter.add({ backend: "b", kind: "timeout" }, 3);
  const before = counter.snapshot();
  counter.add({ backend: "b", kind: "timeout" });
  assert.deepEqual(before, {
    name: "failures",
    help: "Failures",
    type: "counter",
    aggregator: "sum",
    values: [
      { labels: { backend: "a", kind: "timeout" }, value: 0 },
      { labels: { backend: "b", kind: "timeout" }, value: 3 },
    ],
  });
  assert.deepEqual(counter.snapshot().values.map(({ value }) => value), [0, 4]);
});

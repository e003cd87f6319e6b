import assert from "node:assert/strict";
import { Liveness } from "../../src/upstream/h2/liveness.ts";

Deno.test("liveness: at long intervals, a silence of five seconds is doubted, and an answer is due within two", () => {
  const liveness = new Liveness(30_000, 1_000);
  assert.deepEqual([liveness.doubts(5_999), liveness.doubts(6_000)], [false, true]);
  assert.equal(liveness.doubt(6_000), 2_000);
  assert.equal(liveness.doubted, true);
  // Bytes that were under way before the server died are no answer.
  liveness.heard(7_000);
  assert.deepEqual([liveness.look(7_999, true), liveness.look(8_000, true)], ["alive", "dead"]);
  liveness.answered();
  assert.deepEqual([liveness.doubted, liveness.look(8_000, true)], [false, "alive"]);
});

Deno.test("liveness: at long intervals, a silent server has five seconds for the answer to a ping", () => {
  const liveness = new Liveness(30_000, 1_000);
  assert.equal(liveness.look(100_000, false), "alive", "nothing runs");
  assert.deepEqual([liveness.look(30_999, true), liveness.look(31_000, true)], ["alive", "ask"]);
  assert.equal(liveness.waitMs, 5_000);
  assert.deepEqual([liveness.look(35_999, true), liveness.look(36_000, true)], ["alive", "dead"]);
});

Deno.test("liveness: at an interval shorter than each of these times, it is the interval", () => {
  const liveness = new Liveness(900, 0);
  assert.deepEqual([liveness.doubts(899), liveness.doubts(900)], [false, true]);
  assert.equal(liveness.doubt(900), 900);
  liveness.answered();
  assert.equal(liveness.look(900, true), "ask");
  assert.equal(liveness.waitMs, 900);
});

Deno.test("liveness: at an interval of 0 a server is neither asked nor doubted", () => {
  const liveness = new Liveness(0, 0);
  assert.equal(liveness.doubts(1e9), false);
  assert.equal(liveness.look(1e9, true), "alive");
});

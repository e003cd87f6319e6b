/** A backend that fails is left alone for a while. */
import assert from "node:assert/strict";
import { Circuit } from "../../src/worker/circuit.ts";

function circuit(failures = 3): { circuit: Circuit; changes: boolean[] } {
  const changes: boolean[] = [];
  const limits = { failures, withinMs: 1000, pauseMs: 500 };
  return { circuit: new Circuit(limits, (open) => void changes.push(open)), changes };
}

Deno.test("circuit: opens after so many failures in a row", () => {
  const { circuit: it, changes } = circuit();
  it.failed(0, false);
  it.failed(1, false);
  it.succeeded();
  it.failed(2, false);
  it.failed(3, false);
  assert.deepEqual([it.open, it.mayAsk(3), changes], [false, true, []]);
  it.failed(4, false);
  assert.deepEqual([it.open, it.mayAsk(4), changes], [true, false, [true]]);
});

Deno.test("circuit: failures that lie too far apart do not count together", () => {
  const { circuit: it } = circuit(2);
  it.failed(0, false);
  it.failed(1001, false);
  assert.equal(it.open, false);
  it.failed(2001, false);
  assert.equal(it.open, true);
});

Deno.test("circuit: after the pause one request tries, and others wait for what becomes of it", () => {
  const { circuit: it, changes } = circuit(1);
  it.failed(0, false);
  assert.equal(it.mayAsk(499), false);
  assert.equal(it.mayAsk(500), true);
  assert.equal(it.ask(), true);
  assert.equal(it.mayAsk(501), false);
  it.failed(600, true);
  assert.deepEqual([it.mayAsk(1099), it.mayAsk(1100)], [false, true]);
  assert.equal(it.ask(), true);
  it.succeeded();
  assert.deepEqual([it.open, it.mayAsk(1101), it.ask(), changes], [false, true, false, [true, false]]);
});

Deno.test("circuit: a trial that is given up leaves the next request to try", () => {
  const { circuit: it } = circuit(1);
  it.failed(0, false);
  it.ask();
  it.abandoned();
  assert.deepEqual([it.open, it.mayAsk(500)], [true, true]);
});

Deno.test("circuit: requests from before it opened neither prolong the pause nor end a trial; one that succeeds closes it", () => {
  const { circuit: it, changes } = circuit(1);
  it.failed(0, false);
  it.failed(400, false);
  assert.equal(it.mayAsk(500), true);
  it.ask();
  it.failed(501, false);
  assert.equal(it.mayAsk(502), false);
  it.succeeded();
  assert.deepEqual([it.open, changes], [false, [true, false]]);
});

Deno.test("circuit: with 0 it never opens", () => {
  const { circuit: it, changes } = circuit(0);
  for (let time = 0; time < 100; time++) it.failed(time, false);
  assert.deepEqual([it.open, it.mayAsk(100), changes], [false, true, []]);
});

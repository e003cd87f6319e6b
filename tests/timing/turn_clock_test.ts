import assert from "node:assert/strict";
import { turnNow } from "../../src/timing/turn_clock.ts";

/** Runs until the system's clock has gone on. */
function spin(): number {
  const beganMs = performance.now();
  let nowMs = beganMs;
  while (nowMs < beganMs + 2) nowMs = performance.now();
  return nowMs;
}

Deno.test("turn clock: it stands still while code runs without a pause, and is right again afterwards", async () => {
  const first = turnNow();
  const spun = spin();
  assert.equal(turnNow(), first);
  await null;
  assert(turnNow() >= spun);
  assert(turnNow() <= performance.now());
});

import assert from "node:assert/strict";
import { within } from "../../src/timing/within.ts";

const late = (): never => {
  throw new Error("late");
};

Deno.test("what comes in time is given, and leaves no timer", async () => {
  assert.equal(await within(Promise.resolve(1), 3_600_000, late), 1);
});

Deno.test("what fails in time fails so, and leaves no timer", async () => {
  await assert.rejects(within(Promise.reject(new Error("failed")), 3_600_000, late), /^Error: failed$/);
});

Deno.test("what is late is what the caller says instead, or throws", async () => {
  const never = new Promise<number>(() => {});
  assert.equal(await within(never, 1, () => 2), 2);
  await assert.rejects(within(never, 1, late), /^Error: late$/);
});

Deno.test("what fails after its time is nobody's failure", async () => {
  const { promise, reject } = Promise.withResolvers<number>();
  assert.equal(await within(promise, 1, () => 2), 2);
  reject(new Error("too late"));
  await Promise.resolve();
});

import assert from "node:assert/strict";
import { Drain, raceAbort } from "../../src/worker/connection_set.ts";

const never = new AbortController().signal;
const member = () => ({
  told: 0,
  shutDown(): void {
    this.told++;
  },
});

Deno.test("nothing live: no wait", async () => assert.equal(await new Drain().wait(never), true));

Deno.test("waits until the last has left", async () => {
  const drain = new Drain();
  const [a, b] = [member(), member()];
  drain.enter(a);
  drain.enter(b);
  const waiting = drain.wait(never);
  drain.leave(a);
  assert.equal(drain.live, 1);
  drain.leave(a);
  assert.equal(drain.live, 1, "left twice");
  drain.leave(b);
  assert.equal(await waiting, true);
});

Deno.test("the signal ends the wait", async () => {
  const drain = new Drain();
  drain.enter(member());
  const stop = new AbortController();
  const waiting = drain.wait(stop.signal);
  stop.abort();
  assert.equal(await waiting, false);
  assert.equal(await drain.wait(stop.signal), false);
});

Deno.test("all that are left are told to end, also those that leave while they are told", () => {
  const drain = new Drain();
  const told: number[] = [];
  for (let index = 0; index < 3; index++) {
    const leaver = { shutDown: () => (told.push(index), drain.leave(leaver)) };
    drain.enter(leaver);
  }
  drain.shutDown();
  assert.deepEqual(told, [0, 1, 2]);
  assert.equal(drain.live, 0);
});

Deno.test("raceAbort passes a rejection on", async () => {
  await assert.rejects(raceAbort(Promise.reject(new TypeError("x")), never), TypeError);
});

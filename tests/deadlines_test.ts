import assert from "node:assert/strict";
import { Deadlines } from "../src/deadlines.ts";
import { FakeTiming } from "./support/fake_timing.ts";

function fixture(resolutionMs = 10): {
  timing: FakeTiming;
  deadlines: Deadlines;
  reached: [string, number][];
  owner(name: string): { deadlineReached(): void };
} {
  const timing = new FakeTiming();
  const reached: [string, number][] = [];
  return {
    timing,
    deadlines: new Deadlines(resolutionMs, timing),
    reached,
    owner: (name) => ({ deadlineReached: () => void reached.push([name, timing.now()]) }),
  };
}

Deno.test("a deadline is reached once, at its time", () => {
  const { timing, deadlines, reached, owner } = fixture();
  deadlines.after(100, owner("a"));
  timing.advance(99);
  assert.deepEqual(reached, []);
  timing.advance(1);
  assert.deepEqual(reached, [["a", 100]]);
  timing.advance(1000);
  assert.equal(reached.length, 1);
});

Deno.test("deadlines of several delays come in the order of their moments", () => {
  const { timing, deadlines, reached, owner } = fixture();
  deadlines.after(300, owner("c"));
  deadlines.after(100, owner("a"));
  timing.advance(50);
  deadlines.after(100, owner("b"));
  timing.advance(300);
  assert.deepEqual(reached, [["a", 100], ["b", 150], ["c", 300]]);
});

Deno.test("one that is extended is reached the whole delay later", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const a = deadlines.after(100, owner("a"));
  deadlines.after(100, owner("b"));
  timing.advance(60);
  a.extend();
  timing.advance(200);
  assert.deepEqual(reached, [["b", 100], ["a", 160]]);
});

Deno.test("one that is cancelled is not reached, and can be cancelled or extended again without effect", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const a = deadlines.after(100, owner("a"));
  a.cancel();
  a.cancel();
  a.extend();
  timing.advance(1000);
  assert.deepEqual(reached, []);
});

Deno.test("one that was reached cannot be extended", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const a = deadlines.after(100, owner("a"));
  timing.advance(100);
  a.extend();
  timing.advance(1000);
  assert.equal(reached.length, 1);
});

Deno.test("no timer runs while there are none", () => {
  const { timing, deadlines, owner } = fixture();
  assert.equal(timing.pending, 0);
  deadlines.after(100, owner("a"));
  assert.equal(timing.pending, 1);
  timing.advance(100);
  assert.equal(timing.pending, 0);
});

Deno.test("a thousand deadlines within the resolution take few timers, and none is later than it", () => {
  const { timing, deadlines, reached, owner } = fixture(10);
  for (let at = 0; at < 1000; at++) {
    deadlines.after(100, owner(String(at)));
    timing.advance(0.1);
  }
  timing.advance(300);
  assert.equal(reached.length, 1000);
  for (const [name, at] of reached) {
    const dueAt = Number(name) * 0.1 + 100;
    assert(at >= dueAt - 1e-6 && at <= dueAt + 10 + 1e-6, `${name} at ${at}`);
  }
  assert(timing.started < 30, `${timing.started} timers`);
});

Deno.test("a deadline may be added, and another cancelled, while one is reached", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const doomed = { cancel: () => {} };
  deadlines.after(100, {
    deadlineReached: () => {
      reached.push(["first", timing.now()]);
      doomed.cancel();
      deadlines.after(100, owner("next"));
    },
  });
  doomed.cancel = (() => {
    const deadline = deadlines.after(100, owner("doomed"));
    return () => deadline.cancel();
  })();
  timing.advance(500);
  assert.deepEqual(reached, [["first", 100], ["next", 200]]);
});

Deno.test("with the system's clock", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const startedAt = performance.now();
  new Deadlines(1).after(20, { deadlineReached: () => resolve() });
  await promise;
  assert(performance.now() - startedAt >= 19);
});

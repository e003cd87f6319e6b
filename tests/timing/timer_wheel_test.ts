import assert from "node:assert/strict";
import { Deadlines } from "../../src/timing/timer_wheel.ts";
import { FakeTiming } from "../support/fake_timing.ts";

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

Deno.test("one that is extended again and again is reached the whole delay after the last time", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const a = deadlines.after(100, owner("a"));
  for (let count = 0; count < 50; count++) {
    timing.advance(70);
    a.extend();
  }
  assert.deepEqual(reached, []);
  timing.advance(100);
  assert.deepEqual(reached, [["a", 3600]]);
});

Deno.test("one that is cancelled is not reached, and no timer is left", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const a = deadlines.after(100, owner("a"));
  a.cancel();
  a.cancel();
  assert.equal(timing.pending, 0);
  timing.advance(1000);
  assert.deepEqual(reached, []);
});

Deno.test("one that was cancelled or reached is set anew by extending it", () => {
  const { timing, deadlines, reached, owner } = fixture();
  const a = deadlines.after(100, owner("a"));
  a.cancel();
  timing.advance(50);
  a.extend();
  timing.advance(100);
  a.extend();
  timing.advance(100);
  assert.deepEqual(reached, [["a", 150], ["a", 250]]);
});

Deno.test("a delay of many rounds of the wheel", () => {
  const { timing, deadlines, reached, owner } = fixture(1);
  deadlines.after(5000, owner("far"));
  deadlines.after(3, owner("near"));
  timing.advance(10_000);
  assert.deepEqual(reached, [["near", 3], ["far", 5000]]);
});

Deno.test("any mix of delays, extensions and cancellations is reached when it should be", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
  const { timing, deadlines } = fixture(10);
  const all = Array.from({ length: 300 }, () => {
    const delayMs = 1 + random(30_000);
    const entry = {
      dueAt: timing.now() + delayMs,
      delayMs,
      reachedAt: -1,
      deadline: { extend() {}, cancel() {} },
    };
    entry.deadline = deadlines.after(delayMs, {
      deadlineReached: () => void (entry.reachedAt = timing.now()),
    });
    return entry;
  });
  for (let step = 0; step < 3000; step++) {
    timing.advance(random(20));
    const entry = all[random(all.length)];
    if (entry === undefined || entry.reachedAt >= 0) continue;
    if (random(10) === 0) {
      entry.deadline.cancel();
      entry.dueAt = Infinity;
    } else if (entry.dueAt < Infinity) {
      entry.deadline.extend();
      entry.dueAt = timing.now() + entry.delayMs;
    }
  }
  timing.advance(100_000);
  for (const { dueAt, reachedAt } of all) {
    if (dueAt === Infinity) assert.equal(reachedAt, -1);
    else assert(reachedAt >= dueAt && reachedAt <= dueAt + 11, `due at ${dueAt}, reached at ${reachedAt}`);
  }
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

Deno.test("repeated, it keeps its pace, whatever the ticks make of each moment", () => {
  const { timing, deadlines, reached } = fixture(10);
  const deadline = deadlines.after(33, {
    deadlineReached: () => {
      reached.push(["x", timing.now()]);
      if (reached.length < 100) deadline.repeat();
    },
  });
  timing.advance(10_000);
  for (const [index, [, at]] of reached.entries()) {
    const dueAt = 33 * (index + 1);
    assert(at >= dueAt && at <= dueAt + 20, `${index}: due at ${dueAt}, reached at ${at}`);
  }
  assert.equal(reached.length, 100);
});

Deno.test("repeated long after it was reached, it begins from now", () => {
  const { timing, deadlines, reached, owner } = fixture(10);
  const deadline = deadlines.after(100, owner("x"));
  timing.advance(1000);
  deadline.repeat();
  timing.advance(99);
  assert.equal(reached.length, 1);
  timing.advance(11);
  assert.equal(reached.length, 2);
});

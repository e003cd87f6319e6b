import assert from "node:assert/strict";
import { Timer, TimerWheel } from "../../src/timing/timer_wheel.ts";
import { FakeTiming } from "../support/fake_timing.ts";

/** How many slots a wheel has. */
const SLOTS = 1024;

class TestTimer extends Timer {
  readonly #reached: () => void;

  constructor(reached: () => void) {
    super();
    this.#reached = reached;
  }

  timedOut(): void {
    this.#reached();
  }
}

function fixture(tickMs = 10): {
  timing: FakeTiming;
  wheel: TimerWheel;
  reached: [string, number][];
  /** One that notes when it was reached; set if a delay is given. */
  timer(name: string, delayMs?: number, then?: () => void): TestTimer;
} {
  const timing = new FakeTiming();
  const wheel = new TimerWheel(tickMs, timing);
  const reached: [string, number][] = [];
  return {
    timing,
    wheel,
    reached,
    timer(name, delayMs, then) {
      const timer = new TestTimer(() => {
        reached.push([name, timing.now()]);
        then?.();
      });
      if (delayMs !== undefined) wheel.set(timer, delayMs);
      return timer;
    },
  };
}

Deno.test("a timer is reached once, at its time", () => {
  const { timing, reached, timer } = fixture();
  timer("a", 100);
  timing.advance(99);
  assert.deepEqual(reached, []);
  timing.advance(1);
  assert.deepEqual(reached, [["a", 100]]);
  timing.advance(1000);
  assert.equal(reached.length, 1);
});

Deno.test("timers of several delays come in the order of their moments", () => {
  const { timing, reached, timer } = fixture();
  timer("c", 300);
  timer("a", 100);
  timing.advance(50);
  timer("b", 100);
  timing.advance(300);
  assert.deepEqual(reached, [["a", 100], ["b", 150], ["c", 300]]);
});

Deno.test("one that is set again is reached the whole delay later", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a = timer("a", 100);
  timer("b", 100);
  timing.advance(60);
  wheel.set(a, 100);
  timing.advance(200);
  assert.deepEqual(reached, [["b", 100], ["a", 160]]);
});

Deno.test("one that is set again and again is reached the whole delay after the last time", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a = timer("a", 100);
  for (let count = 0; count < 50; count++) {
    timing.advance(70);
    wheel.set(a, 100);
  }
  assert.deepEqual(reached, []);
  timing.advance(100);
  assert.deepEqual(reached, [["a", 3600]]);
});

Deno.test("to move one to a later moment is one store: it stays where it hangs", () => {
  const { timing, wheel, reached, timer } = fixture();
  timer("neighbour", 100);
  const a = timer("a", 100);
  const { next, previous, lookTick } = a;
  wheel.set(a, 250);
  assert.deepEqual([a.next === next, a.previous === previous, a.lookTick], [true, true, lookTick]);
  assert.equal(a.dueMs, 250);
  timing.advance(249);
  assert.deepEqual(reached, [["neighbour", 100]]);
  timing.advance(1);
  assert.deepEqual(reached, [["neighbour", 100], ["a", 250]]);
});

Deno.test("to move one to an earlier moment sets it anew: it is reached then, and not again", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a = timer("a", 1000);
  wheel.set(a, 30);
  timing.advance(29);
  assert.deepEqual(reached, []);
  timing.advance(1);
  assert.deepEqual(reached, [["a", 30]]);
  timing.advance(5000);
  assert.deepEqual(reached, [["a", 30]]);
});

Deno.test("earlier, later and earlier again: the last word holds", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a = timer("a", 1000);
  wheel.set(a, 100);
  wheel.set(a, 3000);
  timing.advance(500);
  wheel.set(a, 200);
  timing.advance(10_000);
  assert.deepEqual(reached, [["a", 700]]);
});

Deno.test("one that is cancelled is not reached, and no native timer is left", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a = timer("a", 100);
  wheel.cancel(a);
  wheel.cancel(a);
  assert.equal(timing.pending, 0);
  timing.advance(1000);
  assert.deepEqual(reached, []);
});

Deno.test("one that was cancelled or reached can be set anew", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a = timer("a", 100);
  wheel.cancel(a);
  timing.advance(50);
  wheel.set(a, 100);
  timing.advance(100);
  wheel.set(a, 100);
  timing.advance(100);
  assert.deepEqual(reached, [["a", 150], ["a", 250]]);
});

Deno.test("a delay of many rounds of the wheel", () => {
  const { timing, reached, timer } = fixture(1);
  timer("far", 5000);
  timer("near", 3);
  timing.advance(10_000);
  assert.deepEqual(reached, [["near", 3], ["far", 5000]]);
});

Deno.test("delays around one round of the wheel, set at every place of it, are reached to the tick", () => {
  const { timing, reached, timer } = fixture(1);
  const expected: [string, number][] = [];
  for (let place = 0; place < SLOTS; place += 31) {
    for (const delayMs of [1, SLOTS - 1, SLOTS, SLOTS + 1, 2 * SLOTS, 3 * SLOTS + 7]) {
      const name = `${delayMs} from ${timing.now()}`;
      expected.push([name, timing.now() + delayMs]);
      timer(name, delayMs);
    }
    timing.advance(31);
  }
  timing.advance(10 * SLOTS);
  const byMoment = (list: [string, number][]) =>
    list.toSorted((a, b) => a[1] - b[1] || a[0].localeCompare(b[0]));
  assert.deepEqual(byMoment(reached), byMoment(expected));
});

Deno.test("after a sleep of many rounds all that is due is reached at once, and the rest at its time", () => {
  const { timing, reached, timer } = fixture(1);
  for (const delayMs of [1, SLOTS, 2 * SLOTS + 5, 20_000]) timer(String(delayMs), delayMs);
  timing.oversleep(15_000);
  timing.advance(0);
  assert.deepEqual(reached.map(([, at]) => at), [15_000, 15_000, 15_000]);
  timing.advance(4999);
  assert.equal(reached.length, 3);
  timing.advance(1);
  assert.deepEqual(reached[3], ["20000", 20_000]);
  assert.equal(timing.pending, 0);
});

Deno.test("any mix of delays, moves to later and earlier, cancellations and sleeps is reached when it should be", () => {
  let seed = 7;
  const random = (below: number) => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) % below;
  const { timing, wheel } = fixture(10);
  const all = Array.from({ length: 300 }, () => {
    const entry = {
      dueAt: Infinity,
      latest: Infinity,
      reachedAt: -1,
      timer: new TestTimer(() => {
        assert.equal(entry.reachedAt, -1, "reached twice");
        entry.reachedAt = timing.now();
      }),
    };
    return entry;
  });
  const set = (entry: typeof all[number]) => {
    const delayMs = random(30_000);
    wheel.set(entry.timer, delayMs);
    entry.dueAt = timing.now() + delayMs;
    entry.latest = entry.dueAt + 20;
  };
  for (const entry of all) set(entry);
  for (let step = 0; step < 5000; step++) {
    if (random(500) === 0) {
      const before = timing.now();
      timing.oversleep(random(30_000));
      // Whatever was due meanwhile is reached at the end of the sleep.
      for (const entry of all) {
        if (entry.reachedAt < 0 && entry.latest > before) entry.latest = Math.max(entry.latest, timing.now());
      }
      timing.advance(0);
    } else timing.advance(random(20));
    const entry = all[random(all.length)];
    if (entry === undefined || entry.reachedAt >= 0) continue;
    if (random(10) > 0) set(entry);
    else {
      wheel.cancel(entry.timer);
      entry.dueAt = Infinity;
    }
  }
  timing.advance(100_000);
  for (const { dueAt, latest, reachedAt } of all) {
    if (dueAt === Infinity) assert.equal(reachedAt, -1);
    else assert(reachedAt >= dueAt && reachedAt <= latest, `due at ${dueAt}, reached at ${reachedAt}`);
  }
  assert.equal(timing.pending, 0);
});

Deno.test("no native timer runs while there are none", () => {
  const { timing, timer } = fixture();
  assert.equal(timing.pending, 0);
  timer("a", 100);
  assert.equal(timing.pending, 1);
  timing.advance(100);
  assert.equal(timing.pending, 0);
});

Deno.test("a thousand timers within the resolution take few native ones, and none is later than it", () => {
  const { timing, reached, timer } = fixture(10);
  for (let at = 0; at < 1000; at++) {
    timer(String(at), 100);
    timing.advance(0.1);
  }
  timing.advance(300);
  assert.equal(reached.length, 1000);
  for (const [name, at] of reached) {
    const dueAt = Number(name) * 0.1 + 100;
    assert(at >= dueAt - 1e-6 && at <= dueAt + 10 + 1e-6, `${name} at ${at}`);
  }
  assert.equal(timing.started, 1);
});

Deno.test("a timer may be set, and another cancelled, while one is reached", () => {
  const { timing, wheel, reached, timer } = fixture();
  const doomed = timer("doomed");
  timer("first", 100, () => {
    wheel.cancel(doomed);
    timer("next", 100);
  });
  wheel.set(doomed, 100);
  timing.advance(500);
  assert.deepEqual(reached, [["first", 100], ["next", 200]]);
});

Deno.test("one that is due in the same turn may be moved to a later moment or an earlier one", () => {
  const { timing, wheel, reached, timer } = fixture();
  const later = timer("later");
  const far = timer("far", 1000);
  timer("first", 100, () => {
    wheel.set(later, 50);
    wheel.set(far, 20);
  });
  wheel.set(later, 100);
  timing.advance(2000);
  assert.deepEqual(reached, [["first", 100], ["far", 120], ["later", 150]]);
});

Deno.test("one that sets itself without a delay is reached once a turn, so that the turn ends", () => {
  const { timing, wheel, reached, timer } = fixture();
  const a: TestTimer = timer("a", 10, () => reached.length < 3 && wheel.set(a, 0));
  timing.advance(100);
  assert.deepEqual(reached, [["a", 10], ["a", 20], ["a", 30]]);
});

Deno.test("the last one that cancels itself as it is reached stops the native timer", () => {
  const { timing, wheel, timer } = fixture();
  const a: TestTimer = timer("a", 10, () => wheel.cancel(a));
  timing.advance(10);
  assert.equal(timing.pending, 0);
});

Deno.test("with the system's clock", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const startedAt = performance.now();
  new TimerWheel(1).set(new TestTimer(resolve), 20);
  await promise;
  assert(performance.now() - startedAt >= 19);
});

Deno.test("repeated, it keeps its pace, whatever the ticks make of each moment", () => {
  const { timing, wheel, reached, timer } = fixture(10);
  const a: TestTimer = timer("x", 33, () => reached.length < 100 && wheel.repeat(a, 33));
  timing.advance(10_000);
  for (const [index, [, at]] of reached.entries()) {
    const dueAt = 33 * (index + 1);
    assert(at >= dueAt && at <= dueAt + 20, `${index}: due at ${dueAt}, reached at ${at}`);
  }
  assert.equal(reached.length, 100);
});

Deno.test("repeated long after it was reached, it begins from now", () => {
  const { timing, wheel, reached, timer } = fixture(10);
  const a = timer("x", 100);
  timing.advance(1000);
  wheel.repeat(a, 100);
  timing.advance(99);
  assert.equal(reached.length, 1);
  timing.advance(11);
  assert.equal(reached.length, 2);
});

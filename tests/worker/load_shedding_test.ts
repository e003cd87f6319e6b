import assert from "node:assert/strict";
import { type Heap, LoadShedding, V8_HEAP } from "../../src/worker/load_shedding.ts";
import { listLog, type LoggedLine } from "../support/connections.ts";

const LIMIT_BYTES = 1000;

/** A worker's door, and a heap of 1000 bytes that does what the test says. */
function fixture(): {
  readonly heap: Heap & { used: number; now: number; suggestions: number };
  readonly shedding: LoadShedding;
  readonly doors: boolean[];
  readonly lines: LoggedLine[];
} {
  const heap = {
    used: 100,
    now: 0,
    suggestions: 0,
    usedBytes: () => heap.used,
    limitBytes: () => LIMIT_BYTES,
    suggestCollection: () => void heap.suggestions++,
    nowMs: () => heap.now,
  };
  const doors: boolean[] = [];
  const lines: LoggedLine[] = [];
  const shedding = new LoadShedding({ admit: (open) => void doors.push(open) }, listLog(lines), heap);
  return { heap, shedding, doors, lines };
}

Deno.test("past 70 % of the heap the door is shut, below 60 % it opens, and in between it stays", () => {
  const { heap, shedding, doors } = fixture();
  for (
    const [used, expected] of [
      [700, []],
      [701, [false]],
      [990, [false]],
      [690, [false]],
      [600, [false]],
      [599, [false, true]],
      [650, [false, true]],
      [701, [false, true, false]],
    ] as const
  ) {
    heap.used = used;
    shedding.look();
    assert.deepEqual(doors, expected, `${used} bytes`);
  }
});

Deno.test("between two looks what streams hold is counted, two bytes for each", () => {
  const { heap, shedding, doors } = fixture();
  shedding.hold(300);
  assert.deepEqual(doors, []);
  shedding.hold(1);
  assert.deepEqual(doors, [false]);
  // The next look sees it in the heap, and does not count it twice.
  heap.used = 500;
  shedding.look();
  assert.deepEqual(doors, [false, true]);
  shedding.hold(100);
  assert.deepEqual(doors, [false, true]);
  shedding.hold(1);
  assert.deepEqual(doors, [false, true, false]);
});

Deno.test("what streams let go of makes room for others", () => {
  const { shedding, doors } = fixture();
  for (let stream = 0; stream < 1000; stream++) {
    shedding.hold(250);
    shedding.release(250);
  }
  assert.deepEqual(doors, []);
});

Deno.test("while the door is shut a collection is suggested, every ten seconds, and not otherwise", () => {
  const { heap, shedding } = fixture();
  shedding.look();
  assert.equal(heap.suggestions, 0);
  heap.used = 900;
  for (let second = 0; second <= 20; second++) {
    heap.now = second * 1000;
    shedding.look();
  }
  assert.equal(heap.suggestions, 3);
});

Deno.test("a suggestion for which the system has no memory changes nothing, and the next one comes", () => {
  const { heap, shedding, doors } = fixture();
  heap.suggestCollection = () => {
    heap.suggestions++;
    throw new RangeError("Array buffer allocation failed");
  };
  heap.used = 900;
  for (heap.now = 0; heap.now <= 10_000; heap.now += 1000) shedding.look();
  assert.equal(heap.suggestions, 2);
  heap.used = 100;
  shedding.look();
  assert.deepEqual(doors, [false, true]);
});

Deno.test("a door that goes to and fro is logged once a minute, with what to do", () => {
  const { heap, shedding, doors, lines } = fixture();
  for (let second = 0; second < 120; second++) {
    heap.now = second * 1000;
    heap.used = second % 2 === 0 ? 900 : 100;
    shedding.look();
  }
  assert.equal(doors.length, 120);
  assert.deepEqual(lines.map(({ level, fields }) => [level, fields]), [
    ["warning", { used_mib: 0, limit_mib: 0 }],
    ["warning", { used_mib: 0, limit_mib: 0 }],
  ]);
  assert.match(lines[0]?.message ?? "", /more workers.*DENO_V8_FLAGS=--max-old-space-size/);
});

Deno.test("V8's heap: what is used grows with what is kept, and a suggested collection takes the garbage", async () => {
  const { usedBytes, limitBytes, suggestCollection } = V8_HEAP;
  const before = usedBytes();
  let kept: unknown = Array.from({ length: 1 << 20 }, (_, index) => ({ index }));
  assert(usedBytes() - before > 16 << 20);
  assert(limitBytes() > usedBytes());
  assert(kept !== undefined);
  kept = undefined;
  for (let round = 0; usedBytes() - before > 8 << 20; round++) {
    assert(round < 100, "the garbage stays");
    suggestCollection();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});

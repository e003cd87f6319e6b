import assert from "node:assert/strict";
import { ReadCoalescer } from "../../src/timing/read_coalescer.ts";

/** A coalescer whose clock, turns and rests are the test's. */
class Rig {
  nowMs = 1000;
  readonly rests: number[] = [];
  readonly coalescer = new ReadCoalescer({
    rest: (ms) => {
      this.rests.push(this.nowMs);
      this.nowMs += ms;
    },
    now: () => this.nowMs,
    afterTurn: (callback) => this.#ends.push(callback),
  });
  #ends: (() => void)[] = [];

  /** A turn in which something comes so many times, and which takes so long. */
  turn(atMs: number, { times = 1, takesMs = 0.1 } = {}): void {
    this.nowMs = atMs;
    for (let i = 0; i < times; i++) this.coalescer.received();
    this.nowMs += takesMs;
    const ends = this.#ends;
    this.#ends = [];
    assert.ok(ends.length <= 1, "one look at the end of a turn");
    for (const end of ends) end();
  }
}

Deno.test("turns far apart meet no rest", () => {
  const rig = new Rig();
  for (let i = 0; i < 10; i++) rig.turn(1000 + 5 * i);
  assert.deepEqual(rig.rests, []);
});

Deno.test("a turn that follows closely is followed by one rest, however much came in it", () => {
  const rig = new Rig();
  rig.turn(1000);
  rig.turn(1001, { times: 5 });
  assert.deepEqual(rig.rests, [1001.1]);
});

Deno.test("where it goes on closely after a rest, there is a rest again", () => {
  const rig = new Rig();
  for (let i = 0; i < 4; i++) rig.turn(rig.nowMs + 0.2);
  assert.equal(rig.rests.length, 3);
  rig.turn(rig.nowMs + 5);
  assert.equal(rig.rests.length, 3, "it has become quiet");
});

Deno.test("after a long turn there is no rest: what comes has gathered meanwhile", () => {
  const rig = new Rig();
  for (let i = 0; i < 4; i++) rig.turn(rig.nowMs + 0.2, { takesMs: 4 });
  assert.deepEqual(rig.rests, []);
});

Deno.test("after a full turn there is no rest: more may be there already", () => {
  const rig = new Rig();
  rig.turn(1000);
  for (let i = 0; i < 4; i++) rig.turn(rig.nowMs + 0.2, { times: 64 });
  assert.deepEqual(rig.rests, []);
  rig.turn(rig.nowMs + 0.2, { times: 63 });
  assert.equal(rig.rests.length, 1);
});

Deno.test("without parts of a test's it rests in real turns", async () => {
  const rests: number[] = [];
  const coalescer = new ReadCoalescer({ rest: (ms) => void rests.push(ms) });
  for (let i = 0; i < 50 && rests.length === 0; i++) {
    coalescer.received();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(rests, [4]);
});

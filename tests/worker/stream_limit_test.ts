import assert from "node:assert/strict";
import { ConnectionSet } from "../../src/worker/connection_set.ts";
import { type LimitTiming, StreamLimit } from "../../src/worker/stream_limit.ts";
import { turn } from "../support/answers.ts";
import { failed, fakeWorker, only, text } from "../support/connections.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

/** A clock that a test moves, with one timer at most. */
class OneTimer implements LimitTiming {
  nowMs = 0;
  looks = 0;
  #due: { atMs: number; callback: () => void } | undefined;

  now(): number {
    return this.nowMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    assert.equal(this.#due, undefined);
    this.#due = { atMs: this.nowMs + delayMs, callback };
    return () => void (this.#due = undefined);
  }

  get pending(): boolean {
    return this.#due !== undefined;
  }

  advance(ms: number): void {
    const untilMs = this.nowMs + ms;
    while (this.#due !== undefined && this.#due.atMs <= untilMs) {
      const { atMs, callback } = this.#due;
      this.#due = undefined;
      this.nowMs = atMs;
      this.looks++;
      callback();
    }
    this.nowMs = untilMs;
  }
}

/** Connections that end when they are told that they have lasted too long, at what time that was. */
function rig(): { timing: OneTimer; set: ConnectionSet; begin(): void; ended: [number, number][] } {
  const timing = new OneTimer();
  const set = new ConnectionSet();
  const ended: [number, number][] = [];
  const begin = () => {
    const startedMs = timing.nowMs;
    const member = {
      startedMs,
      shutDown() {},
      close() {},
      outlived() {
        ended.push([startedMs, timing.nowMs]);
        set.delete(member);
      },
    };
    set.add(member);
  };
  return { timing, set, begin, ended };
}

Deno.test("each ends when its time is over, and not before", () => {
  const { timing, set, begin, ended } = rig();
  new StreamLimit(set, timing).set(10_000);
  const starts = [0, 1000, 1040, 9000, 9999, 30_000];
  for (const startMs of starts) {
    timing.advance(startMs - timing.nowMs);
    begin();
  }
  timing.advance(20_000);
  assert.deepEqual(ended.map(([startedMs]) => startedMs), starts);
  for (const [startedMs, endedMs] of ended) {
    const lateMs = endedMs - startedMs - 10_000;
    assert(lateMs >= 0 && lateMs <= 50, `${lateMs} ms late`);
  }
});

Deno.test("those who came together end together, and a worker without streams hardly looks", () => {
  const { timing, set, begin, ended } = rig();
  new StreamLimit(set, timing).set(10_000);
  for (let count = 0; count < 1000; count++) {
    begin();
    timing.advance(1);
  }
  timing.advance(10_000);
  assert.equal(ended.length, 1000);
  assert(timing.looks <= 25, `${timing.looks} looks`);
  const before = timing.looks;
  timing.advance(100_000);
  assert(timing.looks - before <= 10);
});

Deno.test("a new limit holds for those that are live; 0 is none", () => {
  const { timing, set, begin, ended } = rig();
  const limit = new StreamLimit(set, timing);
  limit.set(0);
  assert.equal(timing.pending, false);
  begin();
  timing.advance(60_000);
  limit.set(100_000);
  timing.advance(30_000);
  assert.deepEqual(ended, []);
  limit.set(80_000);
  assert.deepEqual(ended, [[0, 90_000]]);
  limit.set(0);
  assert.equal(timing.pending, false);
});

Deno.test("one that stays after its word holds up nobody, and is not looked at all the time", () => {
  const { timing, set, begin, ended } = rig();
  let told = 0;
  set.add({ startedMs: 0, shutDown() {}, close() {}, outlived: () => void told++ });
  new StreamLimit(set, timing).set(1000);
  timing.advance(500);
  begin();
  timing.advance(1050);
  assert.equal(ended.length, 1);
  timing.advance(10_000);
  assert(told >= 2 && told <= 15, `told ${told} times`);
});

Deno.test("a stream that has lasted too long is told so, once, and its answer is cancelled", async () => {
  const { ask, connections, calls } = fakeWorker();
  const [client, answer] = await ask();
  answer.emit("a");
  await turn();
  assert.equal(connections.outlive(performance.now()), undefined);
  connections.outlive(performance.now());
  await turn();
  assert.equal(
    client.received,
    STREAM_HEAD + text("a") + failed("The answer took longer than is allowed"),
  );
  assert.deepEqual([client.closed, answer.told], ["in order", ["cancel"]]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "max_stream"]]);
});

Deno.test("one that had nothing yet gets a 504 that says so", async () => {
  const { ask, connections } = fakeWorker();
  const [client] = await ask();
  connections.outlive(performance.now());
  await turn();
  assert.equal(client.received, plainResponse(504, "The answer took longer than is allowed"));
});

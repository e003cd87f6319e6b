import assert from "node:assert/strict";
import type { Connection } from "../../src/worker/connection.ts";
import { ConnectionSet } from "../../src/worker/connection_set.ts";
import { turn } from "../support/answers.ts";

const never = new AbortController().signal;
let started = 0;

/** A connection as a set sees it. */
function member(set?: ConnectionSet, told: string[] = []): Connection {
  const connection = {
    startedMs: ++started,
    shutDown: () => void told.push("shutDown"),
    close: () => {
      told.push("close");
      set?.delete(connection as Connection);
    },
  };
  set?.add(connection as Connection);
  return connection as Connection;
}

Deno.test("nothing live: no wait", async () =>
  assert.equal(await new ConnectionSet().untilEmpty(never), true));

Deno.test("the oldest is the one that came first of those that are live", () => {
  const set = new ConnectionSet();
  assert.equal(set.oldestStartedMs, undefined);
  const [a, b, c] = [member(set), member(set), member(set)];
  assert.equal(set.oldestStartedMs, a.startedMs);
  set.delete(b);
  set.delete(a);
  assert.equal(set.oldestStartedMs, c.startedMs);
});

Deno.test("those that began then or before are ended, and the next one that is due is told", () => {
  const set = new ConnectionSet();
  const ended: number[] = [];
  for (const startedMs of [10, 20, 30]) {
    set.add({ startedMs, shutDown() {}, close() {}, outlived: () => void ended.push(startedMs) });
  }
  assert.equal(set.outlive(9), 10);
  assert.deepEqual(ended, []);
  assert.equal(set.outlive(20), 30);
  assert.deepEqual(ended, [10, 20]);
  assert.equal(set.outlive(30), undefined);
});

Deno.test("waits until the last has ended", async () => {
  const set = new ConnectionSet();
  const [a, b] = [member(set), member(set)];
  const waiting = set.untilEmpty(never);
  set.delete(a);
  assert.equal(set.size, 1);
  set.delete(a);
  assert.equal(set.size, 1, "ended twice");
  set.delete(b);
  assert.equal(await waiting, true);
});

Deno.test("the signal ends the wait, also one that is aborted already", async () => {
  const set = new ConnectionSet();
  member(set);
  const stop = new AbortController();
  const waiting = set.untilEmpty(stop.signal);
  stop.abort();
  assert.equal(await waiting, false);
  assert.equal(await set.untilEmpty(stop.signal), false);
});

Deno.test("one that comes as the last one ends is waited for as well", async () => {
  const set = new ConnectionSet();
  const first = member(set);
  let waited = false;
  const waiting = set.untilEmpty(never).then((empty) => {
    waited = true;
    return empty;
  });
  set.delete(first);
  const next = member(set);
  await turn();
  assert(!waited);
  set.delete(next);
  assert.equal(await waiting, true);
});

Deno.test("a wait that is over leaves nothing at its signal", async () => {
  const set = new ConnectionSet();
  const one = member(set);
  const { signal } = new AbortController();
  const listeners = new Set<unknown>();
  const add = signal.addEventListener.bind(signal);
  const remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners.add(args[1]), add(...args));
  signal.removeEventListener = (
    ...args: Parameters<typeof remove>
  ) => (listeners.delete(args[1]), remove(...args));
  const waiting = set.untilEmpty(signal);
  assert.equal(listeners.size, 1);
  set.delete(one);
  await waiting;
  assert.equal(listeners.size, 0);
});

Deno.test("all that are left are told to end, and closed, also those that leave meanwhile", () => {
  const set = new ConnectionSet();
  const told: string[] = [];
  for (let index = 0; index < 3; index++) member(set, told);
  set.shutDown();
  assert.deepEqual([told, set.size], [["shutDown", "shutDown", "shutDown"], 3]);
  set.close();
  assert.deepEqual([told.slice(3), set.size], [["close", "close", "close"], 0]);
});

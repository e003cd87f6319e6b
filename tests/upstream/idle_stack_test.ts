import assert from "node:assert/strict";
import { IdleStack, type Resting } from "../../src/upstream/h1/idle_stack.ts";

/** As much of a connection as the policy looks at: idle since 1,000, and for 500 at most. */
const idle = (): Resting =>
  ({ room: 1, idleSinceMs: 1000, maxIdleMs: 500, resting: false }) as Partial<Resting> as Resting;

Deno.test("idle stack: a connection that the server is about to close is neither used nor waited for", () => {
  const stack = new IdleStack(() => assert.fail("none rests"));
  const [first, last] = [idle(), idle()];
  stack.update(first);
  stack.update(last);
  assert.deepEqual([stack.next(1499), stack.room(1499)], [last, 2]);
  assert.deepEqual([stack.next(1500), stack.room(1500)], [null, 0]);
});

Deno.test("idle stack: a connection that rests is waited for", async () => {
  const rested = Promise.withResolvers<unknown>();
  const stack = new IdleStack(rested.resolve);
  const connection: Resting = { ...idle(), room: 0, idleSinceMs: performance.now(), resting: true };
  stack.update(connection);
  assert.deepEqual([stack.next(connection.idleSinceMs), stack.room(connection.idleSinceMs)], [null, 1]);
  assert.equal(await rested.promise, connection);
  assert.deepEqual([connection.resting, stack.room(connection.idleSinceMs)], [false, 0]);
});

/** Where a stream is. */
import assert from "node:assert/strict";
import { Homes } from "../../src/worker/homes.ts";

Deno.test("an id is at one worker for ever, and all workers have some, by the reactors that they have now", () => {
  const memory = Homes.allocate(3);
  const [daemon, worker] = [new Homes(memory), new Homes(memory)];
  for (let index = 0; index < 3; index++) daemon.set(index, 10 + index);
  const ids = Array.from({ length: 300 }, () => crypto.randomUUID());
  const before = ids.map((id) => worker.of(id));
  for (const reactor of [10, 11, 12]) assert(before.filter((each) => each === reactor).length > 50);
  daemon.set(1, 99);
  assert.deepEqual(ids.map((id) => worker.of(id)), before.map((each) => each === 11 ? 99 : each));
});

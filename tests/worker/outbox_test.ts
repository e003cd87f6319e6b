import assert from "node:assert/strict";
import { Outbox, type OutboxTarget } from "../../src/worker/outbox.ts";
import type { Frame } from "../../src/protocol/sse.ts";

const target = (id: number): OutboxTarget => ({ id, frame: undefined });

/** What the outbox gives, a list of texts per batch. */
function reader(outbox: Outbox<OutboxTarget>): () => Promise<string[] | undefined> {
  const reader = outbox.readable.getReader();
  return async () => {
    const { done, value } = await reader.read() as ReadableStreamReadResult<readonly Frame<OutboxTarget>[]>;
    return done ? undefined : value.map((frame) => frame.text);
  };
}

Deno.test("frames of one turn are one batch, in order", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const next = reader(outbox);
  outbox.push(target(1), "a");
  outbox.push(target(2), "b");
  assert.deepEqual(await next(), ["a", "b"]);
});

Deno.test("all that a turn has for one client is one frame, the end included", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const [a, b] = [target(1), target(2)];
  outbox.push(a, "a1 ");
  outbox.push(b, "b1 ");
  outbox.push(a, "a2");
  outbox.pushLast(b, "b2");
  const [batch] = await Array.fromAsync(outbox.readable, (batch) => (outbox.close(), batch));
  assert.deepEqual(batch?.map(({ text, end }) => [text, end]), [["a1 a2", false], ["b1 b2", true]]);
});

Deno.test("frames that come out of chains of promises belong to the turn", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const next = reader(outbox);
  const later = async (text: string, hops: number): Promise<void> => {
    for (let hop = 0; hop < hops; hop++) await Promise.resolve();
    outbox.push(target(1), text);
  };
  await Promise.all([later("a", 1), later("b", 2), later("c", 6)]);
  assert.deepEqual(await next(), ["a", "b", "c"]);
});

Deno.test("frames of another turn are another batch", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const next = reader(outbox);
  outbox.push(target(1), "a");
  assert.deepEqual(await next(), ["a"]);
  await outbox.nextTurn();
  outbox.push(target(1), "b");
  assert.deepEqual(await next(), ["b"]);
});

Deno.test("a client that has had its share of a turn is told so, and is free again in the next", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const next = reader(outbox);
  const [greedy, modest] = [target(1), target(2)];
  assert.equal(outbox.push(greedy, "x".repeat(16_000)), false);
  assert.equal(outbox.push(greedy, "x".repeat(1_000)), true);
  assert.equal(outbox.push(modest, "y"), false);
  await outbox.nextTurn();
  assert.equal(outbox.push(greedy, "x"), false);
  assert.deepEqual([(await next())?.length, (await next())?.length], [2, 1]);
});

Deno.test("a batch is bounded: past its size it goes out before the turn's end", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const next = reader(outbox);
  for (let id = 0; id < 150; id++) outbox.push(target(id), "x".repeat(10_000));
  const sizes: number[] = [];
  for (let total = 0; total < 150; total += sizes[sizes.length - 1] as number) {
    sizes.push((await next() as string[]).length);
  }
  assert.deepEqual(sizes, [53, 53, 44]);
});

Deno.test("the next turn comes after other events of the loop", async () => {
  const outbox = new Outbox<OutboxTarget>();
  let other = false;
  setImmediate(() => other = true);
  await outbox.nextTurn();
  assert(other);
});

Deno.test("close gives out what is left, then the end", async () => {
  const outbox = new Outbox<OutboxTarget>();
  const next = reader(outbox);
  outbox.pushLast(target(1), "last");
  outbox.close();
  assert.deepEqual(await next(), ["last"]);
  assert.equal(await next(), undefined);
});

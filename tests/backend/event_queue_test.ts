import assert from "node:assert/strict";
import { EventQueue } from "../../src/backend/event_queue.ts";
import type { ClientEvent, EventBatch } from "../../src/protocol/stream_event.ts";
import { FakeRecipient } from "../support/fake_clients.ts";

const text = (text: string) => ({ kind: "text", text }) as const;

/** The chunks of a queue's stream as they come, in short form. */
function chunksOf(queue: EventQueue): { chunks: string[][]; ended: Promise<void> } {
  const chunks: string[][] = [];
  const note = ({ recipients, events }: EventBatch) => {
    assert.equal(recipients.length, events.length);
    chunks.push(
      events.map((event, index) =>
        `${recipients[index]?.id} ${event.kind === "text" ? event.text : event.kind}`
      ),
    );
  };
  return { chunks, ended: queue.events.pipeTo(new WritableStream({ write: note })) };
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

Deno.test("the events of a turn come as one chunk, in order, before the next turn", async () => {
  const queue = new EventQueue();
  const { chunks } = chunksOf(queue);
  const [a, b] = [new FakeRecipient(1), new FakeRecipient(2)];
  queue.push(a, text("one"));
  queue.push(b, { kind: "open" });
  queue.push(a, { kind: "end" });
  assert.deepEqual(chunks, []);
  await turn();
  assert.deepEqual(chunks, [["1 one", "2 open", "1 end"]]);
  queue.push(b, text("two"));
  await turn();
  assert.deepEqual(chunks, [["1 one", "2 open", "1 end"], ["2 two"]]);
});

Deno.test("what is given without a consumer waits for one, chunk by chunk", async () => {
  const queue = new EventQueue();
  for (const piece of ["a", "b"]) {
    queue.push(new FakeRecipient(1), text(piece));
    await turn();
  }
  const { chunks, ended } = chunksOf(queue);
  queue.close();
  await ended;
  assert.deepEqual(chunks, [["1 a"], ["1 b"]]);
});

Deno.test("a turn with much text comes in several chunks of bounded size, in order", async () => {
  const queue = new EventQueue();
  const { chunks } = chunksOf(queue);
  const piece = "x".repeat(60_000);
  const count = 20;
  for (let id = 0; id < count; id++) queue.push(new FakeRecipient(id), text(piece));
  await turn();
  assert(chunks.length > 1);
  for (const chunk of chunks) assert(chunk.length * piece.length < 256 * 1024 + piece.length);
  assert.deepEqual(chunks.flat().map((each) => parseInt(each)), Array.from({ length: count }, (_, id) => id));
});

Deno.test("many short events are a bounded chunk as well: each costs bytes on the wire beside its text", async () => {
  const queue = new EventQueue();
  const { chunks } = chunksOf(queue);
  const recipient = new FakeRecipient(1);
  const count = 100_000;
  for (let index = 0; index < count; index++) queue.push(recipient, text("x"));
  await turn();
  assert.equal(chunks.flat().length, count);
  for (const chunk of chunks) assert(chunk.length < 10_000, `${chunk.length} events in a chunk`);
});

Deno.test("every kind of text counts: reasoning, arguments of calls, a provider's own chunks", async () => {
  const piece = "x".repeat(100_000);
  const events: ClientEvent[] = [
    { kind: "text", text: piece },
    { kind: "reasoning", text: piece },
    { kind: "tool_call", index: 0, arguments: piece },
    { kind: "chunk", data: piece },
  ];
  for (const event of events) {
    const queue = new EventQueue();
    const sizes: number[] = [];
    void queue.events.pipeTo(new WritableStream({ write: ({ events }) => void sizes.push(events.length) }));
    for (let count = 0; count < 6; count++) queue.push(new FakeRecipient(1), event);
    await turn();
    assert.deepEqual(sizes, [3, 3], event.kind);
  }
});

Deno.test("closing gives out what is left, then ends the stream", async () => {
  const queue = new EventQueue();
  const { chunks, ended } = chunksOf(queue);
  queue.push(new FakeRecipient(1), text("last"));
  queue.close();
  await ended;
  assert.deepEqual(chunks, [["1 last"]]);
});

Deno.test("where nobody reads any more, what goes in is dropped, and closing is no error", async () => {
  const queue = new EventQueue();
  queue.push(new FakeRecipient(1), text("a"));
  await queue.events.cancel();
  queue.push(new FakeRecipient(1), text("x".repeat(1024 * 1024)));
  await turn();
  queue.close();
});

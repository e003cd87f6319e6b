import assert from "node:assert/strict";
import type { Client } from "../../src/worker/client_sink.ts";
import { FrameEncoder } from "../../src/protocol/sse.ts";
import { fakeClients } from "../support/fake_clients.ts";

type Part = [Client, string, ("end" | undefined)?];

function fixture(
  writeTimeoutMs?: number,
): ReturnType<typeof fakeClients> & { write(...parts: Part[]): Promise<void> } {
  const clients = fakeClients(writeTimeoutMs);
  const encoder = new FrameEncoder<Client>();
  const writer = clients.sink.writable().getWriter();
  const frames = (parts: Part[]) =>
    parts.map(([target, text, end]) => ({ target, text, end: end === "end" }));
  return { ...clients, write: (...parts) => writer.write(encoder.encode(frames(parts))) };
}

const EPIPE = -32;
const ETIMEDOUT = 110;

Deno.test("a batch goes out in one call", async () => {
  const { socket, client, write, sender, traffic } = fixture();
  const [a, b] = [socket(1), socket(2)];
  await write([client(a).client, "for a"], [client(b).client, "for b"]);
  assert.deepEqual([a.received, b.received], ["for a", "for b"]);
  assert.equal(sender.batches, 1);
  assert.equal(traffic.bytes, 10);
});

Deno.test("the last frame ends its client in order, once", async () => {
  const { socket, client, write } = fixture();
  const a = socket(1);
  const { client: ca, ends } = client(a);
  await write([ca, "bye", "end"]);
  assert.deepEqual([a.received, a.endedInOrder, a.closes, ends], ["bye", true, 1, [undefined]]);
  ca.abort("other");
  assert.deepEqual([a.closes, ends], [1, [undefined]]);
});

Deno.test("what does not fit is kept and follows in order when there is room", async () => {
  const { socket, client, write, traffic } = fixture();
  const a = socket(1);
  const { client: ca, ends } = client(a);
  a.room = 3;
  await write([ca, "abcdef"]);
  assert(ca.full);
  await write([ca, "ghi"], [ca, "j", "end"]);
  assert.equal(a.received, "abc");
  a.drain(2);
  assert.equal(a.received, "abcde");
  assert.deepEqual(ends, []);
  a.drain(Infinity);
  assert.equal(a.received, "abcdefghij");
  assert.deepEqual([a.endedInOrder, ends], [true, [undefined]]);
  assert.equal(traffic.bytes, 10);
});

Deno.test("two entries of one client in a batch keep their order when the first comes up short", async () => {
  const { socket, client, write } = fixture();
  const [a, b] = [socket(1), socket(2)];
  const { client: ca } = client(a);
  a.room = 2;
  await write([ca, "abc"], [client(b).client, "x"], [ca, "def", "end"]);
  a.drain(Infinity);
  assert.deepEqual([a.received, a.endedInOrder, b.received], ["abcdef", true, "x"]);
});

Deno.test("a full client holds up nobody else", async () => {
  const { socket, client, write } = fixture();
  const [a, b] = [socket(1), socket(2)];
  const [{ client: ca }, { client: cb }] = [client(a), client(b)];
  a.room = 0;
  await write([ca, "1"], [cb, "1"]);
  await write([ca, "2"], [cb, "2"], [ca, "3"]);
  assert.deepEqual([a.received, b.received], ["", "12"]);
});

Deno.test("room() resolves when all that was kept is out", async () => {
  const { socket, client, write } = fixture();
  const a = socket(1);
  const { client: ca } = client(a);
  a.room = 1;
  await write([ca, "abc"]);
  let room = false;
  const waiting = ca.room().then(() => room = true);
  a.drain(1);
  await Promise.resolve();
  assert(!room);
  a.drain(1);
  await waiting;
  assert(!ca.full);
});

Deno.test("room() resolves when the client ends", async () => {
  const { socket, client, write } = fixture();
  const a = socket(1);
  const { client: ca } = client(a);
  a.room = 0;
  await write([ca, "abc"]);
  const waiting = ca.room();
  a.events?.gone(0);
  await waiting;
  assert(ca.ended);
});

Deno.test("a client that takes nothing is given up after the write timeout", async () => {
  const { socket, client, write, timing } = fixture(1000);
  const a = socket(1);
  const { client: ca, ends } = client(a);
  a.room = 0;
  await write([ca, "abc"]);
  timing.advance(998);
  assert.deepEqual(ends, []);
  timing.advance(3);
  assert.deepEqual([ends, a.closes, a.endedInOrder], [["write_timeout"], 1, false]);
});

Deno.test("progress moves the write deadline, and nothing waits once all is out", async () => {
  const { socket, client, write, timing } = fixture(1000);
  const a = socket(1);
  const { client: ca, ends } = client(a);
  a.room = 0;
  await write([ca, "abc"]);
  timing.advance(900);
  a.drain(1);
  timing.advance(900);
  assert.deepEqual(ends, []);
  a.drain(Infinity);
  timing.advance(5000);
  assert.deepEqual(ends, []);
  assert.equal(timing.pending, 0);
});

Deno.test("a failed send ends its client and nobody else", async () => {
  const { socket, client, write } = fixture();
  const [a, b] = [socket(1), socket(2)];
  const [{ client: ca, ends }, { client: cb, ends: otherEnds }] = [client(a), client(b)];
  a.failure = EPIPE;
  await write([ca, "x"], [cb, "y"], [ca, "z"]);
  assert.deepEqual([ends, a.closes, b.received, otherEnds], [["client_disconnected"], 1, "y", []]);
});

Deno.test("bytes that stay unacknowledged for too long are a write timeout", () => {
  const { socket, client } = fixture();
  const a = socket(1);
  const { ends } = client(a);
  a.events?.gone(ETIMEDOUT);
  assert.deepEqual(ends, ["write_timeout"]);
});

Deno.test("frames for a client that has ended are not sent: its number may be another's by now", async () => {
  const { socket, client, write } = fixture();
  const a = socket(1);
  const { client: ca } = client(a);
  ca.gone(0);
  const successor = socket(1);
  const { client: next } = client(successor);
  await write([ca, "secret"], [next, "hello"], [ca, "secret"]);
  assert.equal(successor.received, "hello");
});

Deno.test("what a batch held is kept by copy, since the encoder uses its arrays again", async () => {
  const { socket, client, write } = fixture();
  const [a, b] = [socket(1), socket(2)];
  const { client: ca } = client(a);
  a.room = 0;
  await write([ca, "abcdef"]);
  await write([client(b).client, "XXXXXX"]);
  a.drain(Infinity);
  assert.equal(a.received, "abcdef");
});

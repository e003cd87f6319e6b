import assert from "node:assert/strict";
import type { EventBatch } from "../../src/protocol/stream_event.ts";
import { SseEncoder } from "../../src/protocol/sse.ts";
import { Clients } from "../../src/worker/clients.ts";
import { FakeReactor, FakeRecipient, type FakeSocket } from "../support/fake_clients.ts";
import { textEvent } from "../support/wire.ts";

const EPIPE = -32;

function fixture(): {
  clients: Clients;
  reactor: FakeReactor;
  traffic: { bytes: number };
  client(room?: number): [FakeRecipient, FakeSocket];
  /** Events of text; `undefined` for the end. */
  write(...parts: [FakeRecipient, string | undefined][]): Promise<void>;
} {
  const reactor = new FakeReactor();
  const traffic = { bytes: 0 };
  const clients = new Clients(reactor, { bytesSent: (bytes) => void (traffic.bytes += bytes) });
  const encoder = new SseEncoder();
  const writer = clients.writable.getWriter();
  return {
    clients,
    reactor,
    traffic,
    client(room) {
      const socket = reactor.accept(room);
      return [Object.assign(new FakeRecipient(socket.id), { headSent: true }), socket];
    },
    write(...parts) {
      const batch: EventBatch = {
        recipients: parts.map(([recipient]) => recipient),
        events: parts.map(([, text]) => text === undefined ? { kind: "end" } : { kind: "text", text }),
      };
      return writer.write(encoder.encode(batch));
    },
  };
}

const EVENT = textEvent("x");
const DONE = "data: [DONE]\n\n";

Deno.test("a batch goes out in one call; who got all of it, and goes on, is told nothing", async () => {
  const { client, write, reactor, traffic } = fixture();
  const [[a, socketA], [b, socketB]] = [client(), client()];
  await write([a, "for a"], [b, "for b"]);
  assert.deepEqual([socketA.received, socketB.received], [textEvent("for a"), textEvent("for b")]);
  assert.equal(reactor.batches, 1);
  assert.equal(traffic.bytes, 2 * textEvent("for a").length);
  assert.deepEqual([a.results, b.results], [[], []]);
});

Deno.test("an entry that ends its client is told to it, once it is out", async () => {
  const { client, write } = fixture();
  const [a, socket] = client();
  await write([a, "x"], [a, undefined]);
  assert.deepEqual(a.results, [[EVENT.length + DONE.length, EVENT + DONE, true]]);
  assert.equal(socket.closed, "in order");
});

Deno.test("what came up short, or failed, is told to its client, and changes nothing for another", async () => {
  const { client, write, traffic } = fixture();
  const [[a], [b, socketB], [c, socketC], [d, socketD]] = [client(3), client(), client(), client()];
  socketC.failure = EPIPE;
  await write([a, "x"], [b, "y"], [c, "z"], [d, undefined]);
  assert.deepEqual(a.results, [[3, EVENT, false]]);
  assert.deepEqual([socketB.received, b.results], [textEvent("y"), []]);
  assert.deepEqual(c.results, [[EPIPE, textEvent("z"), false]]);
  assert.deepEqual(socketD.closed, "in order");
  assert.equal(traffic.bytes, 3 + EVENT.length + DONE.length);
});

Deno.test("what is for a full client is appended to what it keeps, by copy, and not sent", async () => {
  const { client, write, reactor } = fixture();
  const [[a, socketA], [b, socketB]] = [client(), client()];
  a.full = true;
  await write([a, "1"], [b, "2"], [a, undefined]);
  await write([b, "3"]);
  assert.deepEqual(a.appended, [[textEvent("1") + DONE, true]]);
  assert.deepEqual([socketA.received, socketB.received], ["", textEvent("2") + textEvent("3")]);
  await write([a, "4"]);
  assert.equal(reactor.batches, 2, "nobody to send to, no call");
});

Deno.test("what is for a client that has ended is not sent: its number may be another's by now", async () => {
  const { client, write, reactor } = fixture();
  const [[a], [b, socketB]] = [client(), client()];
  reactor.close(a.id);
  a.ended = true;
  const [next, socket] = client();
  assert.equal(next.id, a.id);
  await write([a, "secret"], [b, "x"], [next, "hello"], [a, "secret"]);
  assert.deepEqual([socket.received, socketB.received], [textEvent("hello"), EVENT]);
  assert.deepEqual([a.results, a.appended, b.results, next.results], [[], [], [], []]);
  a.full = true;
  await write([a, "secret"]);
  assert.deepEqual(a.appended, []);
});

Deno.test("a client that ends while results are told takes nobody else's result", async () => {
  const { client, write, reactor } = fixture();
  const [[a, socketA], [b], [c]] = [client(), client(2), client(3)];
  socketA.failure = EPIPE;
  // As a connection does it: its socket is closed at once.
  a.sent = () => reactor.close(a.id);
  await write([a, "x"], [b, "x"], [c, "x"]);
  assert.deepEqual([b.results, c.results], [[[2, EVENT, false]], [[3, EVENT, false]]]);
});

Deno.test("what was kept is tried again, counted as far as it went, and told", () => {
  const { clients, client, traffic } = fixture();
  const [[a, socket], [b, broken]] = [client(2), client()];
  const kept = new TextEncoder().encode("abcdef");
  clients.sendNow(a, kept, true);
  assert.deepEqual([socket.received, socket.closed, traffic.bytes], ["ab", undefined, 2]);
  socket.drain(Infinity);
  clients.sendNow(a, kept.subarray(2), true);
  assert.deepEqual([socket.received, socket.closed, traffic.bytes], ["abcdef", "in order", 6]);
  broken.failure = EPIPE;
  clients.sendNow(b, kept, false);
  assert.equal(traffic.bytes, 6);
  assert.deepEqual([a.results, b.results], [
    [[2, "abcdef", true], [4, "cdef", true]],
    [[EPIPE, "abcdef", false]],
  ]);
});

Deno.test("each pipeline has an end of its own; when one closes, the others go on", async () => {
  const { clients, client, write } = fixture();
  const [a, socket] = client();
  await clients.writable.getWriter().close();
  await write([a, "x"]);
  assert.equal(socket.received, EVENT);
});

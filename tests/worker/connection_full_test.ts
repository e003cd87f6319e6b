/** A connection whose client does not take what it is sent. */
import assert from "node:assert/strict";
import { turn } from "../support/answers.ts";
import { DONE, fakeWorker, only, text } from "../support/connections.ts";
import { STREAM_HEAD } from "../support/wire.ts";

const ETIMEDOUT = 110;

Deno.test("a full client pauses its own answer and nobody else's; what it gets later keeps the order", async () => {
  const { ask, reactor, traffic } = fakeWorker();
  const [[client, answer], [other, otherAnswer]] = [await ask({ room: 10 }), await ask()];
  answer.emit("a");
  otherAnswer.emit("a");
  await turn();
  assert.deepEqual([answer.told, otherAnswer.told], [["pause"], []]);
  // What was under way when it was told to pause.
  answer.emit("b");
  otherAnswer.emit("b");
  await turn();
  answer.end();
  otherAnswer.end();
  await turn();
  const whole = STREAM_HEAD + text("a") + text("b") + DONE;
  assert.deepEqual([client.received, other.received], [whole.slice(0, 10), whole]);
  assert.deepEqual(answer.told, ["pause"], "told once");
  client.drain(20);
  assert.equal(client.received, whole.slice(0, 30));
  assert.equal(client.closed, undefined);
  client.drain(Infinity);
  assert.deepEqual([client.received, client.closed], [whole, "in order"]);
  assert.equal(traffic.bytes, 2 * whole.length);
  assert.equal(reactor.open, 0);
});

Deno.test("what a batch held is kept by copy, since the encoder uses its arrays again", async () => {
  const { ask } = fakeWorker();
  const [[client, answer], [, other]] = [await ask({ room: 0 }), await ask()];
  answer.emit("a");
  await turn();
  other.emit("XXXXXXXXXXXXXXXXXXXXXXXX");
  await turn();
  answer.emit("b");
  await turn();
  other.emit("YYYYYYYYYYYYYYYYYYYYYYYY");
  await turn();
  client.drain(Infinity);
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b"));
});

Deno.test("a client with room again resumes its answer, once all is out, and can become full again", async () => {
  const { ask } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.emit("a");
  await turn();
  client.drain(5);
  assert.deepEqual(answer.told, ["pause"]);
  client.drain(STREAM_HEAD.length + text("a").length - 15);
  assert.deepEqual(answer.told, ["pause", "resume"]);
  answer.emit("b");
  await turn();
  assert.deepEqual(answer.told, ["pause", "resume", "pause"]);
  client.drain(Infinity);
  assert.deepEqual(answer.told, ["pause", "resume", "pause", "resume"]);
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b"));
  // Said without need, as a reactor may: nothing changes.
  client.drain(Infinity);
  assert.equal(answer.told.length, 4);
});

Deno.test("while a client is full no time-out of the backend runs; with room again it has its whole one", async () => {
  const { ask, timing } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.emit("a");
  await turn();
  answer.emit("b"); // was under way
  await turn();
  for (let part = 0; part < 8; part++) {
    timing.advance(900); // of the write time-out of 1000
    client.drain(5);
  }
  assert.deepEqual(answer.told, ["pause"]);
  client.drain(Infinity);
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b"));
  timing.advance(4998);
  await turn();
  assert.deepEqual(answer.told, ["pause", "resume"]);
  timing.advance(5);
  await turn();
  assert.deepEqual(answer.told, ["pause", "resume", "cancel"]);
});

Deno.test("a client that takes nothing for the write time-out is given up, and its answer with it", async () => {
  const { ask, timing, calls, reactor } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.emit("a");
  await turn();
  timing.advance(500);
  answer.emit("b"); // no progress: the client has taken nothing
  await turn();
  timing.advance(498);
  assert.deepEqual([client.closed, answer.told], [undefined, ["pause"]]);
  timing.advance(5);
  assert.deepEqual([client.closed, answer.told], ["at once", ["pause", "cancel"]]);
  assert.deepEqual(calls.at(-1), ["streamEnded", "write_timeout"]);
  assert.deepEqual([reactor.open, timing.pending], [0, 0]);
});

Deno.test("progress moves the write time-out, being told of room without taking any does not", async () => {
  const { ask, timing } = fakeWorker();
  const [client, answer] = await ask({ room: 0 });
  answer.emit("a");
  await turn();
  timing.advance(900);
  client.drain(1);
  timing.advance(900);
  assert.equal(client.closed, undefined);
  client.drain(0);
  timing.advance(98);
  assert.equal(client.closed, undefined);
  timing.advance(5);
  assert.equal(client.closed, "at once");
});

Deno.test("the write time-out holds for a client's last bytes, too, and for a refusal's", async () => {
  const { ask, open, timing, calls, reactor, connections } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.end();
  const refused = await open({}, { room: 10, overLimit: true });
  await turn();
  timing.advance(998);
  assert.deepEqual([client.closed, refused.closed], [undefined, undefined]);
  timing.advance(5);
  assert.deepEqual([client.closed, refused.closed], ["at once", "at once"]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "write_timeout"]]);
  assert.deepEqual([reactor.open, connections.size, timing.pending, answer.told], [0, 0, 0, []]);
});

Deno.test("the write time-out goes on where the last bytes come for a client that is full already", async () => {
  const { ask, timing, calls } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.emit("a");
  await turn();
  timing.advance(900);
  answer.end();
  await turn();
  timing.advance(98);
  assert.equal(client.closed, undefined);
  timing.advance(5);
  assert.equal(client.closed, "at once");
  assert.deepEqual(calls.at(-1), ["streamEnded", "write_timeout"]);
});

Deno.test("no more than 4 MiB are kept for a client; past it it is given up, and nobody else", async () => {
  const { ask, calls, lines } = fakeWorker();
  const before = STREAM_HEAD + text("a");
  const [[client, answer], [other, otherAnswer]] = [await ask({ room: before.length }), await ask()];
  answer.emit("a");
  const piece = "x".repeat(128 * 1024 - text("").length);
  answer.emit(...Array.from({ length: 32 }, () => piece));
  await turn();
  assert.deepEqual([client.received, client.closed, answer.told], [before, undefined, ["pause"]]);
  answer.emit("z");
  otherAnswer.emit("z");
  await turn();
  assert.deepEqual([client.received, client.closed, answer.told], [before, "at once", ["pause", "cancel"]]);
  assert.deepEqual([other.received, other.closed], [STREAM_HEAD + text("z"), undefined]);
  assert.deepEqual(calls.at(-1), ["streamEnded", "other"]);
  assert.deepEqual(lines.map(({ level }) => level), ["warning", "info"]);
  assert.equal(lines[0]?.fields["max_kept_bytes"], 4 * 1024 * 1024);
});

Deno.test("one event that is too much for what is kept ends its client as well", async () => {
  const { ask, calls } = fakeWorker();
  const [client, answer] = await ask({ room: 1000 });
  answer.emit("x".repeat(5 * 1024 * 1024));
  await turn();
  assert.deepEqual([client.closed, answer.told], ["at once", ["cancel"]]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "other"]]);
  const [fast, fastAnswer] = await ask();
  fastAnswer.emit("x".repeat(5 * 1024 * 1024));
  await turn();
  assert.equal(fast.closed, undefined, "who takes it all gets it all");
});

Deno.test("a client that goes away while its last bytes wait was not served", async () => {
  const { ask, calls } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.end();
  await turn();
  client.owner?.gone(104);
  assert.deepEqual([client.closed, answer.told], ["at once", []]);
  assert.deepEqual(calls.at(-1), ["streamEnded", "client_disconnected"]);
});

Deno.test("bytes that stay unacknowledged for too long are a write time-out", async () => {
  const { ask, calls } = fakeWorker();
  const [client] = await ask();
  client.owner?.gone(ETIMEDOUT);
  assert.deepEqual(calls.at(-1), ["streamEnded", "write_timeout"]);
});

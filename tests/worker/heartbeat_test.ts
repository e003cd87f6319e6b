/** Signs of life in silence. Backend time-out 5000 ms. */
import assert from "node:assert/strict";
import { turn } from "../support/answers.ts";
import { DONE, failed, fakeWorker, only, text } from "../support/connections.ts";
import { HEARTBEAT, plainResponse, STREAM_HEAD } from "../support/wire.ts";

const TICK_MS = 2;

Deno.test("a sign of life is a comment", () => assert.equal(HEARTBEAT, ":\n\n"));

Deno.test("each silence of that length is a sign of life; the first one brings the head", async () => {
  const { ask, timing } = fakeWorker({ heartbeatMs: 1000 });
  const [client, answer] = await ask();
  timing.advance(1000 - TICK_MS);
  await turn();
  assert.equal(client.received, "");
  for (const count of [1, 2, 3]) {
    timing.advance(count === 1 ? 2 * TICK_MS : 1000);
    await turn();
    assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(count));
  }
  answer.emit("a");
  answer.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(3) + text("a") + DONE);
  assert.deepEqual([client.closed, timing.pending], ["in order", 0]);
});

Deno.test("whatever is sent puts it off", async () => {
  const { ask, timing } = fakeWorker({ heartbeatMs: 1000 });
  const [client, answer] = await ask();
  let expected = STREAM_HEAD;
  for (const piece of ["a", "b", "c"]) {
    answer.emit(piece);
    await turn();
    timing.advance(1000 - TICK_MS);
    await turn();
    assert.equal(client.received, expected += text(piece));
  }
  timing.advance(2 * TICK_MS);
  await turn();
  assert.equal(client.received, expected + HEARTBEAT);
});

Deno.test("the backend's time-out is as without; what fails after a sign of life fails in the stream", async () => {
  const { ask, timing, calls } = fakeWorker({ heartbeatMs: 2000 });
  const [client, answer] = await ask();
  timing.advance(5000 - TICK_MS);
  await turn();
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(2));
  timing.advance(2 * TICK_MS);
  await turn();
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(2) + failed("Backend timeout"));
  assert.deepEqual([client.closed, answer.told], ["in order", ["cancel"]]);
  assert.deepEqual(only(calls, "backendFirstEvent", "streamEnded"), [["streamEnded", "backend_timeout"]]);
});

Deno.test("a backend that fails after a sign of life fails in the stream", async () => {
  const { ask, timing } = fakeWorker({ heartbeatMs: 1000 });
  const [client, answer] = await ask();
  timing.advance(1000 + TICK_MS);
  answer.fail("unavailable");
  await turn();
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT + failed("Backend error"));
});

Deno.test("a backend that is alive and says nothing is silence for the client, and keeps its whole time", async () => {
  const { ask, timing } = fakeWorker({ heartbeatMs: 1000 });
  const [client, answer] = await ask();
  const signs: number[] = [0];
  for (let atMs = 10; atMs <= 18_000; atMs += 10) {
    timing.advance(10);
    if (atMs % 900 === 0) answer.emit({ kind: "alive" });
    const before = client.received;
    await turn();
    if (client.received !== before) signs.push(atMs);
  }
  // A look for the backend's time may bring one early, and nothing brings one late.
  for (const [index, atMs] of signs.slice(1).entries()) {
    assert(atMs - (signs[index] ?? 0) <= 1010, `${signs}`);
  }
  assert(signs.length >= 18 && signs.length <= 22, `${signs}`);
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(signs.length - 1));
  timing.advance(5000 - TICK_MS);
  await turn();
  assert(!client.received.includes("error"));
  timing.advance(2 * TICK_MS);
  await turn();
  assert(client.received.endsWith(HEARTBEAT + failed("Backend timeout")));
});

Deno.test("a time-out of the backend that is the shorter one comes without a sign of life before it", async () => {
  const { ask, timing } = fakeWorker({ heartbeatMs: 5000 });
  const [client] = await ask();
  timing.advance(5000 + TICK_MS);
  await turn();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
});

Deno.test("without it there is none, whatever the backend's time-out", async () => {
  for (const backendTimeoutMs of [5000.1, 1 / 3, 100_000.7]) {
    const { ask, timing } = fakeWorker({ backendTimeoutMs });
    const [client] = await ask();
    timing.advance(backendTimeoutMs + TICK_MS);
    await turn();
    assert.equal(client.received, plainResponse(504, "Backend timeout"));
  }
});

Deno.test("a sign of life is not the backend's first event, and the request is held for it still", async () => {
  const { ask, timing, calls, held } = fakeWorker({ heartbeatMs: 1000 });
  const [, answer] = await ask();
  timing.advance(1000 + TICK_MS);
  await turn();
  assert.deepEqual([only(calls, "backendFirstEvent", "eventSent"), held.bytes], [[], 2]);
  answer.emit("a");
  await turn();
  assert.deepEqual([only(calls, "backendFirstEvent"), held.bytes], [[["backendFirstEvent"]], 0]);
});

Deno.test("a client that is full gets none; its silence begins anew when it has taken all", async () => {
  const { ask, timing } = fakeWorker({ heartbeatMs: 300 });
  const [client, answer] = await ask({ room: STREAM_HEAD.length });
  answer.emit("a");
  await turn();
  timing.advance(900); // the write time-out is 1000
  await turn();
  assert.equal(client.received, STREAM_HEAD);
  client.drain(Infinity);
  assert.equal(client.received, STREAM_HEAD + text("a"));
  timing.advance(300 - TICK_MS);
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a"));
  timing.advance(2 * TICK_MS);
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + HEARTBEAT);
});

Deno.test("a client that takes no more at a sign of life is given up like any other", async () => {
  const { ask, timing, calls } = fakeWorker({ heartbeatMs: 1000 });
  const [client, answer] = await ask({ room: STREAM_HEAD.length + text("a").length });
  answer.emit("a");
  await turn();
  timing.advance(1000 + TICK_MS);
  await turn();
  assert.deepEqual(answer.told, ["pause"]);
  timing.advance(1000 + TICK_MS);
  assert.equal(client.closed, "at once");
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "write_timeout"]]);
});

Deno.test("10,000 that are silent share one timer", async () => {
  const { ask, timing, connections } = fakeWorker({ heartbeatMs: 1000 });
  const clients = [];
  for (let count = 0; count < 10_000; count++) clients.push((await ask())[0]);
  timing.advance(3000 + TICK_MS);
  await turn();
  assert.equal(timing.started, 1);
  for (const client of clients) assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(3));
  connections.close();
  assert.equal(timing.pending, 0);
});

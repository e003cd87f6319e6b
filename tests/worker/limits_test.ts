/** A backend with limits: who waits for a place, and one that fails and is left alone. Time-out of the whole 5000 ms. */
import assert from "node:assert/strict";
import type { Tracing } from "../../src/ops/tracing.ts";
import { turn } from "../support/answers.ts";
import type { FakeSocket } from "../support/fake_clients.ts";
import {
  DONE,
  failed,
  fakeBackends,
  fakeWorker,
  only,
  type ScriptedAnswer,
  ScriptedBackend,
  text,
} from "../support/connections.ts";
import { HEARTBEAT, plainResponse, STREAM_HEAD } from "../support/wire.ts";

const BUSY = plainResponse(503, "Backend is busy");
const QUEUE_MS = 1000;
const ONE = { maxStreams: 1, queueMs: QUEUE_MS, queueLength: 3 };

const at = ({ answers }: ScriptedBackend, index: number): ScriptedAnswer => answers[index] as ScriptedAnswer;

Deno.test("limit: as many as may are asked, the others wait; an end, however it comes, lets in the next", async () => {
  const { open, backend, held, timing, calls } = fakeWorker({ config: { ...ONE, queueLength: 10 } });
  const clients: FakeSocket[] = [];
  for (let index = 0; index < 6; index++) clients.push(await open({ user_id: "u", model: `m${index}` }));
  const ends: readonly ((index: number) => void)[] = [
    (index) => at(backend, index).end(),
    (index) => at(backend, index).fail("server_error"),
    (index) => at(backend, index).fail("bad_request"),
    (index) => clients[index]?.owner?.gone(0),
  ];
  for (const [index, end] of ends.entries()) {
    assert.equal(backend.answers.length, index + 1);
    end(index);
    await turn();
  }
  assert.deepEqual(backend.answers.map(({ request }) => request.model), ["m0", "m1", "m2", "m3", "m4"]);
  assert.equal(only(calls, "backendRequest").length, 5);
  at(backend, 4).emit("a");
  await turn();
  assert(held.bytes > 0, "what waits is kept");
  clients[5]?.owner?.gone(0);
  at(backend, 4).end();
  await turn();
  assert.deepEqual([held.bytes, timing.pending, backend.answers.length], [0, 0, 5]);
});

Deno.test("limit: past its time in the queue a client is told 503, and counted", async () => {
  const { open, ask, backend, timing, calls, lines, connections } = fakeWorker({ config: ONE });
  const [, answer] = await ask();
  const client = await open();
  timing.advance(QUEUE_MS - 3);
  await turn();
  assert.equal(client.received, "");
  timing.advance(6);
  await turn();
  assert.equal(client.received, BUSY);
  assert.equal(client.closed, "in order");
  assert.deepEqual(only(calls, "backendRefused", "streamEnded"), [
    ["backendRefused", "scripted", "queue_timeout"],
    ["streamEnded", "backend_busy"],
  ]);
  assert.deepEqual(lines.map(({ message, fields }) => [message, fields["reason"]]), [
    ["Backend not asked", "queue_timeout"],
    ["Stream ended early", "backend_busy"],
  ]);
  answer.end();
  await turn();
  assert.deepEqual([backend.answers.length, connections.size, timing.pending], [1, 0, 0]);
});

Deno.test("limit: a full queue is a 503 at once, unless another user has more in it", async () => {
  const { open, ask, backend, calls } = fakeWorker({ config: ONE });
  await ask();
  const greedy = [];
  for (let index = 0; index < 4; index++) greedy.push(await open({ user_id: "greedy" }));
  assert.deepEqual(greedy.map(({ received }) => received), ["", "", "", BUSY]);
  const modest = await open({ user_id: "modest" });
  assert.deepEqual([modest.received, greedy[2]?.received], ["", BUSY]);
  assert.deepEqual(
    only(calls, "backendRefused"),
    Array(2).fill(["backendRefused", "scripted", "queue_full"]),
  );
  for (let index = 0; index < 3; index++) {
    at(backend, index).end();
    await turn();
  }
  assert.deepEqual(backend.answers.slice(1).map(({ request }) => request.userId), [
    "greedy",
    "modest",
    "greedy",
  ]);
});

Deno.test("limit: who waits has signs of life, and what follows is in the stream", async () => {
  const { open, ask, timing } = fakeWorker({ heartbeatMs: 400, config: ONE });
  await ask();
  const client = await open();
  for (let passedMs = 0; passedMs <= QUEUE_MS + 10; passedMs += 10) {
    timing.advance(10);
    await turn();
  }
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(2) + failed("Backend is busy"));
});

Deno.test("limit: the wait counts to the whole time", async () => {
  const { open, ask, backend, timing } = fakeWorker({ config: { ...ONE, queueMs: 4000 } });
  const [, answer] = await ask();
  answer.emit("a");
  timing.advance(2000);
  await turn();
  const client = await open();
  timing.advance(2000);
  answer.end();
  await turn();
  assert.equal(backend.answers.length, 2);
  timing.advance(2990);
  await turn();
  assert.equal(client.received, "");
  timing.advance(20);
  await turn();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
});

Deno.test("limit: with a fallback the next one is asked in place of a 503", async () => {
  for (const queueLength of [0, 3]) {
    const b = new ScriptedBackend("b");
    const { open, ask, timing, calls, lines } = fakeWorker({
      config: { ...ONE, queueLength, fallback: ["b"] },
      others: [{ backend: b, defaultModel: "model-b" }],
    });
    await ask();
    const client = await open();
    if (queueLength > 0) timing.advance(QUEUE_MS + 3);
    await turn();
    at(b, 0).emit("a");
    at(b, 0).end();
    await turn();
    assert.equal(client.received, STREAM_HEAD + text("a") + DONE);
    const reason = queueLength > 0 ? "queue_timeout" : "queue_full";
    assert.deepEqual(only(calls, "backendRefused"), [["backendRefused", "scripted", reason]]);
    assert.deepEqual([lines[0]?.message, lines[0]?.fields["fallback"]], ["Backend not asked", "b"]);
  }
});

Deno.test("limit: a daemon that stops tells those that wait", async () => {
  const { open, ask, connections, timing } = fakeWorker({ config: ONE });
  const [client] = await ask();
  const waiting = await open();
  connections.shutDown();
  await turn();
  assert.equal(waiting.received, plainResponse(503, "Server is shutting down"));
  assert.equal(client.received, waiting.received);
  assert.deepEqual([connections.size, timing.pending], [0, 0]);
});

Deno.test("limit: a client that is full when its turn comes pauses the answer", async () => {
  const { open, ask, backend, timing } = fakeWorker({ heartbeatMs: 400, config: ONE });
  const [, answer] = await ask();
  const client = await open({}, { room: 5 });
  timing.advance(410);
  await turn();
  answer.end();
  await turn();
  assert.deepEqual(at(backend, 1).told, ["pause"]);
  client.drain(1000);
  await turn();
  assert.deepEqual(at(backend, 1).told, ["pause", "resume"]);
});

const CIRCUIT = { circuitFailures: 2, circuitWithinMs: 60_000, circuitPauseMs: 1000 };

Deno.test("limit: a backend that was away for two reloads has places of its own, and who waited at the old one none of them", async () => {
  const b = new ScriptedBackend("b");
  let current = fakeBackends(5000, { backend: b, ...ONE });
  const { open } = fakeWorker({ others: [{ backend: b }], backends: { route: () => current.route("b") } });
  await open();
  const waiting = await open();
  current = fakeBackends(5000, { backend: b, ...ONE });
  at(b, 0).end();
  await turn();
  assert.equal(waiting.received, BUSY);
  await open();
  await open();
  assert.equal(b.answers.length, 2);
});

Deno.test("circuit: after failures in a row clients are told 503 at once, and after a pause one tries", async () => {
  const { open, backend, timing, calls } = fakeWorker({ config: CIRCUIT });
  for (const kind of ["unavailable", "rate_limited"] as const) {
    const client = await open();
    backend.answers.at(-1)?.fail(kind);
    await turn();
    assert.equal(client.received, plainResponse(502, "Backend unavailable"));
  }
  const refused = await open();
  assert.equal(refused.received, BUSY);
  assert.equal(backend.answers.length, 2);
  assert.deepEqual(only(calls, "backendRefused"), [["backendRefused", "scripted", "circuit_open"]]);
  timing.advance(1001);
  const trial = await open();
  assert.equal((await open()).received, BUSY);
  assert.equal(backend.answers.length, 3);
  at(backend, 2).emit("a");
  at(backend, 2).end();
  await turn();
  assert.equal(trial.received, STREAM_HEAD + text("a") + DONE);
  await open();
  assert.equal(backend.answers.length, 4);
});

Deno.test("circuit: a trial that fails begins the pause anew; one whose client leaves or that is no fault of the provider's does not count", async () => {
  const { open, backend, timing } = fakeWorker({ config: { ...CIRCUIT, circuitFailures: 1 } });
  await open();
  at(backend, 0).fail("server_error");
  await turn();
  timing.advance(1001);
  const leaving = await open();
  leaving.owner?.gone(0);
  await open();
  at(backend, 2).fail("bad_request");
  await turn();
  await open();
  at(backend, 3).fail("server_error");
  await turn();
  assert.equal((await open()).received, BUSY);
  timing.advance(1001);
  await open();
  assert.equal(backend.answers.length, 5);
});

Deno.test("circuit: what counts are failures before the first event, time-outs among them, and not what the request is to blame for", async () => {
  const { open, backend, timing } = fakeWorker({ config: CIRCUIT });
  for (const kind of ["bad_request", "auth", "not_found"] as const) {
    for (let count = 0; count < 2; count++) {
      await open();
      backend.answers.at(-1)?.fail(kind);
      await turn();
    }
  }
  for (let count = 0; count < 2; count++) {
    await open();
    backend.answers.at(-1)?.emit("a");
    backend.answers.at(-1)?.fail("truncated");
    await turn();
  }
  const asked = backend.answers.length;
  for (let count = 0; count < 2; count++) {
    const client = await open();
    timing.advance(5010);
    await turn();
    assert.equal(client.received, plainResponse(504, "Backend timeout"));
  }
  assert.equal(backend.answers.length, asked + 2);
  assert.equal((await open()).received, BUSY);
});

Deno.test("circuit: who has waited for a place and got it has the whole time, and is no failure before", async () => {
  const { open, ask, backend, timing } = fakeWorker({ config: { ...CIRCUIT, ...ONE, circuitFailures: 1 } });
  const [, answer] = await ask();
  await open();
  answer.end();
  await turn();
  timing.advance(QUEUE_MS + 10);
  await turn();
  await open();
  at(backend, 1).fail("bad_request"); // the request's fault
  await turn();
  assert.equal(backend.answers.length, 3);
});

Deno.test("circuit: with a fallback the next one is asked at once, and not first the one that fails", async () => {
  const b = new ScriptedBackend("b");
  const { open, backend, timing } = fakeWorker({
    config: { ...CIRCUIT, fallback: ["b"], fallbackAfterMs: 500 },
    others: [{ backend: b }],
  });
  for (let count = 0; count < 2; count++) {
    await open();
    timing.advance(510);
    await turn();
  }
  assert.deepEqual([backend.answers.length, b.answers.length], [2, 2]);
  await open();
  await turn();
  assert.deepEqual([backend.answers.length, b.answers.length], [2, 3]);
});

Deno.test("limit: the trace of a try that has failed ends once, though the next one is not asked", async () => {
  const told: string[] = [];
  const trace = new Proxy({}, { get: (_, name) => () => void told.push(String(name)) });
  const b = new ScriptedBackend("b");
  const { open, backend, lines } = fakeWorker({
    tracing: { begin: () => trace } as unknown as Tracing,
    config: { fallback: ["b"], fallbackAfterMs: 500 },
    others: [{ backend: b, maxStreams: 1, queueLength: 0 }],
  });
  const openAndFail = async () => {
    const client = await open();
    backend.answers.at(-1)?.fail("unavailable");
    await turn();
    await turn();
    return client;
  };
  await openAndFail(); // it has b's one place
  told.length = 0;
  assert.deepEqual([(await openAndFail()).received, b.answers.length], [BUSY, 1]);
  assert.deepEqual(told, ["failed", "end"]);
  const refused = lines.filter(({ message }) => message === "Backend not asked");
  assert.deepEqual(refused.map(({ fields }) => fields["backend"]), ["b"]);
});

Deno.test("circuit: silence after the first event is no failure", async () => {
  const { open, backend, timing } = fakeWorker({
    config: { ...CIRCUIT, circuitFailures: 1, fallback: ["b"], fallbackAfterMs: 500 },
    others: [{ backend: new ScriptedBackend("b") }],
  });
  await open();
  at(backend, 0).emit("a");
  await turn();
  timing.advance(1000);
  await turn();
  await open();
  assert.equal(backend.answers.length, 2);
});

Deno.test("circuit: those that wait for a place when it opens are told at their turn", async () => {
  const { open, backend } = fakeWorker({ config: { ...CIRCUIT, ...ONE, circuitFailures: 1 } });
  await open();
  const waiting = await open();
  at(backend, 0).fail("unavailable");
  await turn();
  await turn();
  assert.deepEqual([waiting.received, backend.answers.length], [BUSY, 1]);
});

/** A connection that is refused, cut, or left by its client. */
import assert from "node:assert/strict";
import type { Connection } from "../../src/worker/connection.ts";
import { turn } from "../support/answers.ts";
import { DONE, failed, fakeWorker, only, text } from "../support/connections.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

const EPIPE = -32;

Deno.test("a connection that has ended does nothing, whatever it is told", async () => {
  const { ask, timing, calls, lines, reactor } = fakeWorker();
  for (const end of ["gone", "in order"]) {
    const [client, answer] = await ask();
    const connection = client.owner as Connection;
    if (end === "gone") connection.gone(0);
    else answer.end();
    await turn();
    const [before, linesBefore] = [calls.length, lines.length];
    connection.gone(104);
    connection.writable();
    connection.sent(-32, new Uint8Array(9), 0, 9, false);
    connection.sent(3, new Uint8Array(9), 0, 9, true);
    connection.sent(9, new Uint8Array(9), 0, 9, true);
    connection.close();
    connection.shutDown();
    await turn();
    assert.deepEqual([calls.length, lines.length], [before, linesBefore]);
    assert.deepEqual([reactor.open, timing.pending, connection.full], [0, 0, false]);
    assert.deepEqual(answer.told, end === "gone" ? ["cancel"] : []);
  }
});

for (const [when, pieces] of [["before the first event", []], ["in the middle", ["a"]]] as const) {
  Deno.test(`a client that goes away ${when} cancels its answer at once`, async () => {
    const { ask, calls, lines, connections, timing } = fakeWorker();
    const [client, answer] = await ask();
    answer.emit(...pieces);
    await turn();
    client.owner?.gone(0);
    assert.deepEqual(answer.told, ["cancel"]);
    assert.deepEqual([client.closed, connections.size], ["at once", 0]);
    assert.deepEqual(calls.at(-1), ["streamEnded", "client_disconnected"]);
    assert.equal(lines.at(-1)?.fields["reason"], "client_disconnected");
    assert.equal(only(calls, "backendDone").length, 1);
    timing.advance(10_000);
    await turn();
    assert.equal(lines.length, 1);
    assert.equal(timing.pending, 0);
  });
}

Deno.test("for a client that had left before it was taken, nobody is asked", async () => {
  const { open, backend, calls, lines, reactor, connections, timing } = fakeWorker();
  const client = await open({ request_id: "r1", user_id: 7 }, { gone: true });
  assert.deepEqual([client.closed, client.received, backend.answers.length], ["at once", "", 0]);
  assert.deepEqual(calls, [
    ["connectionOpened"],
    ["streamStarted"],
    ["streamEnded", "client_disconnected"],
  ]);
  assert.deepEqual(lines.map(({ message, fields }) => [message, fields["request_id"], fields["user_id"]]), [
    ["Stream ended early", "r1", "7"],
  ]);
  assert.deepEqual([reactor.open, connections.size, timing.pending], [0, 0, 0]);
  const refused = await open({ prompt: 1 }, { gone: true });
  assert.deepEqual([refused.closed, connections.size], ["in order", 0]);
});

Deno.test("a failed send ends its client and nobody else", async () => {
  const { ask, calls } = fakeWorker();
  const [[client, answer], [other, otherAnswer]] = [await ask(), await ask()];
  client.failure = EPIPE;
  answer.emit("x", "y");
  otherAnswer.emit("z");
  await turn();
  answer.emit("more");
  await turn();
  assert.deepEqual([client.closed, answer.told], ["at once", ["cancel"]]);
  assert.deepEqual([other.closed, other.received, otherAnswer.told], [
    undefined,
    STREAM_HEAD + text("z"),
    [],
  ]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "client_disconnected"]]);
});

Deno.test("a send that fails with the last bytes, or with kept ones, closes the client once", async () => {
  const { ask, calls, reactor } = fakeWorker();
  const [[first, firstAnswer], [second, secondAnswer]] = [await ask(), await ask({ room: 5 })];
  first.failure = EPIPE;
  firstAnswer.end();
  secondAnswer.end();
  await turn();
  second.failure = EPIPE;
  second.drain(0);
  assert.deepEqual([first.closed, second.closed, reactor.open], ["at once", "at once", 0]);
  assert.deepEqual(only(calls, "streamEnded"), [
    ["streamEnded", "client_disconnected"],
    ["streamEnded", "client_disconnected"],
  ]);
});

Deno.test("what a cancelled answer still gives goes to nobody: its client's number may be another's", async () => {
  const { ask, calls, lines } = fakeWorker();
  const [client, answer] = await ask();
  answer.emit("a");
  await turn();
  answer.emit("secret"); // in the queue as its client goes
  client.owner?.gone(0);
  const [successor, next] = await ask();
  assert.equal(successor.id, client.id);
  answer.emit("secret");
  answer.fail("other", "aborted");
  next.emit("hello");
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a"));
  assert.equal(successor.received, STREAM_HEAD + text("hello"));
  assert.deepEqual(only(calls, "backendError"), []);
  assert.deepEqual(lines.map(({ level }) => level), ["info"]);
});

Deno.test("data that is no request is a 400 that says why; no backend is asked, no stream counted", async () => {
  const { open, backend, calls, lines, connections } = fakeWorker();
  const client = await open(new TextEncoder().encode('{"prompt":1}'));
  assert.equal(client.received, plainResponse(400, 'Field "prompt" is 1, expected a string'));
  assert.deepEqual([client.closed, connections.size, backend.answers.length], ["in order", 0, 0]);
  assert.deepEqual(calls, [["connectionOpened"], ["handoffFailed", "bad_request"]]);
  assert.deepEqual(lines.map(({ level }) => level), ["warning"]);
});

Deno.test("a refusal's line has the handoff's request id, or one that is made where it has none", async () => {
  const { open, lines } = fakeWorker();
  await open({ request_id: "r-1", prompt: 1 });
  await open({ request_id: "r-2" }, { overLimit: true });
  await open({ request_id: "r-3" }, { noRoom: true });
  await open({ request_id: "a\nb" });
  await open({}, { overLimit: true });
  await open(new TextEncoder().encode("no JSON"));
  assert.deepEqual(lines.map(({ fields }) => fields["request_id"]), [
    "r-1",
    "r-2",
    "r-3",
    "made-id",
    "made-id",
    "made-id",
  ]);
});

Deno.test("beyond the limit, and where no worker has room: 503 with Retry-After, and no backend is asked", async () => {
  for (
    const [options, line, logged] of [
      [{ overLimit: true }, "Too many connections", "Connection limit reached, client answered 503"],
      [
        { noRoom: true },
        "Too many requests at a time",
        "No worker has memory left for more, client answered 503",
      ],
    ] as const
  ) {
    const { open, backend, calls, lines } = fakeWorker();
    const client = await open({}, options);
    assert.equal(client.received, plainResponse(503, line));
    assert.match(client.received, /\r\nRetry-After: 5\r\n/);
    assert.deepEqual([client.closed, backend.answers.length], ["in order", 0]);
    assert.deepEqual(calls, [["connectionOpened"], ["connectionRejected"]]);
    assert.deepEqual(lines.map(({ level, message }) => [level, message]), [["warning", logged]]);
  }
});

Deno.test("a handoff that was refused: its client is told why, and nothing is counted again", async () => {
  for (
    const [refusal, response] of [
      ["payload_truncated", plainResponse(413, "Handoff data is too long")],
      ["timeout", plainResponse(503, "Handoff refused")],
      ["uid_not_allowed", plainResponse(503, "Handoff refused")],
    ] as const
  ) {
    const { open, backend, calls, lines, connections } = fakeWorker();
    // Whatever else may be said of it.
    const client = await open(new Uint8Array(), { refusal, overLimit: true, noRoom: true, stopping: true });
    assert.equal(client.received, response);
    assert.deepEqual([client.closed, connections.size, backend.answers.length], ["in order", 0, 0]);
    assert.deepEqual([calls, lines], [[["connectionOpened"]], []]);
  }
});

Deno.test("who comes while the worker stops gets 503, whatever the limit says", async () => {
  for (const options of [{}, { overLimit: true }]) {
    const { open, backend, calls, lines } = fakeWorker();
    const client = await open({ prompt: "x", request_id: "late" }, { ...options, stopping: true });
    assert.equal(client.received, plainResponse(503, "Server is shutting down"));
    assert.deepEqual([client.closed, backend.answers.length], ["in order", 0]);
    assert.deepEqual(calls, [["connectionOpened"], ["connectionRejected"]]);
    assert.deepEqual(lines.map(({ message, fields }) => [message, fields]), [
      ["The worker stops, client answered 503", { request_id: "late" }],
    ]);
  }
});

Deno.test("a shutdown tells streams with an event, and those before the head with a 503", async () => {
  const { ask, connections, calls, timing } = fakeWorker();
  const [[streaming, answer], [waiting, silent]] = [await ask(), await ask()];
  answer.emit("a");
  await turn();
  connections.shutDown();
  await turn();
  assert.equal(streaming.received, STREAM_HEAD + text("a") + failed("Server is shutting down"));
  assert.equal(waiting.received, plainResponse(503, "Server is shutting down"));
  assert.deepEqual([streaming.closed, waiting.closed, connections.size], ["in order", "in order", 0]);
  assert.deepEqual([answer.told, silent.told], [["cancel"], ["cancel"]]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "shutdown"], ["streamEnded", "shutdown"]]);
  assert.equal(only(calls, "backendError").length, 0);
  assert.equal(timing.pending, 0);
});

Deno.test("last words follow what their answer gave before them in the same turn; what it gives after them is dropped", async () => {
  for (
    const [early, expected] of [
      [true, STREAM_HEAD + text("a") + failed("Server is shutting down")],
      [false, plainResponse(503, "Server is shutting down")],
    ] as const
  ) {
    const { ask, connections } = fakeWorker();
    const [client, answer] = await ask();
    if (early) answer.emit("a");
    connections.shutDown();
    if (!early) answer.emit("a"); // as a backend's queue may still give it
    await turn();
    assert.deepEqual([client.received, client.closed], [expected, "in order"]);
  }
});

Deno.test("a shutdown adds nothing to an answer whose last bytes wait for room", async () => {
  const { ask, open, connections, calls } = fakeWorker();
  const [complete, answer] = await ask({ room: 10 });
  const refused = await open({}, { room: 10, overLimit: true });
  answer.end();
  await turn();
  connections.shutDown();
  connections.shutDown();
  await turn();
  complete.drain(Infinity);
  refused.drain(Infinity);
  assert.equal(complete.received, STREAM_HEAD + DONE);
  assert.equal(refused.received, plainResponse(503, "Too many connections"));
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded"]]);
});

Deno.test("a shutdown's words follow what a full client still has to take", async () => {
  const { ask, connections, timing } = fakeWorker();
  const [client, answer] = await ask({ room: 10 });
  answer.emit("a");
  await turn();
  connections.shutDown();
  await turn();
  timing.advance(998);
  client.drain(Infinity);
  assert.equal(client.received, STREAM_HEAD + text("a") + failed("Server is shutting down"));
  assert.deepEqual([client.closed, answer.told, timing.pending], ["in order", ["pause", "cancel"], 0]);
});

Deno.test("closed as the last resort: at once, without a word, once", async () => {
  const { ask, open, connections, calls, reactor, timing } = fakeWorker();
  const [[client, answer], [full, fullAnswer]] = [await ask(), await ask({ room: 0 })];
  fullAnswer.emit("a");
  await open({}, { overLimit: true, room: 0 });
  connections.shutDown();
  connections.close();
  connections.close();
  await turn();
  assert.deepEqual([client.received, client.closed, full.closed], ["", "at once", "at once"]);
  assert.deepEqual([reactor.open, connections.size, timing.pending], [0, 0, 0]);
  assert.deepEqual([answer.told, fullAnswer.told.at(-1)], [["cancel"], "cancel"]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "shutdown"], ["streamEnded", "shutdown"]]);
});

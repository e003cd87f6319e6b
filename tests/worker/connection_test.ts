import assert from "node:assert/strict";
import { plainResponse, STREAM_HEAD } from "../../src/protocol/http_response.ts";
import type { Connection } from "../../src/worker/connection.ts";
import { turn } from "../support/answers.ts";
import { fakeWorker } from "../support/connections.ts";

const DONE = "data: [DONE]\n\n";
const text = (content: string): string => `data: {"content":"${content}"}\n\n`;
const failed = (error: string): string => `data: {"error":"${error}"}\n\n`;
const EPIPE = -32;
const ETIMEDOUT = 110;

/** The calls of these names. */
const only = (calls: unknown[][], ...names: string[]): unknown[][] =>
  calls.filter(([name]) => names.includes(name as string));

Deno.test("an answer: head with the first event, each piece, [DONE] at the normal end, closed in order", async () => {
  const { ask, calls, connections, traffic, timing, reactor } = fakeWorker();
  const [client, answer] = await ask();
  assert.equal(client.received, "");
  assert.equal(connections.size, 1);
  answer.emit("a");
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a"));
  answer.emit("b");
  answer.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b") + DONE);
  assert.deepEqual([client.closed, connections.size], ["in order", 0]);
  assert.deepEqual(answer.told, []);
  assert.deepEqual(calls, [
    ["connectionOpened"],
    ["streamStarted"],
    ["backendRequest", "scripted"],
    ["eventSent"],
    ["backendFirstEvent"],
    ["eventSent"],
    ["backendDone"],
    ["streamEnded"],
  ]);
  assert.equal(traffic.bytes, client.received.length);
  assert.deepEqual([timing.pending, reactor.open], [0, 0]);
});

Deno.test("an empty answer is a head and [DONE]", async () => {
  const { ask } = fakeWorker();
  const [client, answer] = await ask();
  answer.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + DONE);
});

Deno.test("open writes the head before there is any text", async () => {
  const { ask, calls } = fakeWorker();
  const [client, answer] = await ask();
  answer.emit({ kind: "open" });
  await turn();
  assert.equal(client.received, STREAM_HEAD);
  assert.deepEqual(only(calls, "eventSent", "backendFirstEvent"), [["backendFirstEvent"]]);
});

Deno.test("the answers of many clients are one stream: a turn's events go out in one call, in each client's order", async () => {
  const { ask, reactor } = fakeWorker();
  const all = [await ask(), await ask(), await ask()];
  for (const piece of ["a", "b"]) for (const [index, [, answer]] of all.entries()) answer.emit(piece + index);
  all[1]?.[1].end();
  await turn();
  assert.equal(reactor.batches, 1);
  assert.deepEqual(
    all.map(([client]) => client.received),
    [0, 1, 2].map((index) => STREAM_HEAD + text(`a${index}`) + text(`b${index}`) + (index === 1 ? DONE : "")),
  );
});

Deno.test("a request's bytes are held until the provider has taken it, or nobody wants the answer", async () => {
  const { ask, open, held } = fakeWorker();
  const ends: readonly ((answer: Awaited<ReturnType<typeof ask>>) => void)[] = [
    ([, answer]) => answer.emit({ kind: "open" }),
    ([, answer]) => answer.emit("a"),
    ([, answer]) => answer.end(),
    ([client]) => client.owner?.gone(0),
  ];
  for (const end of ends) {
    const asked = await ask();
    asked[1].emit({ kind: "alive" });
    await turn();
    assert.equal(held.bytes, "{}".length);
    end(asked);
    await turn();
    assert.equal(held.bytes, 0);
    asked[0].owner?.gone(0);
    assert.equal(held.bytes, 0);
  }
  await open(new TextEncoder().encode("no JSON"));
  assert.equal(held.bytes, 0);
});

Deno.test("usage and finish are in the log line and the metrics, not in the answer", async () => {
  const { open, backend, lines, calls } = fakeWorker();
  const client = await open({ request_id: "r-1", user_id: 7, model: "m" });
  const [answer] = backend.answers;
  answer?.emit("a", { kind: "usage", inputTokens: 3, outputTokens: 4 }, { kind: "finish", reason: "length" });
  answer?.end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + DONE);
  const { duration_ms, ...fields } = lines[0]?.fields ?? {};
  assert.equal(typeof duration_ms, "number");
  assert.deepEqual([lines.length, lines[0]?.level, lines[0]?.message, fields], [
    1,
    "info",
    "Stream complete",
    {
      request_id: "r-1",
      user_id: "7",
      backend: "scripted",
      model: "m",
      events: 1,
      finish_reason: "length",
      input_tokens: 3,
      output_tokens: 4,
    },
  ]);
  assert.deepEqual(only(calls, "tokensUsed"), [["tokensUsed", "m", 3, 4]]);
});

Deno.test("what follows the last event is dropped, in the same turn and later, and counts nowhere", async () => {
  for (const last of ["end", "fail"] as const) {
    const { ask, calls, lines } = fakeWorker();
    const [client, answer] = await ask();
    answer.emit("a");
    if (last === "end") answer.end();
    else answer.fail("truncated");
    answer.emit("never");
    answer.end();
    answer.fail("other");
    await turn();
    answer.emit("never", { kind: "usage", inputTokens: 1, outputTokens: 1 });
    await turn();
    assert.equal(
      client.received,
      STREAM_HEAD + text("a") + (last === "end" ? DONE : failed("Backend error")),
    );
    assert.equal(client.closed, "in order");
    for (const name of ["eventSent", "backendDone", "streamEnded"]) assert.equal(only(calls, name).length, 1);
    assert.equal(only(calls, "backendError").length, last === "end" ? 0 : 1);
    assert.equal(lines.length, last === "end" ? 1 : 2);
  }
});

Deno.test("a backend that fails before its first event is a 502, and says why in the log alone", async () => {
  const { ask, lines, calls } = fakeWorker();
  const [client, answer] = await ask();
  answer.fail("unavailable", "no route to the provider");
  await turn();
  assert.equal(client.received, plainResponse(502, "Backend unavailable"));
  assert.equal(client.closed, "in order");
  assert.equal(lines[0]?.level, "warning");
  assert.equal(lines[0]?.fields["kind"], "unavailable");
  assert(!client.received.includes("provider"));
  assert.deepEqual(only(calls, "backendError", "streamEnded", "backendFirstEvent"), [
    ["backendError", "scripted", "unavailable"],
    ["streamEnded", "backend_error"],
  ]);
});

Deno.test("a backend's own time-out before its first event is a 504", async () => {
  const { ask, calls } = fakeWorker();
  const [client, answer] = await ask();
  answer.fail("timeout");
  await turn();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
  assert.deepEqual(calls.at(-1), ["streamEnded", "backend_timeout"]);
});

Deno.test("an error of kind other is a 502", async () => {
  const { ask, calls } = fakeWorker();
  const [client, answer] = await ask();
  answer.fail("other");
  await turn();
  assert.equal(client.received, plainResponse(502, "Backend unavailable"));
  assert.deepEqual(only(calls, "backendError"), [["backendError", "scripted", "other"]]);
});

Deno.test("a backend that fails after the head: an error event, no [DONE]", async () => {
  const { ask, calls } = fakeWorker();
  const [client, answer] = await ask();
  answer.emit("a");
  await turn();
  answer.fail("truncated");
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + failed("Backend error"));
  assert.equal(client.closed, "in order");
  assert.deepEqual(calls.at(-1), ["streamEnded", "backend_error"]);
});

Deno.test("a silent backend is given up after its time-out: 504, and its answer is cancelled", async () => {
  const { ask, timing, calls, lines, connections } = fakeWorker();
  const [client, answer] = await ask();
  timing.advance(4998);
  await turn();
  assert.deepEqual([client.received, answer.told], ["", []]);
  timing.advance(5);
  await turn();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
  assert.deepEqual(answer.told, ["cancel"]);
  assert.deepEqual(only(calls, "backendError", "backendDone", "streamEnded"), [
    ["backendError", "scripted", "timeout"],
    ["backendDone"],
    ["streamEnded", "backend_timeout"],
  ]);
  assert.deepEqual(lines.map(({ level }) => level), ["warning", "info"]);
  assert.deepEqual([timing.pending, connections.size, client.closed], [0, 0, "in order"]);
});

Deno.test("each event gives the backend its whole time-out again", async () => {
  const { ask, timing } = fakeWorker();
  const [client, answer] = await ask();
  for (const content of ["a", "b"]) {
    timing.advance(4500);
    answer.emit(content);
    await turn();
  }
  timing.advance(4500);
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b"));
  timing.advance(505);
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b") + failed("Backend timeout"));
});

Deno.test("alive gives the backend its whole time-out again, and makes no head", async () => {
  const { ask, timing, calls } = fakeWorker();
  const [client, answer] = await ask();
  for (let count = 0; count < 3; count++) {
    timing.advance(4500);
    answer.emit({ kind: "alive" });
    await turn();
  }
  assert.equal(client.received, "");
  assert.deepEqual(only(calls, "backendFirstEvent", "eventSent"), []);
  timing.advance(4998);
  await turn();
  assert.equal(client.received, "");
  timing.advance(5);
  await turn();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
});

Deno.test("what a backend gives after its time-out is dropped", async () => {
  const { ask, timing, calls } = fakeWorker();
  const [client, answer] = await ask();
  timing.advance(5002);
  answer.emit("late");
  answer.end();
  await turn();
  assert.equal(client.closed, "in order");
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
  assert.deepEqual(only(calls, "streamEnded", "backendDone", "eventSent"), [
    ["backendDone"],
    ["streamEnded", "backend_timeout"],
  ]);
});

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
    const { open, backend, calls } = fakeWorker();
    const client = await open({ prompt: "x" }, { ...options, stopping: true });
    assert.equal(client.received, plainResponse(503, "Server is shutting down"));
    assert.deepEqual([client.closed, backend.answers.length], ["in order", 0]);
    assert.deepEqual(calls, [["connectionOpened"]]);
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

Deno.test("the request reaches the backend with its defaults filled in", async () => {
  const { open, backend } = fakeWorker();
  await open({ prompt: "hi", system: "be brief", temperature: 0.5 });
  assert.deepEqual(backend.answers[0]?.request, {
    requestId: "made-id",
    messages: [{ role: "system", content: "be brief" }, { role: "user", content: "hi" }],
    model: "default-model",
    temperature: 0.5,
  });
});

/** A connection and its answer. */
import assert from "node:assert/strict";
import type { Tracing } from "../../src/ops/tracing.ts";
import { turn } from "../support/answers.ts";
import { DONE, failed, fakeWorker, only, text } from "../support/connections.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

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

Deno.test("durations are in seconds, and begin with the handoff", async () => {
  const { ask, timing, durationsSecs } = fakeWorker();
  timing.advance(10_000);
  const [, answer] = await ask({ room: 0 });
  timing.advance(250);
  answer.emit({ kind: "alive" });
  await turn();
  timing.advance(1250);
  answer.emit("a");
  await turn();
  timing.advance(500);
  answer.end(); // its client takes nothing for now, and is not closed
  await turn();
  assert.deepEqual(durationsSecs, [["backendFirstEvent", 1.5], ["backendDone", 2]]);
});

Deno.test("a trace hears of the first piece, of the answer's end as it comes, and of the client's end last", async () => {
  const told: string[] = [];
  const trace = new Proxy({}, { get: (_, name) => () => void told.push(String(name)) });
  const tracing = { begin: () => trace } as unknown as Tracing;
  const { ask } = fakeWorker({ tracing });
  const [client, answer] = await ask({ room: 1 });
  answer.emit("a", "b");
  answer.end();
  await turn();
  assert.deepEqual(told, ["firstText", "answered"]); // the client has not taken it yet
  client.drain(Infinity);
  await turn();
  assert.deepEqual(told, ["firstText", "answered", "end"]);
});

Deno.test("the time of a stream is that until its client is closed, in the metrics and in the log", async () => {
  const { ask, timing, durationsSecs, lines } = fakeWorker();
  timing.advance(10_000);
  const [, answer] = await ask();
  answer.emit("a");
  await turn();
  timing.advance(2345);
  answer.end();
  await turn();
  assert.deepEqual(durationsSecs.at(-1), ["streamEnded", 2.345]);
  assert.equal(lines.at(-1)?.fields["duration_ms"], 2345);
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

Deno.test("what is included is in the answer, each as an event of its name, and pieces count as events", async () => {
  const { open, backend, calls } = fakeWorker();
  const client = await open({ include: ["usage", "finish", "reasoning", "tool_calls"] });
  const [answer] = backend.answers;
  assert.deepEqual(answer?.request.include, ["usage", "finish", "reasoning", "tool_calls"]);
  answer.emit({ kind: "reasoning", text: "Hm\n" }, "a");
  answer.emit({ kind: "tool_call", index: 0, id: "c1", name: "f", arguments: "" });
  answer.emit({ kind: "tool_call", index: 0, arguments: '{"a":1}' });
  answer.emit({ kind: "finish", reason: "stop" }, { kind: "usage", inputTokens: 3, outputTokens: 4 });
  answer.end();
  await turn();
  assert.equal(
    client.received,
    STREAM_HEAD +
      'event: reasoning\ndata: {"reasoning":"Hm\\n"}\n\n' +
      text("a") +
      'event: tool_calls\ndata: {"tool_calls":[{"index":0,"id":"c1","name":"f","arguments":""}]}\n\n' +
      'event: tool_calls\ndata: {"tool_calls":[{"index":0,"arguments":"{\\"a\\":1}"}]}\n\n' +
      'event: finish\ndata: {"finish":"stop"}\n\n' +
      'event: usage\ndata: {"usage":{"input_tokens":3,"output_tokens":4}}\n\n' +
      DONE,
  );
  assert.equal(only(calls, "eventSent").length, 4);
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

Deno.test("the request reaches the backend with its defaults filled in", async () => {
  const { open, backend } = fakeWorker();
  await open({ prompt: "hi", system: "be brief", temperature: 0.5 });
  assert.deepEqual(backend.answers[0]?.request, {
    requestId: "made-id",
    messages: [{ role: "system", content: "be brief" }, { role: "user", content: "hi" }],
    model: "default-model",
    format: "content",
    include: [],
    temperature: 0.5,
  });
});

import assert from "node:assert/strict";
import { BackendError } from "../../src/errors.ts";
import { plainResponse, STREAM_HEAD } from "../../src/protocol/http_response.ts";
import { fakeConnections, settled } from "../support/connections.ts";

const DONE = "data: [DONE]\n\n";
const text = (content: string): string => `data: {"content":"${content}"}\n\n`;
const failed = (error: string): string => `data: {"error":"${error}"}\n\n`;
const unavailable = () => new BackendError("unavailable", "no route to the provider");

Deno.test("an answer: head with the first event, each piece, [DONE] at the normal end, closed in order", async () => {
  const { open, backend, calls, drain } = fakeConnections();
  const client = await open({ prompt: "x" });
  const [stream] = backend.streams;
  assert(stream !== undefined);
  assert.equal(client.received, "");
  assert.equal(drain.live, 1);
  stream.emit("a");
  await settled();
  assert.equal(client.received, STREAM_HEAD + text("a"));
  stream.emit("b");
  stream.close();
  await settled();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b") + DONE);
  assert.deepEqual([client.closes, client.endedInOrder, drain.live], [1, true, 0]);
  assert.deepEqual([stream.cancelled, stream.signal.aborted], [undefined, false]);
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
});

Deno.test("an empty answer is a head and [DONE]", async () => {
  const { open, backend } = fakeConnections();
  const client = await open();
  backend.streams[0]?.close();
  await settled();
  assert.equal(client.received, STREAM_HEAD + DONE);
});

Deno.test("open writes the head before there is any text", async () => {
  const { open, backend, calls } = fakeConnections();
  const client = await open();
  backend.streams[0]?.emit({ kind: "open" });
  await settled();
  assert.equal(client.received, STREAM_HEAD);
  assert(!calls.some(([name]) => name === "eventSent"));
});

Deno.test("usage and finish are in the log line and the metrics, not in the answer", async () => {
  const { open, backend, lines, calls } = fakeConnections();
  const client = await open({ request_id: "r-1", user_id: 7, model: "m" });
  const [stream] = backend.streams;
  stream?.emit("a", { kind: "usage", inputTokens: 3, outputTokens: 4 }, { kind: "finish", reason: "length" });
  stream?.close();
  await settled();
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
  assert(calls.some((call) => JSON.stringify(call) === '["tokensUsed","m",3,4]'));
});

Deno.test("a backend that fails before its first event is a 502, and says why in the log alone", async () => {
  const { open, backend, lines, calls } = fakeConnections();
  const client = await open();
  backend.streams[0]?.fail(unavailable());
  await settled();
  assert.equal(client.received, plainResponse(502, "Backend unavailable"));
  assert(client.endedInOrder);
  assert.equal(lines[0]?.level, "warning");
  assert.equal(lines[0]?.fields["kind"], "unavailable");
  assert(!client.received.includes("provider"));
  assert.deepEqual(calls.filter(([name]) => name === "backendError" || name === "streamEnded"), [
    ["backendError", "scripted", "unavailable"],
    ["streamEnded", "backend_error"],
  ]);
});

Deno.test("a backend's own time-out before its first event is a 504", async () => {
  const { open, backend, calls } = fakeConnections();
  const client = await open();
  backend.streams[0]?.fail(new BackendError("timeout", "too late"));
  await settled();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
  assert.deepEqual(calls.at(-1), ["streamEnded", "backend_timeout"]);
});

Deno.test("an error that is no BackendError is one of kind other", async () => {
  const { open, backend, calls } = fakeConnections();
  const client = await open();
  backend.streams[0]?.fail(new TypeError("a bug"));
  await settled();
  assert.equal(client.received, plainResponse(502, "Backend unavailable"));
  assert(calls.some((call) => JSON.stringify(call) === '["backendError","scripted","other"]'));
});

Deno.test("a backend that fails after the head: an error event, no [DONE]", async () => {
  const { open, backend, calls } = fakeConnections();
  const client = await open();
  backend.streams[0]?.emit("a");
  await settled();
  backend.streams[0]?.fail(new BackendError("truncated", "cut"));
  await settled();
  assert.equal(client.received, STREAM_HEAD + text("a") + failed("Backend error"));
  assert(client.endedInOrder);
  assert.deepEqual(calls.at(-1), ["streamEnded", "backend_error"]);
});

Deno.test("a silent backend is given up after its time-out: 504, cancelled and aborted", async () => {
  const { open, backend, timing, calls } = fakeConnections();
  const client = await open();
  const [stream] = backend.streams;
  timing.advance(4998);
  await settled();
  assert.equal(client.received, "");
  timing.advance(5);
  await settled();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
  assert.deepEqual([stream?.signal.aborted, (stream?.cancelled as Error).name], [true, "AbortError"]);
  assert(calls.some((call) => JSON.stringify(call) === '["backendError","scripted","timeout"]'));
  assert.deepEqual(calls.at(-1), ["streamEnded", "backend_timeout"]);
  assert.equal(timing.pending, 0);
});

Deno.test("each event gives the backend its whole time-out again", async () => {
  const { open, backend, timing } = fakeConnections();
  const client = await open();
  const [stream] = backend.streams;
  for (const content of ["a", "b"]) {
    timing.advance(4500);
    stream?.emit(content);
    await settled();
  }
  timing.advance(4500);
  await settled();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b"));
  timing.advance(505);
  await settled();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b") + failed("Backend timeout"));
});

Deno.test("while a client is full its backend is not pulled, and no time-out of the backend runs", async () => {
  const { open, backend, timing } = fakeConnections();
  const client = await open({}, { room: 10 });
  const [stream] = backend.streams;
  assert(stream !== undefined);
  stream.emit("a");
  await settled();
  stream.emit("b"); // waits in the connection
  await settled();
  const { pulls } = stream;
  for (let part = 0; part < 8; part++) {
    timing.advance(900); // of the write time-out of 1000
    client.drain(5);
    await settled();
  }
  assert.deepEqual([stream.pulls, stream.signal.aborted], [pulls, false]);
  client.drain(Infinity);
  await settled();
  assert.equal(client.received, STREAM_HEAD + text("a") + text("b"));
  assert.equal(stream.pulls, pulls + 1);
  timing.advance(4998);
  await settled();
  assert(!stream.signal.aborted);
  timing.advance(5);
  await settled();
  assert(stream.signal.aborted);
});

Deno.test("a client that takes nothing for the write time-out is given up, and its backend with it", async () => {
  const { open, backend, timing, calls } = fakeConnections();
  const client = await open({}, { room: 10 });
  const [stream] = backend.streams;
  stream?.emit("a");
  await settled();
  timing.advance(1002);
  await settled();
  assert.deepEqual([client.closes, client.endedInOrder], [1, false]);
  assert.deepEqual([stream?.signal.aborted, (stream?.cancelled as Error).message], [true, "Write timeout"]);
  assert.deepEqual(calls.at(-1), ["streamEnded", "write_timeout"]);
});

for (const [when, pieces] of [["before the first event", []], ["in the middle", ["a"]]] as const) {
  Deno.test(`a client that goes away ${when} cancels its backend at once`, async () => {
    const { open, backend, calls, lines, drain, timing } = fakeConnections();
    const client = await open();
    const [stream] = backend.streams;
    stream?.emit(...pieces);
    await settled();
    client.events?.gone(0);
    assert(stream?.signal.aborted);
    await settled();
    assert.equal((stream.cancelled as Error).message, "Client disconnected");
    assert.deepEqual([client.closes, drain.live], [1, 0]);
    assert.deepEqual(calls.at(-1), ["streamEnded", "client_disconnected"]);
    assert.equal(lines.at(-1)?.fields["reason"], "client_disconnected");
    assert.equal(calls.filter(([name]) => name === "backendDone").length, 1);
    timing.advance(10_000);
    await settled();
    assert.equal(lines.length, 1);
  });
}

Deno.test("a backend that fails because it was cancelled is not counted as a failure", async () => {
  const { open, backend, calls, lines } = fakeConnections();
  const client = await open();
  client.events?.gone(0);
  backend.streams[0]?.fail(new Error("aborted"));
  await settled();
  assert(!calls.some(([name]) => name === "backendError"));
  assert.deepEqual(lines.map(({ level }) => level), ["info"]);
});

Deno.test("data that is no request is a 400 that says why; no backend is asked, no stream counted", async () => {
  const { open, backend, calls, lines, drain } = fakeConnections();
  const client = await open(new TextEncoder().encode('{"prompt":1}'));
  assert.equal(client.received, plainResponse(400, 'Field "prompt" is 1, expected a string'));
  assert.deepEqual([client.endedInOrder, drain.live, backend.streams.length], [true, 0, 0]);
  assert.deepEqual(calls, [["connectionOpened"], ["handoffFailed", "bad_request"]]);
  assert.deepEqual(lines.map(({ level }) => level), ["warning"]);
});

Deno.test("beyond the limit: 503 with Retry-After, and no backend is asked", async () => {
  const { open, backend, calls } = fakeConnections();
  const client = await open({}, { overLimit: true });
  assert.equal(client.received, plainResponse(503, "Too many connections"));
  assert.match(client.received, /\r\nRetry-After: 5\r\n/);
  assert.deepEqual([client.endedInOrder, backend.streams.length], [true, 0]);
  assert.deepEqual(calls, [["connectionOpened"], ["connectionRejected"]]);
});

Deno.test("a shutdown tells streams with an event, and those before the head with a 503", async () => {
  const { open, backend, drain, calls } = fakeConnections();
  const [streaming, waiting] = [await open(), await open()];
  backend.streams[0]?.emit("a");
  await settled();
  drain.shutDown();
  await settled();
  assert.equal(streaming.received, STREAM_HEAD + text("a") + failed("Server is shutting down"));
  assert.equal(waiting.received, plainResponse(503, "Server is shutting down"));
  assert.deepEqual([streaming.endedInOrder, waiting.endedInOrder, drain.live], [true, true, 0]);
  assert(backend.streams.every(({ signal }) => signal.aborted));
  assert.deepEqual(calls.filter(([name]) => name === "streamEnded"), [
    ["streamEnded", "shutdown"],
    ["streamEnded", "shutdown"],
  ]);
});

Deno.test("a shutdown adds nothing to an answer whose last bytes wait for room", async () => {
  const { open, backend, drain, calls } = fakeConnections();
  const complete = await open({}, { room: 10 });
  const refused = await open({}, { room: 10, overLimit: true });
  backend.streams[0]?.close();
  await settled();
  drain.shutDown();
  await settled();
  complete.drain(Infinity);
  refused.drain(Infinity);
  assert.equal(complete.received, STREAM_HEAD + DONE);
  assert.equal(refused.received, plainResponse(503, "Too many connections"));
  assert.deepEqual(calls.at(-1), ["streamEnded"]);
});

Deno.test("a backend with much to say has its share of each turn, so that others have theirs", async () => {
  const { open, backend, batches } = fakeConnections();
  const [greedy, modest] = [await open(), await open()];
  const before = batches();
  const piece = "x".repeat(1000);
  backend.streams[0]?.emit(...Array.from({ length: 100 }, () => piece));
  backend.streams[0]?.close();
  backend.streams[1]?.emit("a");
  await Promise.resolve();
  while (modest.received === "") await new Promise((resolve) => setImmediate(resolve));
  assert(greedy.received.length < 20_000, `${greedy.received.length} bytes went before the other's first`);
  while (!greedy.endedInOrder) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(greedy.received, STREAM_HEAD + text(piece).repeat(100) + DONE);
  assert(batches() - before >= 6);
});

Deno.test("the request reaches the backend with its defaults filled in", async () => {
  const { open, backend } = fakeConnections();
  await open({ prompt: "hi", system: "be brief", temperature: 0.5 });
  assert.deepEqual(backend.streams[0]?.request, {
    requestId: "made-id",
    messages: [{ role: "system", content: "be brief" }, { role: "user", content: "hi" }],
    model: "default-model",
    temperature: 0.5,
  });
});

Deno.test("a backend that throws is a 502 for its own client, and the next one is served", async () => {
  const { open, backend, drain } = fakeConnections();
  const stream = backend.stream;
  backend.stream = () => {
    throw new TypeError("a bug");
  };
  const client = await open();
  await settled();
  assert.equal(client.received, plainResponse(502, "Backend unavailable"));
  assert.equal(drain.live, 0);
  backend.stream = stream;
  const next = await open();
  backend.streams[0]?.close();
  await settled();
  assert.equal(next.received, STREAM_HEAD + DONE);
});

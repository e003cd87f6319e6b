import assert from "node:assert/strict";
import { makeReactor, Reactor } from "../../src/native/reactor.ts";
import { tryDaemon } from "../../src/cli/try.ts";
import { TestAcceptor } from "../support/acceptor.ts";
import { DONE_EVENT, errorEvent, plainResponse, STREAM_HEAD, textEvent } from "../support/wire.ts";

interface Outcome {
  readonly whole: boolean;
  readonly answer: string;
  readonly told: readonly string[];
  readonly payloads: readonly string[];
}

/** Tries against something that sends `chunks` and ends, or, without an end, stays silent. */
async function tryAgainst(
  chunks: readonly (string | Uint8Array)[],
  { data = {}, end = true, timeoutMs = 10_000 } = {},
): Promise<Outcome> {
  await using acceptor = new TestAcceptor();
  const reactor = new Reactor(makeReactor(acceptor.acceptor.handle));
  const payloads: string[] = [];
  const running = reactor.run({
    handoff: ({ client, payload }) => {
      payloads.push(new TextDecoder().decode(payload));
      for (const chunk of chunks) {
        const bytes = new Uint8Array(typeof chunk === "string" ? new TextEncoder().encode(chunk) : chunk);
        const entries = Uint32Array.of(client, 0, bytes.length, 0);
        reactor.send({ entries, count: 1, data: bytes, dataBytes: bytes.length });
      }
      if (end) reactor.close(client);
      return { gone: () => {}, writable: () => {} };
    },
  });
  let answer = "";
  const told: string[] = [];
  try {
    const whole = await tryDaemon({
      socketPath: acceptor.pathOf("seqpacket"),
      kind: "seqpacket",
      data,
      timeoutMs,
      answer: (text) => void (answer += text),
      tell: (line) => void told.push(line),
    });
    return { whole, answer, told, payloads };
  } finally {
    reactor.shutDown();
    await running;
  }
}

Deno.test("try: the text of a whole answer, then times and counts", async () => {
  const stream = STREAM_HEAD + textEvent("Grüße ") + textEvent("und\nmehr") + DONE_EVENT;
  const { whole, answer, told, payloads } = await tryAgainst([stream], { data: { prompt: "x" } });
  assert.deepEqual([whole, answer, payloads], [true, "Grüße und\nmehr\n", ['{"prompt":"x"}']]);
  assert.equal(told.length, 1);
  const bytes = new TextEncoder().encode(stream).length;
  assert.match(
    told[0] as string,
    new RegExp(
      `^HTTP/1\\.1 200 OK; first byte after [\\d.]+ ms, 3 events and ${bytes} bytes in [\\d.]+ s \\([\\d.]+ events/s\\)$`,
    ),
  );
});

Deno.test("try: an answer cut at any byte reads the same", async () => {
  const bytes = new TextEncoder().encode(STREAM_HEAD + textEvent("ü😀") + DONE_EVENT);
  for (let at = 1; at < bytes.length; at += 7) {
    const { whole, answer } = await tryAgainst([bytes.slice(0, at), bytes.slice(at)]);
    assert.deepEqual([whole, answer], [true, "ü😀\n"], `cut at ${at}`);
  }
});

Deno.test("try: without data one NUL byte is sent", async () => {
  assert.deepEqual((await tryAgainst([STREAM_HEAD + DONE_EVENT])).payloads, ["\0"]);
});

Deno.test("try: a stream that breaks is not whole, and says why", async () => {
  const { whole, answer, told } = await tryAgainst([
    STREAM_HEAD,
    textEvent("a"),
    errorEvent("Backend error"),
  ]);
  assert.deepEqual([whole, answer], [false, "a\n"]);
  assert.deepEqual(told.slice(0, 2), [
    "The daemon reports: Backend error",
    "The stream ended without [DONE]",
  ]);
});

/** By format, as the daemon sends it: a piece of an answer and a failure, and what no text is in. */
const FORMATS = {
  openai: [
    '{"id":"c","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}',
    '{"id":"c","choices":[{"index":0,"delta":{"content":"Grüße"},"finish_reason":null}],"error":null}',
    '{"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}',
    '{"id":"c","choices":[],"usage":{"total_tokens":3}}',
    "null",
    '{"error":{"message":"Backend error","type":"backend_error","param":null,"code":null}}',
  ],
  "ai-sdk": [
    '{"type":"start"}',
    '{"type":"reasoning-delta","id":"0","delta":"Hm"}',
    '{"type":"text-delta","id":"1","delta":"Grüße"}',
    '{"type":"error","errorText":"Backend error"}',
  ],
};

for (const [format, events] of Object.entries(FORMATS)) {
  Deno.test(`try: text and failure of an answer in the format ${format}`, async () => {
    const stream = STREAM_HEAD + events.map((data) => `data: ${data}\n\n`).join("");
    const { whole, answer, told } = await tryAgainst([stream]);
    assert.deepEqual([whole, answer], [false, "Grüße\n"]);
    assert.deepEqual(told.slice(0, -1), [
      "The daemon reports: Backend error",
      "The stream ended without [DONE]",
    ]);
  });
}

Deno.test("try: an answer that is no stream is shown as it is", async () => {
  const { whole, answer, told } = await tryAgainst([plainResponse(503, "Too many connections")]);
  assert.deepEqual([whole, answer], [false, "Too many connections\n"]);
  assert.match(told[0] as string, /^HTTP\/1\.1 503 Service Unavailable; /);
});

Deno.test("try: a connection that is closed without a byte", async () => {
  const { whole, told } = await tryAgainst([]);
  assert.deepEqual([whole, told], [false, [
    "The daemon closed the connection without a byte; its log says why",
  ]]);
});

Deno.test("try: silence past the time-out is an error", async () => {
  await assert.rejects(tryAgainst([STREAM_HEAD], { end: false, timeoutMs: 100 }), /Cannot read: ETIMEDOUT/);
});

Deno.test("try: no daemon", async () => {
  await assert.rejects(
    tryDaemon({
      socketPath: "/nonexistent/d.sock",
      kind: "stream",
      data: {},
      timeoutMs: 100,
      answer: () => {},
      tell: () => {},
    }),
    /Cannot connect to \/nonexistent\/d\.sock: ENOENT/,
  );
});

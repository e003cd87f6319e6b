import assert from "node:assert/strict";
import { asLoggable, kindOfStatus, loggable } from "../../../src/backend/http/errors.ts";
import { isRepeatable, pauseMs } from "../../../src/backend/http/retry.ts";
import { Refusal, type Refused } from "../../../src/backend/http/refusal.ts";
import { BackendError } from "../../../src/errors.ts";

/** What the backend makes of an answer that is not a stream. */
function refused(
  status: number,
  headers: Record<string, string> = {},
  body = '{"error":{"message":"made up"}}',
): Refused {
  const refusal = Refusal.of(status, Object.entries(headers), ["secret-1"]);
  assert.ok(refusal !== null);
  // In pieces, as it comes.
  for (const byte of new TextEncoder().encode(body)) refusal.add(Uint8Array.of(byte));
  return refusal.result();
}

Deno.test("openai errors: each status has its kind", () => {
  const kinds = [302, 400, 401, 403, 404, 407, 408, 409, 422, 424, 429, 500, 503, 529].map(kindOfStatus);
  assert.deepEqual(kinds, [
    "other",
    "bad_request",
    "auth",
    "auth",
    "not_found",
    "unavailable",
    "timeout",
    "bad_request",
    "bad_request",
    "server_error",
    "rate_limited",
    "server_error",
    "server_error",
    "server_error",
  ]);
});

Deno.test("openai errors: a message is one bounded line without a key", () => {
  assert.equal(
    loggable("wrong key secret-1\r\nsk-abc*def-123, bad", ["secret-1"]),
    "wrong key [key] [key], bad",
  );
  assert.equal(loggable("x".repeat(600), []).length, 501);
  assert.equal(loggable("no key at all", []), "no key at all");
});

Deno.test("openai errors: an error of the pool stays what it is, without a key", () => {
  const error = asLoggable(new BackendError("unavailable", "refused sk-12345", { cause: "x" }), []);
  assert.deepEqual([error.kind, error.message, error.cause], ["unavailable", "refused [key]", "x"]);
});

Deno.test("openai errors: where an excerpt ends in a key, nothing of it is left", () => {
  const told = (body: string): string =>
    refused(200, { "content-type": "application/json" }, body).failure.message.replace(/^.* it is /, "");
  const filling = "word ".repeat(22);
  assert.equal(told(`${filling}secret-1 more`), `"${filling}[key] …"`);
  assert.equal(told(`${filling}, key=secret-1 more`), `"${filling}, …"`);
  assert.equal(told("short secret-1"), '"short [key]"');
});

Deno.test("openai errors: what is tried again", () => {
  const again = (refusal: Refused): boolean => isRepeatable(refusal.failure, refusal, false);
  assert.deepEqual([400, 401, 404, 408, 409, 422, 429, 500, 503].filter((status) => again(refused(status))), [
    408,
    409,
    429,
    500,
    503,
  ]);
  assert.ok(!again(refused(429, { "x-should-retry": "false" })));
  assert.ok(again(refused(400, { "x-should-retry": "true" })));
  assert.ok(isRepeatable(new BackendError("unavailable", "refused"), null, false));
  assert.ok(!isRepeatable(new BackendError("malformed", "nonsense"), null, false));
});

Deno.test("openai errors: what is tried again of what must not be done twice", () => {
  const again = (refusal: Refused): boolean => isRepeatable(refusal.failure, refusal, true);
  assert.deepEqual([408, 409, 429, 500, 502, 503, 504].filter((status) => again(refused(status))), [
    429,
    503,
  ]);
  assert.ok(!again(refused(503, { "x-should-retry": "false" })));
  assert.ok(!again(refused(502, { "x-should-retry": "true" })));
  assert.ok(!isRepeatable(new BackendError("unavailable", "it broke"), null, true));
});

Deno.test("openai errors: pauses double up to a bound, with jitter below", () => {
  const error = refused(500);
  assert.deepEqual([1, 2, 3, 9].map((tries) => pauseMs(error, tries, 0, 0)), [500, 1_000, 2_000, 8_000]);
  assert.equal(pauseMs(error, 1, 0, 1), 375);
});

Deno.test("openai errors: a pause is never shorter than what the provider asks for", () => {
  assert.equal(pauseMs(refused(429, { "retry-after": "3" }), 1, 0, 0), 3_000);
  assert.equal(pauseMs(refused(429, { "retry-after": "3" }), 1, 0, 1), 3_125);
  assert.equal(pauseMs(refused(429, { "retry-after-ms": "20", "retry-after": "3" }), 1, 0, 0), 20);
  assert.equal(
    pauseMs(refused(429, { "retry-after": "Thu, 01 Jan 1970 00:01:00 GMT" }), 1, 20_000, 0),
    40_000,
  );
  assert.equal(pauseMs(refused(429, { "retry-after": "Thu, 01 Jan 1970 00:00:10 GMT" }), 1, 20_000, 0), 0);
  assert.equal(pauseMs(refused(429, { "retry-after": "soon" }), 1, 0, 0), 500);
});

const JSON_TYPE = { "content-type": "application/json" };
/** What came, and what the log says of it. */
const REFUSALS: readonly [name: string, Parameters<typeof refused>, kind: string, message: string][] = [
  ["OpenAI's object", [401], "auth", "the provider answered 401 made up"],
  [
    "a key in it",
    [401, {}, '{"error":{"message":"wrong key secret-1"}}'],
    "auth",
    "the provider answered 401 wrong key [key]",
  ],
  [
    "an error that is a text",
    [404, {}, '{"error":"no such model"}'],
    "not_found",
    "the provider answered 404 no such model",
  ],
  [
    "vLLM's object",
    [400, {}, '{"object":"error","message":"too long","code":400}'],
    "bad_request",
    "the provider answered 400 too long",
  ],
  [
    "FastAPI's detail, without the input that it repeats",
    [422, {}, '{"detail":[{"loc":["body","n"],"msg":"bad","input":{"content":"a secret"}}]}'],
    "bad_request",
    'the provider answered 422 [{"loc":["body","n"],"msg":"bad"}]',
  ],
  [
    "plain text",
    [500, {}, "Internal\nServer Error\n"],
    "server_error",
    "the provider answered 500 Internal Server Error",
  ],
  [
    "text of many bytes a character",
    [400, {}, "zu früh 🌍"],
    "bad_request",
    "the provider answered 400 zu früh 🌍",
  ],
  ["nothing", [503, {}, ""], "server_error", "the provider answered 503 without a word"],
  ["JSON that is no object", [500, {}, "null"], "server_error", "the provider answered 500 null"],
  [
    "an event with an error",
    [429, {}, 'event: error\ndata: {"error":{"message":"slow"}}\n\n'],
    "rate_limited",
    "the provider answered 429 slow",
  ],
  [
    "a redirect",
    [308, { location: "https://u:p@x.example/a?key=1#b" }, ""],
    "other",
    "the provider answered 308, a redirect to https://x.example/a; expected no redirect",
  ],
  [
    "a coding",
    [200, { "content-encoding": "br" }, "x"],
    "malformed",
    "the provider's answer is in the coding br, which was not asked for",
  ],
  [
    "a coded error",
    [500, { "content-encoding": "gzip" }, "x"],
    "server_error",
    "the provider's answer 500 is in the coding gzip, which was not asked for",
  ],
  [
    "an error with 200",
    [200, JSON_TYPE, '{"error":"full"}'],
    "stream_error",
    "the provider reports, with status 200: full",
  ],
  [
    // Such names are what JSON.stringify calls itself for, once a level.
    "JSON that nests too deeply",
    [400, JSON_TYPE, `{"error":${'{"0":'.repeat(10_000)}1${"}".repeat(10_000)}}`],
    "bad_request",
    "the provider answered 400 an error that nests too deeply to be shown",
  ],
  [
    "JSON with 200",
    [200, JSON_TYPE, "{}"],
    "malformed",
    'the answer is application/json; expected text/event-stream; it is "{}"',
  ],
  [
    "JSON with 200 whose error is none",
    [200, JSON_TYPE, '{"error":null}'],
    "malformed",
    'the answer is application/json; expected text/event-stream; it is "{\\"error\\":null}"',
  ],
  [
    "JSON of another type",
    [200, { "content-type": "application/problem+json" }, '{"error":"full"}'],
    "stream_error",
    "the provider reports, with status 200: full",
  ],
];
for (const [name, answer, kind, message] of REFUSALS) {
  Deno.test(`openai errors: ${name} becomes words`, () => {
    const { failure } = refused(...answer);
    assert.deepEqual([failure.kind, failure.message], [kind, message]);
  });
}

Deno.test("openai errors: which part of the request it is about", () => {
  const paramOf = (body: string): string | null => refused(400, {}, body).param;
  assert.equal(paramOf('{"error":{"message":"x","param":"max_tokens"}}'), "max_tokens");
  assert.equal(
    paramOf('{"detail":[{"type":"extra_forbidden","loc":["body","stream_options"]}]}'),
    "stream_options",
  );
  assert.equal(paramOf('{"error":{"message":"stream_options","param":null}}'), null);
  assert.equal(paramOf('{"detail":"stream_options"}'), null);
  assert.equal(paramOf("stream_options"), null);
  assert.equal(paramOf('{"detail":[{"loc":["body",{"toString":1},"n",0]}]}'), "n.0");
});

Deno.test("openai errors: the head of a stream is no refusal, and an error's body is read to a bound", () => {
  assert.equal(Refusal.of(200, [["content-type", "text/event-stream"]], []), null);
  assert.equal(Refusal.of(200, [["content-encoding", "identity"]], []), null);
  assert.equal(Refusal.of(200, [["content-encoding", ""]], []), null);
  const long = Refusal.of(500, [], []);
  assert.ok(long !== null && !long.complete);
  long.add(new Uint8Array(70_000).fill(120));
  assert.ok(long.complete);
  assert.ok(long.result().failure.message.length < 600);
});

Deno.test("openai errors: a body of empty lines is read in no time", () => {
  const empty = Refusal.of(500, [], []);
  empty?.add(new Uint8Array(65_000).fill(10));
  const startMs = performance.now();
  assert.equal(empty?.result().failure.message, "the provider answered 500 without a word");
  assert.ok(performance.now() - startMs < 1_000);
});

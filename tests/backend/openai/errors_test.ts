import assert from "node:assert/strict";
import { APIError } from "openai";
import {
  backendError,
  isRepeatable,
  kindOfStatus,
  loggable,
  pauseMs,
} from "../../../src/backend/openai/errors.ts";
import { BackendError } from "../../../src/errors.ts";

const refusal = (status: number, headers: Record<string, string> = {}): APIError =>
  APIError.generate(status, { error: { message: "made up" } }, undefined, new Headers(headers));

Deno.test("openai errors: each status has its kind", () => {
  const kinds = [302, 400, 401, 403, 404, 409, 422, 429, 500, 503, 529].map(kindOfStatus);
  assert.deepEqual(kinds, [
    "other",
    "bad_request",
    "auth",
    "auth",
    "not_found",
    "bad_request",
    "bad_request",
    "rate_limited",
    "server_error",
    "server_error",
    "server_error",
  ]);
});

Deno.test("openai errors: a message is one bounded line without a key", () => {
  assert.equal(
    loggable("wrong key secret-1\r\nsk-abc*def-123, bad", "secret-1"),
    "wrong key [key] [key], bad",
  );
  assert.equal(loggable("x".repeat(600), "").length, 501);
  assert.equal(loggable("no key at all", ""), "no key at all");
});

Deno.test("openai errors: the SDK's error says what the provider said", () => {
  const error = backendError(refusal(401), "");
  assert.equal(error.kind, "auth");
  assert.equal(error.message, "the provider answered 401 made up");
});

Deno.test("openai errors: an error of the pool stays what it is, under whatever it is wrapped in", () => {
  const cause = new BackendError("unavailable", "refused sk-12345");
  const error = backendError(new Error("outer", { cause: new Error("inner", { cause }) }), "");
  assert.deepEqual([error.kind, error.message], ["unavailable", "refused [key]"]);
  assert.equal(backendError(new TypeError("odd"), "").kind, "other");
});

Deno.test("openai errors: what is tried again", () => {
  const again = (error: unknown): boolean => isRepeatable(error, backendError(error, ""));
  assert.deepEqual([400, 401, 404, 408, 409, 422, 429, 500, 503].filter((status) => again(refusal(status))), [
    408,
    409,
    429,
    500,
    503,
  ]);
  assert.ok(!again(refusal(429, { "x-should-retry": "false" })));
  assert.ok(again(refusal(400, { "x-should-retry": "true" })));
  assert.ok(again(new BackendError("unavailable", "refused")));
  assert.ok(!again(new BackendError("malformed", "nonsense")));
});

Deno.test("openai errors: pauses double up to a bound, with jitter below", () => {
  const error = refusal(500);
  assert.deepEqual([1, 2, 3, 9].map((tries) => pauseMs(error, tries, 0, 0)), [500, 1_000, 2_000, 8_000]);
  assert.equal(pauseMs(error, 1, 0, 1), 375);
});

Deno.test("openai errors: a pause is never shorter than what the provider asks for", () => {
  assert.equal(pauseMs(refusal(429, { "retry-after": "3" }), 1, 0, 0), 3_000);
  assert.equal(pauseMs(refusal(429, { "retry-after": "3" }), 1, 0, 1), 3_125);
  assert.equal(pauseMs(refusal(429, { "retry-after-ms": "20", "retry-after": "3" }), 1, 0, 0), 20);
  assert.equal(
    pauseMs(refusal(429, { "retry-after": "Thu, 01 Jan 1970 00:01:00 GMT" }), 1, 20_000, 0),
    40_000,
  );
  assert.equal(pauseMs(refusal(429, { "retry-after": "Thu, 01 Jan 1970 00:00:10 GMT" }), 1, 20_000, 0), 0);
  assert.equal(pauseMs(refusal(429, { "retry-after": "soon" }), 1, 0, 0), 500);
});

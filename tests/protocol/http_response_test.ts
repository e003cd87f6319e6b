import assert from "node:assert/strict";
import { plainResponse, STREAM_HEAD, streamHead } from "../../src/protocol/http_response.ts";

Deno.test("the head of a stream", () => {
  assert.equal(
    STREAM_HEAD,
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
      "Connection: close\r\nX-Accel-Buffering: no\r\n\r\n",
  );
});

Deno.test("a plain answer", () => {
  assert.equal(
    plainResponse(502, "Backend unavailable"),
    "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 20\r\n" +
      "Connection: close\r\n\r\nBackend unavailable\n",
  );
});

Deno.test("503 says when to come back", () => {
  assert.match(plainResponse(503, "x"), /\r\nRetry-After: 5\r\n/);
});

for (
  const [status, reason] of [
    [400, "Bad Request"],
    [413, "Content Too Large"],
    [504, "Gateway Timeout"],
  ] as const
) {
  Deno.test(`${status} is "${reason}" and has no Retry-After`, () => {
    const response = plainResponse(status, "x");
    assert(response.startsWith(`HTTP/1.1 ${status} ${reason}\r\n`));
    assert(!response.includes("Retry-After"));
  });
}

Deno.test("the length counts bytes, and a line break cannot get into the line", () => {
  const [head, body] = plainResponse(400, "é\r\ny").split("\r\n\r\n") as [string, string];
  assert.equal(body, "é y\n");
  assert.match(head, /Content-Length: 5\b/);
});

Deno.test("further lines of a head come last in it", () => {
  assert.equal(streamHead("X-A: 1\r\n"), STREAM_HEAD.replace(/\r\n$/, "X-A: 1\r\n\r\n"));
  assert.equal(streamHead(""), STREAM_HEAD);
  assert.equal(
    plainResponse(502, "x", "X-A: 1\r\n"),
    "HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n" +
      "Connection: close\r\nX-A: 1\r\n\r\nx\n",
  );
});

import assert from "node:assert/strict";
import { HandoffRequestError } from "../../src/errors.ts";
import { headerLines } from "../../src/protocol/response_headers.ts";

function refusal(value: unknown): string {
  try {
    headerLines(value);
  } catch (error) {
    assert(error instanceof HandoffRequestError);
    return error.message;
  }
  throw new assert.AssertionError({ message: `it was accepted: ${JSON.stringify(value)}` });
}

Deno.test("response_headers: what a site may say, in its own order and spelling", () => {
  const names = [
    "Access-Control-Allow-Origin",
    "access-control-expose-headers",
    "Cross-Origin-Resource-Policy",
    "Set-Cookie",
    "Vary",
    "Server-Timing",
    "Strict-Transport-Security",
    "Content-Security-Policy",
    "X-Request-ID",
    "X-Content-Type-Options",
  ];
  const given = Object.fromEntries(names.map((name) => [name, "*"]));
  assert.equal(headerLines(given), names.map((name) => `${name}: *\r\n`).join(""));
});

Deno.test("response_headers: what frames the response, what is the daemon's, or what a server in front acts on is refused", () => {
  const names = [
    "Content-Length",
    "content-length",
    "Transfer-Encoding",
    "Connection",
    "Keep-Alive",
    "Upgrade",
    "Trailer",
    "TE",
    "Content-Type",
    "Content-Encoding",
    "Cache-Control",
    "Date",
    "Server",
    "Location",
    "Refresh",
    "Status",
    "X-Accel-Buffering",
    "X-Accel-Redirect",
    "X-Sendfile",
    "X-LIGHTTPD-send-file",
    "X-Socket-Handoff",
    "X-Handoff-Data",
    "x-vercel-ai-ui-message-stream",
    "X-",
    "Other",
  ];
  for (const name of names) {
    assert.equal(
      refusal({ "X-Good": "1", [name]: "1" }),
      `Field "response_headers" has "${name}" that a site may not set, expected Access-Control-…, ` +
        "Cross-Origin-…, Set-Cookie, Vary, X-… or the like",
    );
  }
});

Deno.test("response_headers: a name that is none is refused, and not repeated", () => {
  for (const name of ["", "X-A:", "X-A: b\r\nX-B", "X A", "X-Ä", "x-".padEnd(80, "a"), "Vary\n"]) {
    assert.match(refusal({ [name]: "1" }), /^Field "response_headers" has a name that a site may not set/);
  }
});

Deno.test("response_headers: no value can begin a line, or end the head", () => {
  for (let code = 0; code < 256; code++) {
    const value = `a${String.fromCharCode(code)}b`;
    if (code === 9 || (code >= 0x20 && code < 0x7f)) {
      assert.equal(headerLines({ "X-A": value }), `X-A: ${value}\r\n`);
    } else {
      assert.equal(
        refusal({ "X-A": value }),
        'Field "response_headers.X-A" is not a string, or an array of strings, of printable ASCII',
      );
    }
  }
  for (const value of [1, true, {}, ["a", "b\r\n"], [["a"]], "\u2028", "😀"]) refusal({ "X-A": value });
});

Deno.test("response_headers: limited in number and in bytes", () => {
  const many = (count: number) => ({ "Set-Cookie": Array.from({ length: count }, () => "a=1") });
  assert.equal(headerLines(many(64)).split("\r\n").length, 65);
  assert.equal(
    refusal(many(65)),
    'Field "response_headers" has 65 fields of 1105 bytes, expected at most 64 fields of 8192 bytes in all',
  );
  const value = "a".repeat(8192 - "X-A: \r\n".length);
  assert.equal(headerLines({ "X-A": value }).length, 8192);
  assert.match(refusal({ "X-A": `${value}a` }), /has 1 fields of 8193 bytes/);
});

Deno.test("response_headers: none of them is no line", () => {
  for (const none of [{}, [], { Vary: null }, { Vary: [] }]) assert.equal(headerLines(none), "");
});

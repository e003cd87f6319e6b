import assert from "node:assert/strict";
import { H1Parser } from "../../src/upstream/h1/parser.ts";
import { randomCuts, randomInts } from "../support/random.ts";

const encoder = new TextEncoder();

/** @returns what was heard, data joined; `+` says that the connection can be used again */
function parse(pieces: readonly (string | Uint8Array)[], end?: "closes"): string {
  let heard = "";
  let kept = false;
  const decoder = new TextDecoder();
  const parser = new H1Parser({
    h1Head: ({ status, fields, keepAlive }) => {
      kept = keepAlive;
      heard += `${status} ${fields.map((field) => field.join("=")).join("&")}|`;
    },
    h1Data: (data) => heard += decoder.decode(data, { stream: true }),
    h1End: () => heard += kept ? "|+" : "|-",
  });
  for (const piece of pieces) {
    const bytes = typeof piece === "string" ? encoder.encode(piece) : piece;
    const taken = parser.push(bytes);
    if (taken < bytes.length) heard += ` ${bytes.length - taken} left`;
  }
  if (end === "closes" && !parser.close()) heard += "|cut";
  return heard;
}

Deno.test("h1 parser: content-length", () => {
  assert.equal(
    parse(["HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y\r\n\r\nhello"]),
    "200 content-length=5&x=y|hello|+",
  );
  assert.equal(parse(["HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]), "200 content-length=0||+");
  assert.equal(
    parse(["HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nab"], "closes"),
    "200 content-length=3|ab|cut",
  );
});

Deno.test("h1 parser: chunks, extensions and trailers", () => {
  const head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  const body = "5;a=b\r\nhello\r\nA \r\n, world!!!\r\n0\r\nX-Trailer: 1\r\n\r\n";
  assert.equal(parse([head + body]), "200 transfer-encoding=chunked|hello, world!!!|+");
  assert.equal(parse([head + "5\r\nhel"], "closes"), "200 transfer-encoding=chunked|hel|cut");
});

Deno.test("h1 parser: the end of the connection as the end of the body", () => {
  assert.equal(parse(["HTTP/1.1 200 OK\r\n\r\nhello"], "closes"), "200 |hello|-");
  assert.equal(parse(["HTTP/1.1 200 OK\r\n"], "closes"), "|cut");
});

Deno.test("h1 parser: whether the connection is kept", () => {
  const rest = "Content-Length: 0\r\n\r\n";
  assert.match(parse([`HTTP/1.1 200 OK\r\nConnection: Close\r\n${rest}`]), /\|-$/);
  assert.match(parse([`HTTP/1.0 200 OK\r\n${rest}`]), /\|-$/);
  assert.match(parse([`HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n${rest}`]), /\|\+$/);
});

Deno.test("h1 parser: how long the server keeps the connection", () => {
  const idleMs = (field: string): number => {
    let ms = -1;
    const listener = {
      h1Head: (head: { maxIdleMs: number }) => ms = head.maxIdleMs,
      h1Data() {},
      h1End() {},
    };
    new H1Parser(listener).push(encoder.encode(`HTTP/1.1 200 OK\r\n${field}Content-Length: 0\r\n\r\n`));
    return ms;
  };
  assert.equal(idleMs("Keep-Alive: timeout=5, max=100\r\n"), 4_000);
  assert.equal(idleMs("Keep-Alive: max=3, timeout=1\r\n"), 500);
  assert.equal(idleMs("Keep-Alive: timeout=x\r\n"), Infinity);
  assert.equal(idleMs(""), Infinity);
});

Deno.test("h1 parser: folded lines are one, and white space around a value is not part of it", () => {
  assert.equal(
    parse(["HTTP/1.1 200 OK\r\nA: \tb \r\n\tc\r\n  d\r\nContent-Length:0\r\n\r\n"]),
    "200 a=b c d&content-length=0||+",
  );
});

Deno.test("h1 parser: a long gap within a value is read in no time", () => {
  const gap = " \t".repeat(30_000);
  const startMs = performance.now();
  const heard = parse([`HTTP/1.1 200 OK\r\nA: b${gap}c\r\nContent-Length: 0\r\n\r\n`]);
  assert.ok(performance.now() - startMs < 1_000);
  assert.equal(heard, `200 a=b${gap}c&content-length=0||+`);
});

Deno.test("h1 parser: an empty line before the answer is passed over", () => {
  assert.equal(parse(["\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]), "200 content-length=0||+");
});

Deno.test("h1 parser: informational heads are passed over, a 204 has no body", () => {
  assert.equal(
    parse(["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n"]),
    "204 ||+",
  );
});

Deno.test("h1 parser: a 304 has no body, whatever length it names", () => {
  assert.equal(parse(["HTTP/1.1 304 N\r\nContent-Length: 5\r\n\r\n"]), "304 content-length=5||+");
});

Deno.test("h1 parser: what follows the answer is not part of it", () => {
  assert.equal(parse(["HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nabc"]), "200 content-length=1|a|+ 2 left");
});

Deno.test("h1 parser: cut at any bytes, it hears the same", () => {
  const random = randomInts(11);
  const stream = encoder.encode(
    "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\nServer: a: b\nTransfer-Encoding: chunked\r\n\r\n" +
      "3\r\nhel\r\nf\r\nlo, wörld 🌍\r\n0\r\nT: 1\r\n\r\n",
  );
  const whole = parse([stream]);
  assert.equal(whole, "200 server=a: b&transfer-encoding=chunked|hello, wörld 🌍|+");
  for (let round = 0; round < 2_000; round++) assert.equal(parse(randomCuts(stream, random)), whole);
});

const OK = "HTTP/1.1 200 OK\r\n";
const BROKEN: readonly [name: string, text: string, message: string][] = [
  ["another protocol", "SSH-2.0-OpenSSH\r\n\r\n", 'the answer begins with "SSH-2.0-OpenSSH"'],
  ["HTTP/2", "HTTP/2 200\r\n\r\n", 'the answer begins with "HTTP/2 200"'],
  ["101", "HTTP/1.1 101 Switching\r\n\r\n", "a switch of protocols that was not asked for"],
  ["a header without a colon", `${OK}nonsense\r\n\r\n`, 'the header line "nonsense"'],
  ["a folded first header", `${OK} c\r\n\r\n`, 'the header line " c"'],
  ["a carriage return in a header", `${OK}a: b\rc\r\n\r\n`, 'the header line "a: b\\rc"'],
  ["NUL in a header", `${OK}a: \0\r\n\r\n`, 'the header line "a: \\u0000"'],
  ["a space before the colon", `${OK}a : b\r\n\r\n`, 'the header line "a : b"'],
  ["many empty lines", "\r\n".repeat(3), "empty lines in place of an answer"],
  ["many heads of 1xx", "HTTP/1.1 103 E\r\n\r\n".repeat(33), "too many heads of 1xx"],
  [
    "a transfer coding with a length",
    `${OK}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n`,
    "both a transfer coding and a content length",
  ],
  [
    "a transfer coding in HTTP/1.0",
    "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a transfer coding in HTTP/1.0",
  ],
  [
    "chunked twice",
    `${OK}Transfer-Encoding: chunked, chunked\r\n\r\n`,
    'the transfer coding "chunked, chunked"',
  ],
  ["an empty transfer coding", `${OK}Transfer-Encoding:\r\n\r\n`, 'the transfer coding ""'],
  [
    "a chunk size without a carriage return",
    `${OK}Transfer-Encoding: chunked\r\n\r\n1\na\r\n`,
    "a chunk's line without a carriage return",
  ],
  [
    "a chunk's end without a carriage return",
    `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n`,
    "a chunk longer than its size",
  ],
  ["a chunk size in two words", `${OK}Transfer-Encoding: chunked\r\n\r\n1 1\r\n`, 'the chunk size "1 1"'],
  ["a chunk size with a sign", `${OK}Transfer-Encoding: chunked\r\n\r\n+1\r\n`, 'the chunk size "+1"'],
  [
    "a trailer that is none",
    `${OK}Transfer-Encoding: chunked\r\n\r\n0\r\nnonsense\r\n\r\n`,
    'the header line "nonsense"',
  ],
  [
    "another transfer coding",
    `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`,
    'the transfer coding "gzip, chunked"',
  ],
  [
    "a transfer coding that is not chunked",
    `${OK}Transfer-Encoding: gzip\r\n\r\n`,
    'the transfer coding "gzip"',
  ],
  ["two lengths", `${OK}Content-Length: 1\r\nContent-Length: 2\r\n\r\n`, 'the content length "1, 2"'],
  ["a negative length", `${OK}Content-Length: -1\r\n\r\n`, 'the content length "-1"'],
  ["a chunk size that is none", `${OK}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`, 'the chunk size "xyz"'],
  [
    "a huge chunk size",
    `${OK}Transfer-Encoding: chunked\r\n\r\nfffffffffffffff\r\n`,
    'the chunk size "fffffffffffffff"',
  ],
  [
    "a chunk longer than it says",
    `${OK}Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n`,
    "a chunk longer than its size",
  ],
  ["a head without an end", `${OK}a: ${"x".repeat(70_000)}`, "a head or chunk line of more than 65536 bytes"],
  ["many headers", OK + "a: b\r\n".repeat(15_000), "a head or chunk line of more than 65536 bytes"],
];
for (const [name, text, message] of BROKEN) {
  Deno.test(`h1 parser: refuses ${name}`, () => {
    assert.throws(() => parse([text]), {
      name: "BackendError",
      kind: "malformed",
      message: `HTTP/1.1: ${message}`,
    });
  });
}

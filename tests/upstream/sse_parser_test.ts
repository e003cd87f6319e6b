import assert from "node:assert/strict";
import { SseParser } from "../../src/upstream/sse_parser.ts";
import { randomCuts, randomInts } from "../support/random.ts";

const encoder = new TextEncoder();

function parse(pieces: readonly (string | Uint8Array)[], maxBytes = 1_000): string[] {
  const heard: string[] = [];
  const parser = new SseParser({
    sse: (data, event) => heard.push(event === "" ? data : `${event}:${data}`),
    sseTooLong: (max) => heard.push(`too long: ${max}`),
  }, maxBytes);
  for (const piece of pieces) parser.push(typeof piece === "string" ? encoder.encode(piece) : piece);
  const rest = parser.unfinished();
  if (rest !== null) heard.push(`unfinished ${rest}`);
  return heard;
}

const CASES: readonly [name: string, stream: string, events: string[]][] = [
  ["one event", "data: a\n\n", ["a"]],
  ["no space after the colon", "data:a\n\ndata:  b\n\n", ["a", " b"]],
  ["LF, CR and CRLF end a line", "data: a\r\rdata: b\n\ndata: c\r\n\r\n", ["a", "b", "c"]],
  ["a CRLF is one end of a line", "data: a\r\ndata: b\r\nevent: e\r\n\r\n", ["e:a\nb"]],
  ["a BOM at the beginning only", "\ufeffdata: a\n\n\ufeffdata: b\n\n", ["a"]],
  ["a BOM in the data stays", "data: \ufeffa\n\n", ["\ufeffa"]],
  ["comments", ": hello\n\n:\n\ndata: a\n: more\n\n", ["a"]],
  ["several data lines", "data: a\ndata\ndata: b\n\n", ["a\n\nb"]],
  ["the event's name", "event: error\ndata: a\n\ndata: b\n\n", ["error:a", "b"]],
  ["fields that are not looked at", "id: 1\nretry: 5\nfoo\ndatax: 1\ndata : 2\ndata: a\n\n", ["a"]],
  ["event without a colon takes the name back", "event: x\nevent\ndata: a\n\n", ["a"]],
  ["nothing without data", "event: x\n\n\n\n", []],
  ["an empty data line is an event", "data\n\ndata:\n\n", ["", ""]],
  ["an end without a blank line", "data: a\n\ndata: [DONE]", ["a", "unfinished [DONE]"]],
  ["characters of each length", "data: aé你🌍\n\n", ["aé你🌍"]],
];

for (const [name, stream, events] of CASES) {
  Deno.test(`sse parser: ${name}`, () => {
    assert.deepEqual(parse([stream]), events);
  });
}

Deno.test("sse parser: a short line in pieces is not read on into what a longer one has left", () => {
  assert.deepEqual(parse(["data: lo", "ng\n\n", "d", "a\n\n"]), ["long"]);
  assert.deepEqual(parse(["data:", "\n\n", "\ufeffda", "\n", "da", "\n\n"]), [""]);
});

Deno.test("sse parser: malformed UTF-8 becomes U+FFFD", () => {
  assert.deepEqual(parse([Uint8Array.of(...encoder.encode("data: a"), 0xff, 98, 10, 10)]), ["a\ufffdb"]);
});

Deno.test("sse parser: any stream cut at any bytes gives the same events", () => {
  const random = randomInts(4);
  const stream = encoder.encode(
    `${CASES.map(([, text]) => text).slice(0, 3).join("")}${CASES.at(-1)?.[1]}event: e\r\ndata: x\r\n\r\n`,
  );
  const whole = parse([stream]);
  assert.equal(whole.length, 8);
  for (let round = 0; round < 2_000; round++) assert.deepEqual(parse(randomCuts(stream, random)), whole);
});

Deno.test("sse parser: a line beyond the bound is told once, and nothing after it", () => {
  const long = `data: ok\n\ndata: ${"x".repeat(1_001)}\n\ndata: later\n\n`;
  assert.deepEqual(parse([long]), ["ok", "too long: 1000"]);
  assert.deepEqual(parse([...long].map(String)), ["ok", "too long: 1000"]);
  assert.deepEqual(parse(["x".repeat(600), "x".repeat(600), "\n\ndata: later\n\n"]), ["too long: 1000"]);
});

Deno.test("sse parser: a line that never ends is told as soon as it is too long", () => {
  const heard: string[] = [];
  const parser = new SseParser(
    { sse: (data) => heard.push(data), sseTooLong: () => heard.push("too long") },
    1_000,
  );
  for (let bytes = 0; bytes < 1_000; bytes += 100) parser.push(encoder.encode("x".repeat(100)));
  assert.deepEqual(heard, []);
  parser.push(encoder.encode("x"));
  assert.deepEqual(heard, ["too long"]);
});

Deno.test("sse parser: many data lines are bounded together", () => {
  assert.deepEqual(parse([`data: ${"x".repeat(99)}\n`.repeat(11)]), ["too long: 1000"]);
});

Deno.test("sse parser: the longest line passes", () => {
  assert.deepEqual(parse([`data: ${"x".repeat(994)}\n\n`]), ["x".repeat(994)]);
});

Deno.test("sse parser: stopped in the middle of a chunk, it tells nothing more", () => {
  const heard: string[] = [];
  const parser = new SseParser({
    sse: (data) => {
      heard.push(data);
      parser.stop();
    },
    sseTooLong: () => heard.push("too long"),
  }, 100);
  parser.push(encoder.encode("data: a\n\ndata: b\n\n"));
  parser.push(encoder.encode("data: c\n\n"));
  assert.deepEqual(heard, ["a"]);
  assert.equal(parser.unfinished(), null);
});

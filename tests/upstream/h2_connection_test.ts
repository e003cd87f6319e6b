import assert from "node:assert/strict";
import { BackendError } from "../../src/errors.ts";
import { type Connection, Exchange } from "../../src/upstream/exchange.ts";
import { H2Connection, NotHttp2Error } from "../../src/upstream/h2/connection.ts";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { encodeHead } from "../../src/upstream/h2/hpack.ts";
import { decodeFields } from "../support/decode_fields.ts";
import type { Field } from "../../src/upstream/h2/static_table.ts";
import { FakeStream, settle } from "../support/fake_stream.ts";
import { until } from "../support/until.ts";

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const PREFACE_BYTES = 24;

interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Uint8Array;
}

function frames(bytes: Uint8Array): Frame[] {
  const all: Frame[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = h2.uint32(bytes, at) >>> 8;
    const payload = bytes.subarray(at + 9, at + 9 + length);
    all.push({ type: bytes[at + 3] ?? 0, flags: bytes[at + 4] ?? 0, id: h2.uint32(bytes, at + 5), payload });
    at += 9 + length;
  }
  return all;
}

const short = (all: readonly Frame[]): string[] =>
  all.map(({ type, id, payload }) =>
    `${type}/${id}:${payload.length === 4 ? h2.uint32(payload, 0) : payload.length}`
  );

/** A connection whose server is the test, and what the pool and the consumers hear. */
class Rig {
  readonly stream = new FakeStream();
  readonly heard: string[] = [];
  readonly connection: H2Connection;

  constructor(pingIntervalMs = 1_000) {
    this.connection = new H2Connection(this.stream, {
      changed: () => {},
      returned: (exchange) => this.heard.push(`returned ${exchange.request?.head.url.pathname}`),
      gone: (_: Connection) => this.heard.push("gone"),
    }, pingIntervalMs);
  }

  static async ready(settings: [number, number][] = []): Promise<Rig> {
    const rig = new Rig();
    rig.stream.feed(h2.settingsFrame(settings));
    await rig.connection.ready;
    await rig.sent();
    return rig;
  }

  /** Starts an exchange; its name is its path and stands before all it hears. */
  start(name: string, body = ""): Exchange {
    const exchange = new Exchange(
      {
        head: { method: "POST", url: new URL(`http://h/${name}`), headers: [] },
        headers: [["x", "y"]],
        body: encoder.encode(body),
      },
      {
        head: (status) => this.heard.push(`${name} ${status}`),
        data: (bytes) =>
          this.heard.push(`${name} ${bytes.length < 20 ? decoder.decode(bytes) : bytes.length}`),
        end: () => this.heard.push(`${name} end`),
        fail: (error) => this.heard.push(`${name} ${error.kind}: ${error.message}`),
      },
    );
    this.connection.start(exchange);
    return exchange;
  }

  async sent(): Promise<Frame[]> {
    await settle();
    const bytes = this.stream.takeSent();
    return frames(decoder.decode(bytes.subarray(0, 3)) === "PRI" ? bytes.subarray(PREFACE_BYTES) : bytes);
  }

  async feed(...parts: Uint8Array[]): Promise<void> {
    this.stream.feed(...parts);
    await settle();
  }

  async close(): Promise<void> {
    this.connection.close(new BackendError("unavailable", "the test is over"));
    await this.connection.closed;
  }
}

const head = (id: number, fields: Field[] = [[":status", "200"]], flags = h2.FLAG_END_HEADERS): Uint8Array =>
  h2.bytesFrame(h2.HEADERS, flags, id, encodeHead(fields));
const data = (id: number, text: string | number, flags = 0): Uint8Array =>
  h2.bytesFrame(h2.DATA, flags, id, typeof text === "string" ? encoder.encode(text) : new Uint8Array(text));
const END = h2.FLAG_END_STREAM;
const SETTINGS_ACK = h2.bytesFrame(h2.SETTINGS, h2.FLAG_ACK, 0, new Uint8Array(0));
const joined = (...parts: readonly Uint8Array[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((part) => [...part]));

Deno.test("h2: begins with the preface, SETTINGS and a large connection window", async () => {
  const rig = new Rig();
  await settle();
  const bytes = rig.stream.takeSent();
  assert.equal(decoder.decode(bytes.subarray(0, PREFACE_BYTES)), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
  const sent = frames(bytes.subarray(PREFACE_BYTES));
  // No table of HPACK's, no push, heads of 64 KiB.
  assert.deepEqual([...sent[0]?.payload ?? []], [0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 6, 0, 1, 0, 0]);
  assert.deepEqual(short(sent), [
    "4/0:18",
    `8/0:${16 * 1_048_576 - 65_535}`,
  ]);
  await Promise.all([assert.rejects(rig.connection.ready), rig.close()]);
});

Deno.test("h2: a request and its answer", async () => {
  const rig = await Rig.ready();
  rig.start("a", "body");
  const [headers, body] = await rig.sent();
  assert.ok(headers !== undefined && body !== undefined);
  assert.deepEqual(decodeFields(headers.payload), [
    [":method", "POST"],
    [":scheme", "http"],
    [":authority", "h"],
    [":path", "/a"],
    ["x", "y"],
    ["content-length", "4"],
  ]);
  assert.deepEqual([headers.flags, body.flags, decoder.decode(body.payload)], [
    h2.FLAG_END_HEADERS,
    END,
    "body",
  ]);
  await rig.feed(head(1), data(1, "he"), data(1, "llo", END));
  assert.deepEqual(rig.heard, ["a 200", "a he", "a llo", "a end"]);
  assert.equal(rig.connection.active, 0);
  await rig.close();
});

Deno.test("h2: frames are found at any cut; padding, priority, CONTINUATION, trailers and 1xx are understood", async () => {
  const rig = await Rig.ready();
  rig.start("a");
  const block = encodeHead([[":status", "200"], ["long", "z".repeat(50)]]);
  const padded = Uint8Array.of(2, ...encoder.encode("hi"), 0, 0);
  const withPriority = Uint8Array.of(3, 0, 0, 0, 0, 9, ...block.subarray(0, 10), 0, 0, 0);
  const parts = [
    head(1, [[":status", "103"]]),
    h2.bytesFrame(h2.HEADERS, h2.FLAG_PADDED | h2.FLAG_PRIORITY, 1, withPriority),
    h2.bytesFrame(h2.CONTINUATION, 0, 1, block.subarray(10, 20)),
    h2.bytesFrame(h2.CONTINUATION, h2.FLAG_END_HEADERS, 1, block.subarray(20)),
    h2.bytesFrame(h2.DATA, h2.FLAG_PADDED, 1, padded),
    h2.bytesFrame(0xfa, 0, 1, new Uint8Array(5)),
    h2.bytesFrame(2, 0, 1, new Uint8Array(5)),
    head(1, [["grpc-status", "0"]], h2.FLAG_END_HEADERS | END),
  ];
  for (const byte of parts.flatMap((part) => [...part])) rig.stream.feed(Uint8Array.of(byte));
  await until("the end", () => rig.heard.includes("a end"));
  assert.deepEqual(rig.heard, ["a 200", "a hi", "a end"]);
  await rig.close();
});

Deno.test("h2: the server's limit is known before the first stream, and followed when it changes", async () => {
  const rig = await Rig.ready([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 2]]);
  assert.equal(rig.connection.room, 2);
  rig.start("a");
  rig.start("b");
  assert.equal(rig.connection.room, 0);
  await rig.feed(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 5]]));
  assert.equal(rig.connection.room, 3);
  await rig.close();
});

Deno.test("h2: without a limit it sets itself one", async () => {
  const rig = await Rig.ready();
  assert.equal(rig.connection.room, 256);
  await rig.feed(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 1_000_000]]));
  assert.equal(rig.connection.room, 256);
  await rig.close();
});

Deno.test("h2: a long body is sent as far as the windows let it, in frames that the server takes", async () => {
  const rig = await Rig.ready([[h2.SETTINGS_INITIAL_WINDOW_SIZE, 40_000]]);
  rig.start("a", "x".repeat(100_000));
  assert.deepEqual(short(await rig.sent()).slice(1), ["0/1:16384", "0/1:16384", "0/1:7232"]);
  await rig.feed(h2.numbersFrame(h2.WINDOW_UPDATE, 1, 30_000));
  assert.deepEqual(
    short(await rig.sent()),
    ["0/1:16384", "0/1:9151"],
    "the connection's window is the smaller",
  );
  await rig.feed(
    h2.numbersFrame(h2.WINDOW_UPDATE, 0, 100_000),
    h2.settingsFrame([[h2.SETTINGS_INITIAL_WINDOW_SIZE, 70_000]]),
  );
  const rest = await rig.sent();
  assert.deepEqual(short(rest), ["0/1:4465", "4/0:0", "0/1:16384", "0/1:13616"]);
  assert.equal(rest.at(-1)?.flags, END);
  await rig.close();
});

Deno.test("h2: a stream's credit is given back as its consumer takes it, the connection's at once", async () => {
  const rig = await Rig.ready();
  const slow = rig.start("slow");
  const fast = rig.start("fast");
  await rig.feed(head(1), head(3));
  await rig.sent();
  slow.paused = true;
  await rig.feed(data(1, 16_384), data(3, 16_384));
  assert.deepEqual(short(await rig.sent()), ["8/3:16384"]);
  await rig.feed(data(1, 16_384));
  assert.deepEqual(short(await rig.sent()), []);
  slow.resume();
  assert.deepEqual(short(await rig.sent()), ["8/1:32768"]);
  assert.ok(!fast.paused);
  for (let i = 0; i < 256; i++) rig.stream.feed(data(3, 16_384));
  await settle();
  assert.equal(short(await rig.sent()).filter((frame) => frame.startsWith("8/0:")).length, 1);
  await rig.close();
});

Deno.test("h2: a server that sends beyond a stream's window loses that stream only", async () => {
  const rig = await Rig.ready();
  rig.start("a").paused = true;
  rig.start("b");
  await rig.feed(head(1), head(3), ...Array.from({ length: 5 }, () => data(1, 16_384)), data(3, "ok"));
  assert.equal(rig.heard.at(-2), "a malformed: HTTP/2: more data than the window lets through");
  assert.equal(rig.heard.at(-1), "b ok");
  await rig.close();
});

Deno.test("h2: cancelling resets the stream and leaves the others", async () => {
  const rig = await Rig.ready();
  const a = rig.start("a");
  rig.start("b");
  await rig.sent();
  a.cancel();
  assert.deepEqual(short(await rig.sent()), ["3/1:8"]);
  await rig.feed(head(1), data(1, "late"), head(3), data(3, "b", END));
  assert.deepEqual(rig.heard, ["a other: the request was cancelled", "b 200", "b b", "b end"]);
  a.cancel();
  assert.deepEqual(await rig.sent(), []);
  await rig.close();
});

Deno.test("h2: of a request that is cancelled, no more of its body goes out", async () => {
  const rig = await Rig.ready();
  const a = rig.start("a", "x".repeat(100_000));
  rig.start("b", "y".repeat(10));
  const bodies = async () => (await rig.sent()).filter(({ type }) => type === h2.DATA);
  assert.deepEqual(new Set((await bodies()).map(({ id }) => id)), new Set([1])); // up to the connection's window
  await rig.feed(h2.numbersFrame(h2.WINDOW_UPDATE, 1, 100_000));
  assert.deepEqual(await bodies(), []);
  a.cancel();
  await rig.sent();
  await rig.feed(h2.numbersFrame(h2.WINDOW_UPDATE, 0, 100_000));
  assert.deepEqual((await bodies()).map(({ id, payload }) => [id, payload.length]), [[3, 10]]);
  await rig.close();
});

Deno.test("h2: a GOAWAY where nothing runs ends the connection at once", async () => {
  const rig = await Rig.ready();
  await rig.feed(h2.numbersFrame(h2.GOAWAY, 0, 0, h2.NO_ERROR));
  await rig.connection.closed;
  assert.deepEqual(rig.heard, ["gone"]);
  assert.ok(rig.stream.closed);
});

Deno.test("h2: a reset before and after the head", async () => {
  const rig = await Rig.ready();
  rig.start("a");
  rig.start("b");
  rig.start("c");
  await rig.feed(
    head(3),
    h2.numbersFrame(h2.RST_STREAM, 1, 2),
    h2.numbersFrame(h2.RST_STREAM, 3, 8),
    h2.numbersFrame(h2.RST_STREAM, 5, h2.REFUSED_STREAM),
  );
  assert.deepEqual(rig.heard, [
    "b 200",
    "a unavailable: the server reset the stream (INTERNAL_ERROR)",
    "b truncated: the server reset the stream (CANCEL)",
    "returned /c",
  ]);
  await rig.close();
});

Deno.test("h2: GOAWAY sends back what was not looked at, and lets the rest finish", async () => {
  const rig = await Rig.ready();
  rig.start("a");
  rig.start("b");
  await rig.feed(h2.numbersFrame(h2.GOAWAY, 0, 1, 0));
  assert.deepEqual(rig.heard, ["returned /b"]);
  assert.equal(rig.connection.room, 0);
  await rig.feed(head(1), data(1, "x", END));
  assert.deepEqual(rig.heard, ["returned /b", "a 200", "a x", "gone", "a end"]);
  await rig.connection.closed;
  assert.ok(rig.stream.closed);
});

Deno.test("h2: after a GOAWAY with an error, nobody waits for an answer that has not begun", async () => {
  const rig = await Rig.ready();
  rig.start("a");
  rig.start("b");
  rig.start("c");
  await rig.feed(head(1), h2.numbersFrame(h2.GOAWAY, 0, 3, h2.COMPRESSION_ERROR));
  const why = "the server closes the connection (COMPRESSION_ERROR)";
  assert.deepEqual(rig.heard, ["a 200", `b unavailable: ${why}`, "returned /c"]);
  await rig.feed(data(1, "x", END));
  assert.deepEqual(rig.heard.slice(3), ["a x", "gone", "a end"]);
  await rig.connection.closed;
});

Deno.test("h2: a server that wants a smaller table has it agreed to in the next head, once", async () => {
  for (
    const [tableBytes, beginnings] of [[0, [0x20, 0x83]], [4095, [0x20, 0x83]], [4096, [0x83, 0x83]]] as const
  ) {
    const rig = await Rig.ready([[1, tableBytes]]);
    rig.start("a");
    rig.start("b");
    const heads = (await rig.sent()).filter(({ type }) => type === h2.HEADERS);
    assert.deepEqual(heads.map(({ payload }) => payload[0]), beginnings, String(tableBytes));
    await rig.close();
  }
});

Deno.test("h2: the end of the connection ends every stream", async () => {
  const rig = await Rig.ready();
  rig.start("a");
  rig.start("b");
  await rig.feed(head(3));
  rig.stream.feed(null);
  await rig.connection.closed;
  assert.deepEqual(rig.heard, [
    "b 200",
    "gone",
    "a unavailable: the server closed the connection",
    "b truncated: the server closed the connection",
  ]);
});

Deno.test("h2: a PING is answered, a SETTINGS acknowledged", async () => {
  const rig = await Rig.ready();
  await rig.feed(h2.bytesFrame(h2.PING, 0, 0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8)));
  const [pong] = await rig.sent();
  assert.deepEqual([pong?.flags, [...pong?.payload ?? []]], [h2.FLAG_ACK, [1, 2, 3, 4, 5, 6, 7, 8]]);
  await rig.feed(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 7]]), h2.settingsFrame([]));
  const acknowledgements = await rig.sent();
  assert.deepEqual(acknowledgements.map(({ type, flags, id }) => [type, flags, id]), [
    [h2.SETTINGS, h2.FLAG_ACK, 0],
    [h2.SETTINGS, h2.FLAG_ACK, 0],
  ]);
  await rig.feed(h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, new Uint8Array(8)), SETTINGS_ACK);
  assert.deepEqual(await rig.sent(), []); // to an answer there is none
  await rig.close();
});

Deno.test("h2: silence is met with a ping, and a ping without an answer is death", async () => {
  const rig = await Rig.ready();
  const now = performance.now();
  rig.connection.tick(now + 5_000);
  assert.deepEqual(await rig.sent(), [], "nobody waits for anything");
  rig.start("a");
  await rig.sent();
  rig.connection.tick(now + 900);
  assert.deepEqual(await rig.sent(), []);
  rig.connection.tick(now + 5_000);
  assert.deepEqual(short(await rig.sent()), ["6/0:8"]);
  await rig.feed(h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, new Uint8Array(8)));
  rig.connection.tick(now + 6_000);
  assert.deepEqual(short(await rig.sent()), ["6/0:8"]);
  rig.connection.tick(now + 7_001); // a sum of fractions may be a little less
  assert.deepEqual(rig.heard, ["gone", "a unavailable: no answer to a ping within 1000 ms"]);
  await rig.connection.closed;
});

Deno.test("h2: an answer in HTTP/1 is known as such, and nothing was asked", async () => {
  const rig = new Rig();
  const answer = assert.rejects(rig.connection.ready, NotHttp2Error);
  rig.stream.feed(encoder.encode("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await answer;
  await rig.connection.closed;
});

/** By an error of the protocol, or the code that is given. */
const VIOLATIONS: readonly [name: string, frame: Uint8Array, message: string, code?: number][] = [
  [
    "a frame that is too long",
    Uint8Array.of(0, 0x40, 1, 0, 0, 0, 0, 0, 1),
    "a frame of 16385 bytes",
    h2.FRAME_SIZE_ERROR,
  ],
  ["a frame on a stream that never was", data(9, "x"), "a frame on stream 9, which was never opened"],
  ["a frame on a stream of the server's", head(2), "a frame on stream 2, which was never opened"],
  [
    "PUSH_PROMISE",
    h2.bytesFrame(h2.PUSH_PROMISE, 4, 1, new Uint8Array(5)),
    "PUSH_PROMISE, though push is off",
  ],
  [
    "CONTINUATION without HEADERS",
    h2.bytesFrame(h2.CONTINUATION, 4, 1, new Uint8Array(1)),
    "CONTINUATION without HEADERS",
  ],
  [
    "PING of a wrong length",
    h2.bytesFrame(h2.PING, 0, 0, new Uint8Array(7)),
    "PING of a wrong length",
    h2.FRAME_SIZE_ERROR,
  ],
  [
    "SETTINGS of a wrong length",
    h2.bytesFrame(h2.SETTINGS, 0, 0, new Uint8Array(5)),
    "SETTINGS of a wrong length",
    h2.FRAME_SIZE_ERROR,
  ],
  [
    "RST_STREAM of a wrong length",
    h2.bytesFrame(h2.RST_STREAM, 0, 1, new Uint8Array(5)),
    "RST_STREAM of a wrong length",
    h2.FRAME_SIZE_ERROR,
  ],
  [
    "GOAWAY of a wrong length",
    h2.bytesFrame(h2.GOAWAY, 0, 0, new Uint8Array(5)),
    "GOAWAY of a wrong length",
    h2.FRAME_SIZE_ERROR,
  ],
  ["a window of no bytes", h2.numbersFrame(h2.WINDOW_UPDATE, 0, 0), "WINDOW_UPDATE by nothing"],
  [
    "a window beyond the bound",
    h2.numbersFrame(h2.WINDOW_UPDATE, 0, h2.MAX_WINDOW_BYTES),
    "a window update beyond the bound",
    h2.FLOW_CONTROL_ERROR,
  ],
  [
    "padding longer than its frame",
    h2.bytesFrame(h2.DATA, h2.FLAG_PADDED, 1, Uint8Array.of(5, 1)),
    "padding longer than its frame",
  ],
  [
    "a maximum frame below the least",
    h2.settingsFrame([[h2.SETTINGS_MAX_FRAME_SIZE, 100]]),
    "a maximum frame of 100 bytes",
  ],
  [
    "padding as long as its frame",
    h2.bytesFrame(h2.DATA, h2.FLAG_PADDED, 1, Uint8Array.of(1)),
    "padding longer than its frame",
  ],
  ["PING on a stream", h2.bytesFrame(h2.PING, 0, 1, new Uint8Array(8)), "PING on a stream"],
  ["GOAWAY on a stream", h2.bytesFrame(h2.GOAWAY, 0, 1, new Uint8Array(8)), "GOAWAY on a stream"],
  ["SETTINGS on a stream", h2.bytesFrame(h2.SETTINGS, 0, 1, new Uint8Array(0)), "SETTINGS on a stream"],
  ["DATA on no stream", data(0, "x"), "DATA on stream 0"],
  ["HEADERS on no stream", head(0), "HEADERS on stream 0"],
  ["RST_STREAM on no stream", h2.numbersFrame(h2.RST_STREAM, 0, 0), "RST_STREAM on stream 0"],
  [
    "an acknowledgement with a payload",
    h2.bytesFrame(h2.SETTINGS, h2.FLAG_ACK, 0, new Uint8Array(6)),
    "an acknowledgement of SETTINGS with a payload",
    h2.FRAME_SIZE_ERROR,
  ],
  [
    "push that a server enables",
    h2.settingsFrame([[h2.SETTINGS_ENABLE_PUSH, 1]]),
    "ENABLE_PUSH of 1 from a server",
  ],
  [
    "a first window beyond the bound",
    h2.settingsFrame([[h2.SETTINGS_INITIAL_WINDOW_SIZE, 2 ** 31]]),
    "a first window of 2147483648 bytes",
    h2.FLOW_CONTROL_ERROR,
  ],
  [
    "a head that is interrupted",
    joined(h2.bytesFrame(h2.HEADERS, 0, 1, new Uint8Array(1)), SETTINGS_ACK),
    "a head is interrupted",
  ],
  [
    "a head of frames without end",
    joined(
      h2.bytesFrame(h2.HEADERS, 0, 1, new Uint8Array(0)),
      ...Array.from({ length: 129 }, () => h2.bytesFrame(h2.CONTINUATION, 0, 1, new Uint8Array(0))),
    ),
    "a head of 129 frames",
    h2.ENHANCE_YOUR_CALM,
  ],
  [
    "a head of bytes without end",
    joined(
      h2.bytesFrame(h2.HEADERS, 0, 1, new Uint8Array(0)),
      ...Array.from({ length: 65 }, () => h2.bytesFrame(h2.CONTINUATION, 0, 1, new Uint8Array(16_384))),
    ),
    "a head of more than 1048576 bytes",
    h2.ENHANCE_YOUR_CALM,
  ],
  [
    "a head that is no HPACK",
    h2.bytesFrame(h2.HEADERS, 4, 1, Uint8Array.of(0x80)),
    "a head with index 0 is not in the table",
    h2.COMPRESSION_ERROR,
  ],
];
for (const [name, frame, message, code = h2.PROTOCOL_ERROR] of VIOLATIONS) {
  Deno.test(`h2: ${name} ends the connection with a clear error`, async () => {
    const rig = await Rig.ready();
    rig.start("a");
    await rig.sent();
    await rig.feed(frame);
    await rig.connection.closed;
    assert.deepEqual(rig.heard, ["gone", `a malformed: HTTP/2: ${message}`]);
    const [goaway, ...more] = await rig.sent();
    assert.ok(goaway !== undefined && more.length === 0);
    assert.deepEqual([goaway.type, h2.uint32(goaway.payload, 4)], [h2.GOAWAY, code]);
    assert.ok(rig.stream.closed);
  });
}

Deno.test("h2: a first frame that is no SETTINGS", async () => {
  const rig = new Rig();
  const answer = assert.rejects(rig.connection.ready, /does not begin with SETTINGS/);
  rig.stream.feed(h2.bytesFrame(h2.PING, 0, 0, new Uint8Array(8)));
  await answer;
  await rig.connection.closed;
});

const LENGTH_3: Field[] = [[":status", "200"], ["content-length", "3"]];
/** By an error of the protocol, or the code that is given. */
const STREAM_ERRORS: readonly [name: string, frame: Uint8Array, message: string, code?: number][] = [
  ["data before the head", data(1, "x"), "data before the head"],
  ["a head without a status", head(1, [["a", "b"]]), "no :status"],
  ["a status that is none", head(1, [[":status", "99x"]]), 'the status "99x"'],
  ["a switch of protocols", head(1, [[":status", "101"]]), 'the status "101"'],
  ["a second status", head(1, [[":status", "200"], [":status", "200"]]), "a second :status"],
  ["a status after a field", head(1, [["a", "b"], [":status", "200"]]), "a pseudo-field after a field"],
  ["an unknown pseudo-field", head(1, [[":status", "200"], [":a", "b"]]), "an unknown pseudo-field"],
  [
    "a name in capital letters",
    head(1, [[":status", "200"], ["Aa", "b"]]),
    "a name that is none, or not in lower case",
  ],
  [
    "a field of HTTP/1.1",
    head(1, [[":status", "200"], ["connection", "close"]]),
    "the field connection, which is HTTP/1.1's",
  ],
  ["two lengths", head(1, [...LENGTH_3, ["content-length", "4"]]), 'the content length "4"'],
  [
    "a length that is none",
    head(1, [[":status", "200"], ["content-length", "-1"]]),
    'the content length "-1"',
  ],
  ["an end after 1xx", head(1, [[":status", "103"]], h2.FLAG_END_HEADERS | END), "an end after status 103"],
  ["a window of no bytes", h2.numbersFrame(h2.WINDOW_UPDATE, 1, 0), "WINDOW_UPDATE by nothing"],
  [
    "a window beyond the bound",
    h2.numbersFrame(h2.WINDOW_UPDATE, 1, h2.MAX_WINDOW_BYTES),
    "a window update beyond the bound",
    h2.FLOW_CONTROL_ERROR,
  ],
  [
    "heads of 1xx without end",
    joined(...Array.from({ length: 33 }, () => head(1, [[":status", "103"]]))),
    "more than 32 heads of 1xx",
    h2.ENHANCE_YOUR_CALM,
  ],
  [
    "a head that is too long",
    joined(
      h2.bytesFrame(h2.HEADERS, 0, 1, new Uint8Array(1)),
      ...[0, 0, 0, h2.FLAG_END_HEADERS].map((flags) =>
        h2.bytesFrame(h2.CONTINUATION, flags, 1, new Uint8Array(16_384))
      ),
    ),
    "a head of more than 65536 bytes",
    h2.ENHANCE_YOUR_CALM,
  ],
];
for (const [name, frame, message, code = h2.PROTOCOL_ERROR] of STREAM_ERRORS) {
  Deno.test(`h2: ${name} ends its stream only`, async () => {
    const rig = await Rig.ready();
    rig.start("a");
    rig.start("b");
    await rig.sent();
    await rig.feed(frame, head(3), data(3, "ok", END));
    assert.deepEqual(rig.heard, [`a malformed: HTTP/2: ${message}`, "b 200", "b ok", "b end"]);
    assert.deepEqual(short(await rig.sent()), [`3/1:${code}`]);
    await rig.close();
  });
}

for (
  const [name, frames, heard] of [
    ["less data than its length", [data(1, "ab", END)], ["a ab", "less data than its content length"]],
    ["trailers before its length", [head(1, [["a", "b"]], h2.FLAG_END_HEADERS | END)], [
      "less data than its content length",
    ]],
    ["more data than its length", [data(1, "ab"), data(1, "cd")], [
      "a ab",
      "more data than its content length",
    ]],
    ["a second head", [head(1)], ["a second head"]],
  ] as const
) {
  Deno.test(`h2: an answer with ${name} ends its stream only`, async () => {
    const rig = await Rig.ready();
    rig.start("a");
    await rig.feed(head(1, LENGTH_3));
    await rig.sent();
    await rig.feed(...frames);
    assert.deepEqual(rig.heard.slice(1), [
      ...heard.slice(0, -1),
      `a malformed: HTTP/2: ${heard.at(-1)}`,
    ]);
    assert.deepEqual(short(await rig.sent()), ["3/1:1"]);
    assert.ok(!rig.stream.closed);
    await rig.close();
  });
}

Deno.test("h2: an answer before the whole request ends the request", async () => {
  const rig = await Rig.ready([[h2.SETTINGS_INITIAL_WINDOW_SIZE, 10]]);
  rig.start("a", "x".repeat(100));
  await rig.sent();
  await rig.feed(head(1, [[":status", "413"]], h2.FLAG_END_HEADERS | END));
  assert.deepEqual(rig.heard, ["a 413", "a end"]);
  assert.deepEqual(short(await rig.sent()), ["3/1:0"]);
  await rig.close();
});

Deno.test("h2: bodies that wait for a slow server are no unread replies, and are queued no further than they go out", async () => {
  const rig = await Rig.ready([[h2.SETTINGS_INITIAL_WINDOW_SIZE, 200_000]]);
  await rig.feed(h2.numbersFrame(h2.WINDOW_UPDATE, 0, 99 * 120_000));
  await rig.sent();
  rig.stream.stuck = true;
  for (let i = 0; i < 99; i++) rig.start(`${i}`, "x".repeat(120_000));
  await rig.feed(h2.bytesFrame(h2.PING, 0, 0, new Uint8Array(8)));
  assert.deepEqual(rig.heard, []);
  rig.stream.release();
  const frames: Frame[] = [];
  const bodyBytes = (): number =>
    frames.filter(({ type }) => type === h2.DATA).reduce((sum, { payload }) => sum + payload.length, 0);
  await until("all of the bodies", async () => {
    frames.push(...await rig.sent());
    return bodyBytes() >= 99 * 120_000;
  });
  const pong = frames.findIndex(({ type }) => type === h2.PING);
  const before = frames.slice(0, pong).reduce((sum, { payload }) => sum + payload.length, 0);
  assert.ok(pong >= 0 && before < 300_000, `${before} bytes before the answer to the PING`);
  // A piece of each in turn: none waits for all that came before it.
  const order = frames.filter(({ type }) => type === h2.DATA).map(({ id }) => id);
  assert.ok(order.indexOf(197) < order.lastIndexOf(5), "the last begins before the third is through");
  await rig.close();
});

Deno.test("h2: a consumer that throws ends its own exchange only", async () => {
  const rig = await Rig.ready();
  const failures: string[] = [];
  const bad = (how: "head" | "data" | "end"): void => {
    const act = (now: string) => (): void => {
      if (now === how) throw new Error(`a bug at the ${how}`);
    };
    const head = { method: "POST", url: new URL("http://h/"), headers: [] };
    const request = { head, headers: [], body: new Uint8Array(0) };
    rig.connection.start(
      new Exchange(request, {
        head: act("head"),
        data: act("data"),
        end: act("end"),
        fail: (error) => failures.push(`${error.kind}: ${error.message}`),
      }),
    );
  };
  for (const how of ["head", "data", "end"] as const) bad(how);
  rig.start("b");
  await rig.sent();
  await rig.feed(...[1, 3, 5, 7].flatMap((id) => [head(id), data(id, "x", END)]));
  assert.deepEqual(
    failures,
    ["head", "data", "end"].map((how) => `other: the answer cannot be used: Error: a bug at the ${how}`),
  );
  assert.deepEqual(rig.heard, ["b 200", "b x", "b end"]);
  assert.deepEqual(short(await rig.sent()), ["3/1:8", "3/3:8"]);
  await rig.close();
});

Deno.test("h2: nothing of a request is kept beyond its head", async () => {
  const rig = await Rig.ready();
  const exchange = rig.start("a", "x".repeat(60_000));
  assert.ok(exchange.request !== null);
  await rig.feed(head(1));
  assert.equal(exchange.request, null);
  await rig.close();
});

Deno.test("h2: a server that asks for replies and reads none is left", async () => {
  const rig = await Rig.ready();
  rig.start("a");
  await rig.sent();
  rig.stream.stuck = true;
  const pings = new Uint8Array(17 * 3_000);
  for (let at = 0; at < pings.length; at += 17) h2.writeHead(pings, at, 8, h2.PING, 0, 0);
  for (let i = 0; i < 30 && rig.heard.length === 0; i++) await rig.feed(pings);
  assert.match(rig.heard.at(-1) ?? "", /reads no replies/);
});

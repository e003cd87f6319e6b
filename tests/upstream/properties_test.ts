/**
 * What holds for any input of the pure readers: what is encoded is decoded, bytes cut anywhere say the same, and
 * arbitrary bytes bring about no error but the ones that a reader documents.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import { H1Parser } from "../../src/upstream/h1/parser.ts";
import { type FrameListener, FrameReader } from "../../src/upstream/h2/frame_reader.ts";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { encodeHead } from "../../src/upstream/h2/hpack.ts";
import { SseParser } from "../../src/upstream/sse_parser.ts";
import { TARGETS } from "../fuzz/targets.ts";
import { decodeFields } from "../support/decode_fields.ts";
import { randomCuts, randomInts } from "../support/random.ts";

const bytes = (maxLength: number): fc.Arbitrary<Uint8Array> => fc.uint8Array({ maxLength });
const seed = fc.nat(0x7fffffff);
const streamId = fc.nat(100).map((n) => 2 * n + 1);
const u31 = fc.integer({ min: 1, max: h2.MAX_WINDOW_BYTES });
const u32 = fc.integer({ min: 0, max: 0xffffffff });

/** A frame, and what its reader says of it. */
type Framed = readonly [frame: Uint8Array, words: string];

const data = fc.tuple(streamId, bytes(300), fc.option(fc.nat(40)), fc.boolean()).map(
  ([id, payload, padding, end]): Framed => {
    const flags = (end ? h2.FLAG_END_STREAM : 0) | (padding === null ? 0 : h2.FLAG_PADDED);
    const whole = padding === null ? payload : Uint8Array.of(padding, ...payload, ...new Uint8Array(padding));
    return [h2.bytesFrame(h2.DATA, flags, id, whole), `data ${id} ${payload} ${whole.length} ${end}`];
  },
);
const head = fc.tuple(streamId, bytes(200), fc.array(fc.nat(200), { maxLength: 4 }), fc.boolean()).map(
  ([id, block, cuts, end]): Framed => {
    const edges = [0, ...cuts.map((cut) => Math.min(cut, block.length)).sort((a, b) => a - b), block.length];
    const parts = edges.slice(1).map((to, i) => block.subarray(edges[i], to));
    const frames = parts.map((part, i) => {
      const flags = (i === 0 && end ? h2.FLAG_END_STREAM : 0) |
        (i === parts.length - 1 ? h2.FLAG_END_HEADERS : 0);
      return h2.bytesFrame(i === 0 ? h2.HEADERS : h2.CONTINUATION, flags, id, part);
    });
    return [Uint8Array.from(frames.flatMap((frame) => [...frame])), `head ${id} ${block} ${end}`];
  },
);
const other = fc.oneof(
  fc.tuple(streamId, u32).map(([id, code]): Framed => [
    h2.numbersFrame(h2.RST_STREAM, id, code),
    `reset ${id} ${code}`,
  ]),
  fc.tuple(fc.oneof(fc.constant(0), streamId), u31).map(([id, more]): Framed => [
    h2.numbersFrame(h2.WINDOW_UPDATE, id, more),
    `window ${id} ${more}`,
  ]),
  fc.tuple(fc.uint8Array({ minLength: 8, maxLength: 8 }), fc.boolean()).map(([payload, ack]): Framed => [
    h2.bytesFrame(h2.PING, ack ? h2.FLAG_ACK : 0, 0, payload),
    `ping ${payload} ${ack}`,
  ]),
  fc.tuple(u31, u32).map(([id, code]): Framed => [
    h2.numbersFrame(h2.GOAWAY, 0, id, code),
    `goaway ${id} ${code} `,
  ]),
  u32.map((value): Framed => [
    h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, value]]),
    `setting ${h2.SETTINGS_MAX_CONCURRENT_STREAMS} ${value}|settings`,
  ]),
  // Section 5.5: of an unknown type.
  fc.tuple(fc.integer({ min: 10, max: 255 }), streamId, bytes(50)).map(([type, id, payload]): Framed => [
    h2.bytesFrame(type, 0xff, id, payload),
    "",
  ]),
);

/** Says in words what it hears. */
function frameListener(words: string[]): FrameListener {
  return {
    onData: (id, payload, flowBytes, end) => words.push(`data ${id} ${payload} ${flowBytes} ${end}`),
    onHead: (id, block, end) => words.push(`head ${id} ${block} ${end}`),
    onReset: (id, code) => words.push(`reset ${id} ${code}`),
    onSetting: (setting, value) => words.push(`setting ${setting} ${value}`),
    onSettingsEnd: () => words.push("settings"),
    onPing: (payload, ack) => words.push(`ping ${payload} ${ack}`),
    onGoaway: (id, code, text) => words.push(`goaway ${id} ${code} ${text}`),
    onWindow: (id, increment) => words.push(`window ${id} ${increment}`),
    onStreamViolation: (id, code, what) => words.push(`violation ${id} ${code} ${what}`),
  };
}

Deno.test("properties: any frames, cut anywhere, are read as they were written", () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(data, head, other), { maxLength: 20 }), seed, (framed, cuts) => {
      const stream = [...h2.settingsFrame([]), ...framed.flatMap(([frame]) => [...frame])];
      const words: string[] = [];
      const reader = new FrameReader(frameListener(words));
      let have: number[] = [];
      for (const piece of randomCuts(Uint8Array.from(stream), randomInts(cuts))) {
        have.push(...piece);
        have = have.slice(reader.read(Uint8Array.from(have)));
      }
      assert.deepEqual(have, []);
      const expected = framed.flatMap(([, said]) => said === "" ? [] : said.split("|"));
      assert.deepEqual(words, ["settings", ...expected]);
    }),
  );
});

Deno.test("properties: any fields that are encoded with HPACK are decoded", () => {
  const name = fc.oneof(
    fc.constantFrom(":status", ":path", "content-type", "authorization", "accept-encoding"),
    fc.stringMatching(/^[a-z0-9-]{1,30}$/),
  );
  const value = fc.oneof(
    fc.constantFrom("200", "/", "gzip, deflate"),
    bytes(300).map((all) => String.fromCharCode(...all)),
  );
  fc.assert(fc.property(fc.array(fc.tuple(name, value), { maxLength: 40 }), (fields) => {
    assert.deepEqual(decodeFields(encodeHead(fields)), fields);
  }));
});

Deno.test("properties: any body in any chunks, cut anywhere, is read from HTTP/1.1 as it was written", () => {
  const chunk = fc.tuple(
    fc.uint8Array({ minLength: 1, maxLength: 200 }),
    fc.constantFrom("", ";a", ';a="b"', " "),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 12 }), seed, (chunks, cuts) => {
      const text = (each: string): number[] => [...new TextEncoder().encode(each)];
      const stream = Uint8Array.from([
        ...text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ...chunks.flatMap(([part, extension]) => [
          ...text(`${part.length.toString(16)}${extension}\r\n`),
          ...part,
          ...text("\r\n"),
        ]),
        ...text("0\r\n\r\n"),
      ]);
      const body: number[] = [];
      let [heads, ends] = [0, 0];
      const parser = new H1Parser({
        h1Head: () => heads++,
        h1Data: (part) => body.push(...part),
        h1End: () => ends++,
      });
      for (const piece of randomCuts(stream, randomInts(cuts))) {
        assert.equal(parser.push(piece), piece.length);
      }
      assert.deepEqual([heads, ends], [1, 1]);
      assert.deepEqual(body, chunks.flatMap(([part]) => [...part]));
    }),
  );
});

Deno.test("properties: any events, cut anywhere, are read from an event stream as they were written", () => {
  const line = fc.string({ unit: "grapheme", maxLength: 60 }).map((text) => text.replace(/[\r\n]/g, ""));
  const event = fc.record({
    lines: fc.array(line, { minLength: 1, maxLength: 3 }),
    name: fc.oneof(fc.constant(""), fc.stringMatching(/^[a-z]{1,8}$/)),
    comment: fc.boolean(),
    end: fc.constantFrom("\n", "\r\n", "\r"),
  });
  fc.assert(
    fc.property(fc.array(event, { maxLength: 10 }), seed, (events, cuts) => {
      const stream = events.map(({ lines, name, comment, end }) =>
        [
          ...(comment ? [": still here"] : []),
          ...(name === "" ? [] : [`event: ${name}`]),
          ...lines.map((each) => `data: ${each}`),
          "",
          "",
        ].join(end)
      ).join("");
      const heard: string[][] = [];
      const parser = new SseParser(
        { sse: (said, name) => heard.push([said, name]), sseTooLong: () => assert.fail() },
        100_000,
      );
      for (const piece of randomCuts(new TextEncoder().encode(stream), randomInts(cuts))) parser.push(piece);
      assert.deepEqual(heard, events.map(({ lines, name }) => [lines.join("\n").toWellFormed(), name]));
    }),
  );
});

for (const [name, target] of Object.entries(TARGETS)) {
  Deno.test(`properties: arbitrary bytes bring no surprise to ${name}`, async () => {
    await fc.assert(
      fc.asyncProperty(bytes(600), seed, async (input, cuts) => {
        await target.run(input, randomInts(cuts));
      }),
    );
  });
}

import assert from "node:assert/strict";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { requestFrames } from "../../src/upstream/h2/request_frames.ts";
import { decodeFields } from "../support/decode_fields.ts";

const HEADERS = 1;
const CONTINUATION = 9;
const END_STREAM = 1;
const END_HEADERS = 4;

const head = { method: "POST", url: new URL("http://h/x"), headers: [] };
const long = "0aZ~".repeat(10_000);

/** @returns each frame's type, flags, stream and length, and the block that they carry together */
function sent(bodyBytes: number, maxFrameBytes: number): [frames: number[][], block: Uint8Array] {
  const request = { head, headers: [["x-long", long] as const], body: new Uint8Array(bodyBytes) };
  const frames = requestFrames(5, request, maxFrameBytes, false);
  for (const frame of frames) assert.equal(h2.uint32(frame, 0) >>> 8, frame.length - 9);
  return [
    frames.map((frame) => [frame[3] ?? 0, frame[4] ?? 0, h2.uint32(frame, 5), frame.length - 9]),
    Uint8Array.from(frames.flatMap((frame) => [...frame.subarray(9)])),
  ];
}

Deno.test("request frames: a head that is longer than a frame goes on in CONTINUATION", () => {
  for (const [bodyBytes, flags] of [[0, END_STREAM], [10, 0]] as const) {
    const [frames, block] = sent(bodyBytes, 16_384);
    assert.ok(block.length > 32_768 && block.length < 49_152);
    assert.deepEqual(frames, [
      [HEADERS, flags, 5, 16_384],
      [CONTINUATION, 0, 5, 16_384],
      [CONTINUATION, END_HEADERS, 5, block.length - 32_768],
    ]);
    assert.deepEqual(decodeFields(block), [
      [":method", "POST"],
      [":scheme", "http"],
      [":authority", "h"],
      [":path", "/x"],
      ["x-long", long],
      ["content-length", `${bodyBytes}`],
    ]);
    // And one that just fits is one frame, with nothing empty behind it.
    assert.deepEqual(sent(bodyBytes, block.length)[0], [[HEADERS, flags | END_HEADERS, 5, block.length]]);
  }
});

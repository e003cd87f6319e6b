import assert from "node:assert/strict";
import { FrameReader } from "../../src/upstream/h2/frame_reader.ts";
import * as h2 from "../../src/upstream/h2/frames.ts";

// The stand-ins for servers take these from the same place, and would not notice a wrong one.
Deno.test("frames: the numbers of RFC 9113", () => {
  assert.deepEqual(Object.fromEntries(Object.entries(h2).filter(([, value]) => typeof value === "number")), {
    DATA: 0,
    HEADERS: 1,
    PRIORITY: 2,
    RST_STREAM: 3,
    SETTINGS: 4,
    PUSH_PROMISE: 5,
    PING: 6,
    GOAWAY: 7,
    WINDOW_UPDATE: 8,
    CONTINUATION: 9,
    FLAG_END_STREAM: 1,
    FLAG_ACK: 1,
    FLAG_END_HEADERS: 4,
    FLAG_PADDED: 8,
    FLAG_PRIORITY: 32,
    SETTINGS_HEADER_TABLE_SIZE: 1,
    SETTINGS_ENABLE_PUSH: 2,
    SETTINGS_MAX_CONCURRENT_STREAMS: 3,
    SETTINGS_INITIAL_WINDOW_SIZE: 4,
    SETTINGS_MAX_FRAME_SIZE: 5,
    SETTINGS_MAX_HEADER_LIST_SIZE: 6,
    NO_ERROR: 0,
    PROTOCOL_ERROR: 1,
    FLOW_CONTROL_ERROR: 3,
    STREAM_CLOSED: 5,
    FRAME_SIZE_ERROR: 6,
    REFUSED_STREAM: 7,
    CANCEL: 8,
    COMPRESSION_ERROR: 9,
    ENHANCE_YOUR_CALM: 11,
    HEAD_BYTES: 9,
    HTTP_1_1_REQUIRED: 13,
    MAX_FRAME_BYTES: 16_384,
    DEFAULT_WINDOW_BYTES: 65_535,
    DEFAULT_TABLE_BYTES: 4_096,
    MAX_WINDOW_BYTES: 2_147_483_647,
  });
});

Deno.test("frames: errors have the names of RFC 9113, unknown ones their number", () => {
  assert.deepEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14].map(h2.errorName), [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
    "error 14",
  ]);
});

Deno.test("frames: bytes as they go out", () => {
  assert.deepEqual([...h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8))], [
    ...[0, 0, 8, 6, 1, 0, 0, 0, 0],
    ...[1, 2, 3, 4, 5, 6, 7, 8],
  ]);
  assert.deepEqual([...h2.settingsFrame([[h2.SETTINGS_INITIAL_WINDOW_SIZE, 65_536]])], [
    ...[0, 0, 6, 4, 0, 0, 0, 0, 0],
    ...[0, 4, 0, 1, 0, 0],
  ]);
  assert.deepEqual([...h2.numbersFrame(h2.RST_STREAM, 0x01020304, h2.CANCEL)], [
    ...[0, 0, 4, 3, 0, 1, 2, 3, 4],
    ...[0, 0, 0, 8],
  ]);
});

Deno.test("frames: the bound on the frames of a head is for each head anew", () => {
  let heads = 0;
  const ignore = (): void => {};
  const reader = new FrameReader({
    onData: ignore,
    onHead: () => heads++,
    onReset: ignore,
    onSetting: ignore,
    onSettingsEnd: ignore,
    onPing: ignore,
    onGoaway: ignore,
    onWindow: ignore,
    onStreamViolation: ignore,
  });
  reader.read(h2.settingsFrame([]));
  for (let id = 1; id < 7; id += 2) {
    reader.read(h2.bytesFrame(h2.HEADERS, 0, id, new Uint8Array(1)));
    for (let at = 0; at < 99; at++) reader.read(h2.bytesFrame(h2.CONTINUATION, 0, id, new Uint8Array(1)));
    reader.read(h2.bytesFrame(h2.CONTINUATION, h2.FLAG_END_HEADERS, id, new Uint8Array(1)));
  }
  assert.equal(heads, 3);
});

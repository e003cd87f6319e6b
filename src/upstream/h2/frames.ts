/**
 * HTTP/2 frames (RFC 9113, section 4 and 6): numbers, and bytes to send.
 * @module
 */

export const DATA = 0;
export const HEADERS = 1;
export const PRIORITY = 2;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PUSH_PROMISE = 5;
export const PING = 6;
export const GOAWAY = 7;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;

export const FLAG_END_STREAM = 0x1;
export const FLAG_ACK = 0x1;
export const FLAG_END_HEADERS = 0x4;
export const FLAG_PADDED = 0x8;
export const FLAG_PRIORITY = 0x20;

export const SETTINGS_HEADER_TABLE_SIZE = 1;
export const SETTINGS_ENABLE_PUSH = 2;
export const SETTINGS_MAX_CONCURRENT_STREAMS = 3;
export const SETTINGS_INITIAL_WINDOW_SIZE = 4;
export const SETTINGS_MAX_FRAME_SIZE = 5;
export const SETTINGS_MAX_HEADER_LIST_SIZE = 6;

export const NO_ERROR = 0;
export const PROTOCOL_ERROR = 1;
export const FLOW_CONTROL_ERROR = 3;
export const STREAM_CLOSED = 5;
export const FRAME_SIZE_ERROR = 6;
export const REFUSED_STREAM = 7;
export const CANCEL = 8;
export const COMPRESSION_ERROR = 9;
export const ENHANCE_YOUR_CALM = 11;
export const HTTP_1_1_REQUIRED = 13;

/** Section 7, by number. */
const ERROR_NAMES = [
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
];

/** What the server did that ends the connection (section 5.4.1), and the code that GOAWAY tells it with. */
export class ConnectionViolation extends Error {
  override readonly name = "ConnectionViolation";
  readonly code: number;
  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** Bytes of a frame's head. */
export const HEAD_BYTES = 9;
/** Section 6.5.2: the default and least SETTINGS_MAX_FRAME_SIZE, which is also what is announced. */
export const MAX_FRAME_BYTES = 16_384;
/** Section 6.9.2: the window of a stream and of a connection before anyone changes it. */
export const DEFAULT_WINDOW_BYTES = 65_535;
export const DEFAULT_TABLE_BYTES = 4_096;
/** Section 6.9.1: no window may grow beyond. */
export const MAX_WINDOW_BYTES = 0x7fffffff;

/** @returns the name of an error code, or its number */
export const errorName = (code: number): string => ERROR_NAMES[code] ?? `error ${code}`;

/** @returns 32 bits, in network order, from `at` on */
export function uint32(bytes: Uint8Array, at: number): number {
  return (((bytes[at] ?? 0) << 24) | ((bytes[at + 1] ?? 0) << 16) | ((bytes[at + 2] ?? 0) << 8) |
    (bytes[at + 3] ?? 0)) >>> 0;
}

/** Writes a frame's head of 9 bytes into `out`. */
export function writeHead(
  out: Uint8Array,
  at: number,
  length: number,
  type: number,
  flags: number,
  stream: number,
): void {
  out[at] = length >>> 16;
  out[at + 1] = length >>> 8;
  out[at + 2] = length;
  out[at + 3] = type;
  out[at + 4] = flags;
  putUint32(out, at + 5, stream);
}

/** A frame whose payload is 32-bit numbers: RST_STREAM, WINDOW_UPDATE, GOAWAY without text. */
export function numbersFrame(type: number, stream: number, ...numbers: number[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(HEAD_BYTES + 4 * numbers.length);
  writeHead(out, 0, 4 * numbers.length, type, 0, stream);
  for (const [i, number] of numbers.entries()) putUint32(out, HEAD_BYTES + 4 * i, number);
  return out;
}

/** The beginning of a frame whose bytes are written after it. */
export function frameHead(
  type: number,
  flags: number,
  stream: number,
  bytes: number,
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(HEAD_BYTES);
  writeHead(out, 0, bytes, type, flags, stream);
  return out;
}

/** A frame around bytes. */
export function bytesFrame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(HEAD_BYTES + payload.length);
  writeHead(out, 0, payload.length, type, flags, stream);
  out.set(payload, HEAD_BYTES);
  return out;
}

/** SETTINGS with the given identifiers and values (section 6.5.1). */
export function settingsFrame(
  settings: readonly (readonly [id: number, value: number])[],
): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(HEAD_BYTES + 6 * settings.length);
  writeHead(out, 0, 6 * settings.length, SETTINGS, 0, 0);
  for (const [i, [id, value]] of settings.entries()) {
    out[HEAD_BYTES + 6 * i + 1] = id;
    putUint32(out, HEAD_BYTES + 6 * i + 2, value);
  }
  return out;
}

function putUint32(out: Uint8Array, at: number, value: number): void {
  out[at] = value >>> 24;
  out[at + 1] = value >>> 16;
  out[at + 2] = value >>> 8;
  out[at + 3] = value;
}

/**
 * Frames out of bytes (RFC 9113, section 4 and 6): lengths, stream ids, padding, and heads that go on in
 * CONTINUATION. It knows no stream and no window. Pure: no I/O.
 * @module
 */

import * as h2 from "./frames.ts";

/** A compressed head that is longer is not kept. */
export const MAX_BLOCK_BYTES = 65_536;
/** A head that still goes on after so many bytes, or frames, is an attack on the connection. */
const MAX_DROPPED_BYTES = 1_048_576;
const MAX_CONTINUATIONS = 128;

const EMPTY = new Uint8Array(0);

/** What a frame says. Arrays are valid during the call only. */
export interface FrameListener {
  /** @param flowBytes what counts against the windows: the payload with its padding */
  onData(id: number, payload: Uint8Array, flowBytes: number, endStream: boolean): void;
  /** @param block the whole compressed head; null where it is longer than {@linkcode MAX_BLOCK_BYTES} */
  onHead(id: number, block: Uint8Array | null, endStream: boolean): void;
  onReset(id: number, code: number): void;
  /** One setting of a SETTINGS frame, within the bounds of section 6.5.2. */
  onSetting(setting: number, value: number): void;
  /** All of a SETTINGS frame has been told. */
  onSettingsEnd(): void;
  onPing(payload: Uint8Array, ack: boolean): void;
  onGoaway(lastId: number, code: number, text: Uint8Array): void;
  /** @param id 0 for the connection */
  onWindow(id: number, increment: number): void;
  /** A frame that ends its stream with a code (section 5.4.2). */
  onStreamViolation(id: number, code: number, what: string): void;
}

/** One connection's reader. */
export class FrameReader {
  readonly #listener: FrameListener;
  #begun = false;
  #stopped = false;
  /** The head that CONTINUATION goes on with; id 0: none. */
  #headId = 0;
  #headEndsStream = false;
  #block: Uint8Array = EMPTY;
  #blockBytes = 0;
  #continuations = 0;

  constructor(listener: FrameListener) {
    this.#listener = listener;
  }

  /** Nothing more is told, not even of the bytes under way. */
  stop(): void {
    this.#stopped = true;
    this.#block = EMPTY;
  }

  /**
   * @param bytes from the first that was not taken the last time
   * @returns how many of them were whole frames
   * @throws ConnectionViolation
   */
  read(bytes: Uint8Array): number {
    let at = 0;
    while (bytes.length - at >= h2.HEAD_BYTES && !this.#stopped) {
      const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
      if (length > h2.MAX_FRAME_BYTES) throw frameSize(`a frame of ${length} bytes`);
      const end = at + h2.HEAD_BYTES + length;
      if (end > bytes.length) break;
      const type = bytes[at + 3] ?? 0;
      const flags = bytes[at + 4] ?? 0;
      const id = h2.uint32(bytes, at + 5) & h2.MAX_WINDOW_BYTES;
      const start = at + h2.HEAD_BYTES;
      at = end;
      // GOAWAY says more than the violation that it is here.
      if (!this.#begun && type !== h2.GOAWAY) {
        if (type !== h2.SETTINGS || (flags & h2.FLAG_ACK) !== 0) {
          throw protocol("the server does not begin with SETTINGS");
        }
        this.#begun = true;
      }
      if (this.#headId !== 0 && (type !== h2.CONTINUATION || id !== this.#headId)) {
        throw protocol("a head is interrupted");
      }
      this.#frame(type, flags, id, bytes, start, end);
    }
    return at;
  }

  #frame(type: number, flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    const length = end - start;
    switch (type) {
      case h2.DATA: {
        if (id === 0) throw protocol("DATA on stream 0");
        let to = end;
        if ((flags & h2.FLAG_PADDED) !== 0) to -= padding(bytes, start++, end);
        const endStream = (flags & h2.FLAG_END_STREAM) !== 0;
        return this.#listener.onData(id, bytes.subarray(start, to), length, endStream);
      }
      case h2.HEADERS:
        return this.#onHeaders(flags, id, bytes, start, end);
      case h2.CONTINUATION:
        if (this.#headId === 0) throw protocol("CONTINUATION without HEADERS");
        if (++this.#continuations > MAX_CONTINUATIONS) {
          throw new h2.ConnectionViolation(h2.ENHANCE_YOUR_CALM, `a head of ${this.#continuations} frames`);
        }
        return this.#onFragment((flags & h2.FLAG_END_HEADERS) !== 0, bytes, start, end);
      case h2.PRIORITY: // of no meaning any more (section 5.3.2)
        if (id === 0) throw protocol("PRIORITY on stream 0");
        if (length !== 5) {
          this.#listener.onStreamViolation(id, h2.FRAME_SIZE_ERROR, "PRIORITY of a wrong length");
        }
        return;
      case h2.RST_STREAM:
        if (id === 0) throw protocol("RST_STREAM on stream 0");
        if (length !== 4) throw frameSize("RST_STREAM of a wrong length");
        return this.#listener.onReset(id, h2.uint32(bytes, start));
      case h2.SETTINGS:
        return this.#onSettings(flags, id, bytes, start, end);
      case h2.PUSH_PROMISE:
        throw protocol("PUSH_PROMISE, though push is off");
      case h2.PING:
        if (id !== 0) throw protocol("PING on a stream");
        if (length !== 8) throw frameSize("PING of a wrong length");
        return this.#listener.onPing(bytes.subarray(start, end), (flags & h2.FLAG_ACK) !== 0);
      case h2.GOAWAY:
        if (id !== 0) throw protocol("GOAWAY on a stream");
        if (length < 8) throw frameSize("GOAWAY of a wrong length");
        return this.#listener.onGoaway(
          h2.uint32(bytes, start) & h2.MAX_WINDOW_BYTES,
          h2.uint32(bytes, start + 4),
          bytes.subarray(start + 8, end),
        );
      case h2.WINDOW_UPDATE: {
        if (length !== 4) throw frameSize("WINDOW_UPDATE of a wrong length");
        const increment = h2.uint32(bytes, start) & h2.MAX_WINDOW_BYTES;
        if (increment > 0) return this.#listener.onWindow(id, increment);
        if (id === 0) throw protocol("WINDOW_UPDATE by nothing");
        return this.#listener.onStreamViolation(id, h2.PROTOCOL_ERROR, "WINDOW_UPDATE by nothing");
      }
      default: // an unknown type (section 5.5)
    }
  }

  #onHeaders(flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if (id === 0) throw protocol("HEADERS on stream 0");
    if ((flags & h2.FLAG_PADDED) !== 0) end -= padding(bytes, start++, end);
    if ((flags & h2.FLAG_PRIORITY) !== 0) start += 5;
    if (start > end) throw frameSize("HEADERS that are too short");
    const endStream = (flags & h2.FLAG_END_STREAM) !== 0;
    if ((flags & h2.FLAG_END_HEADERS) !== 0) {
      return this.#listener.onHead(id, bytes.subarray(start, end), endStream);
    }
    this.#headId = id;
    this.#headEndsStream = endStream;
    this.#blockBytes = 0;
    this.#continuations = 0;
    this.#onFragment(false, bytes, start, end);
  }

  #onFragment(last: boolean, bytes: Uint8Array, start: number, end: number): void {
    const had = this.#blockBytes;
    this.#blockBytes += end - start;
    if (this.#blockBytes > MAX_DROPPED_BYTES) {
      throw new h2.ConnectionViolation(
        h2.ENHANCE_YOUR_CALM,
        `a head of more than ${MAX_DROPPED_BYTES} bytes`,
      );
    }
    if (this.#blockBytes <= MAX_BLOCK_BYTES) {
      if (this.#blockBytes > this.#block.length) {
        // Twice the need: fragments of a byte each are copied a logarithmic number of times.
        const larger = new Uint8Array(2 * this.#blockBytes);
        larger.set(this.#block.subarray(0, had));
        this.#block = larger;
      }
      this.#block.set(bytes.subarray(start, end), had);
    }
    if (!last) return;
    const block = this.#blockBytes > MAX_BLOCK_BYTES ? null : this.#block.subarray(0, this.#blockBytes);
    const id = this.#headId;
    this.#headId = 0;
    this.#block = EMPTY;
    this.#listener.onHead(id, block, this.#headEndsStream);
  }

  #onSettings(flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    if (id !== 0) throw protocol("SETTINGS on a stream");
    if ((flags & h2.FLAG_ACK) !== 0) {
      if (start !== end) throw frameSize("an acknowledgement of SETTINGS with a payload");
      return;
    }
    if ((end - start) % 6 !== 0) throw frameSize("SETTINGS of a wrong length");
    for (; start < end; start += 6) {
      const setting = ((bytes[start] ?? 0) << 8) | (bytes[start + 1] ?? 0);
      const value = h2.uint32(bytes, start + 2);
      if (setting === h2.SETTINGS_ENABLE_PUSH && value !== 0) {
        throw protocol(`ENABLE_PUSH of ${value} from a server`);
      }
      if (setting === h2.SETTINGS_INITIAL_WINDOW_SIZE && value > h2.MAX_WINDOW_BYTES) {
        throw new h2.ConnectionViolation(h2.FLOW_CONTROL_ERROR, `a first window of ${value} bytes`);
      }
      if (setting === h2.SETTINGS_MAX_FRAME_SIZE && (value < h2.MAX_FRAME_BYTES || value > 0xffffff)) {
        throw protocol(`a maximum frame of ${value} bytes`);
      }
      this.#listener.onSetting(setting, value);
    }
    this.#listener.onSettingsEnd();
  }
}

/** @returns how many bytes of padding end the frame, and of the field that says so */
function padding(bytes: Uint8Array, at: number, end: number): number {
  if (at === end) throw frameSize("a padded frame without the length of its padding");
  const length = bytes[at] ?? 0;
  if (length >= end - at) throw protocol("padding longer than its frame");
  return length;
}

const protocol = (what: string): h2.ConnectionViolation =>
  new h2.ConnectionViolation(h2.PROTOCOL_ERROR, what);
const frameSize = (what: string): h2.ConnectionViolation =>
  new h2.ConnectionViolation(h2.FRAME_SIZE_ERROR, what);

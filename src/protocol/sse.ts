/**
 * Server-Sent Events (WHATWG HTML, section 9.2): what a turn's frames are as bytes, and the stream around it. Pure.
 * @module
 */

/** Who a frame is for: the shim's number of the client. */
export interface FrameTarget {
  readonly id: number;
}

/** Bytes for one client, as text that is encoded already: SSE, or a response head. */
export interface Frame<Target extends FrameTarget> {
  readonly target: Target;
  readonly text: string;
  /** Whether the client's connection ends after it. */
  readonly end: boolean;
}

/** A turn's frames, encoded, an entry for each. The arrays belong to the encoder and are valid until the next batch. */
export interface Batch<Target extends FrameTarget> {
  readonly targets: Target[];
  /** Four words each: client, offset into `data`, length, flags (1: end). */
  readonly entries: Uint32Array<ArrayBuffer>;
  readonly count: number;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly dataBytes: number;
}

/** The last event of a stream that ended as it should. */
export const DONE_EVENT = "data: [DONE]\n\n";

/** The event of a piece of text. JSON leaves no CR, LF or NUL in it that could break the framing. */
export function textEvent(text: string): string {
  return `data: {"content":${JSON.stringify(text)}}\n\n`;
}

/** The event of a failure after the head. */
export function errorEvent(message: string): string {
  return `data: {"error":${JSON.stringify(message)}}\n\n`;
}

const ENTRY_WORDS = 4;
const END = 1;
const FIRST_DATA_BYTES = 64 * 1024;
const KEPT_DATA_BYTES = 1024 * 1024;

/** Encodes batch after batch into arrays that are used again. */
export class FrameEncoder<Target extends FrameTarget> {
  readonly #encoder = new TextEncoder();
  #entries = new Uint32Array(256 * ENTRY_WORDS);
  #data = new Uint8Array(FIRST_DATA_BYTES);

  /** The frames' bytes, in order. Valid until the next call. */
  encode(frames: readonly Frame<Target>[]): Batch<Target> {
    if (this.#entries.length < frames.length * ENTRY_WORDS) {
      this.#entries = new Uint32Array(frames.length * 2 * ENTRY_WORDS);
    }
    const texts: string[] = [];
    for (const frame of frames) texts.push(frame.text);
    const dataBytes = this.#write(texts.join(""));
    return this.#index(frames, dataBytes);
  }

  // One call for the whole turn: the price of encodeInto is mostly in the call.
  #write(text: string): number {
    const longest = text.length * 3; // UTF-8 bytes per UTF-16 unit, at most
    if (this.#data.length < longest) this.#data = new Uint8Array(longest);
    else if (this.#data.length > KEPT_DATA_BYTES && longest * 4 < KEPT_DATA_BYTES) {
      this.#data = new Uint8Array(KEPT_DATA_BYTES);
    }
    return this.#encoder.encodeInto(text, this.#data).written;
  }

  #index(frames: readonly Frame<Target>[], dataBytes: number): Batch<Target> {
    const entries = this.#entries;
    const targets: Target[] = [];
    let units = 0;
    for (const frame of frames) units += frame.text.length;
    const ascii = units === dataBytes;
    let word = 0;
    let offset = 0;
    for (const { target, text, end } of frames) {
      const bytes = ascii ? text.length : utf8Length(text);
      entries[word++] = target.id;
      entries[word++] = offset;
      entries[word++] = bytes;
      entries[word++] = end ? END : 0;
      targets.push(target);
      offset += bytes;
    }
    return { targets, entries, count: targets.length, data: this.#data, dataBytes };
  }
}

/** How many bytes `TextEncoder` makes of a text. A lone surrogate becomes U+FFFD, which has three. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) continue;
    if (unit < 0x800) bytes += 1;
    else if (unit < 0xd800 || unit > 0xdbff) bytes += 2;
    else {
      const next = text.charCodeAt(index + 1);
      if (next >= 0xdc00 && next <= 0xdfff) index++; // two units, four bytes
      bytes += 2;
    }
  }
  return bytes;
}

/**
 * A turn's frames in, their bytes out. The high-water marks keep at most one batch under way, which is what lets
 * the encoder use its arrays again.
 */
export class SseEncoderStream<Target extends FrameTarget>
  extends TransformStream<readonly Frame<Target>[], Batch<Target>> {
  constructor() {
    const encoder = new FrameEncoder<Target>();
    super(
      { transform: (frames, controller) => controller.enqueue(encoder.encode(frames)) },
      { highWaterMark: 1 },
      { highWaterMark: 0 },
    );
  }
}

/**
 * The event stream format (WHATWG HTML, 9.2.6), from bytes as they come to events. Lines are cut as bytes, so a
 * character that is split over chunks is never seen in halves, and nothing but an unfinished line is copied.
 * @module
 */

const LF = 10;
const CR = 13;
const COLON = 58;
const SPACE = 32;

/** Malformed bytes become U+FFFD, as the format says; the BOM is dropped by the parser. */
const UTF8 = new TextDecoder("utf-8", { ignoreBOM: true });

/** Who hears of the events; `event` is "" where the stream names none. */
export interface SseListener {
  sse(data: string, event: string): void;
  /** An event would be longer than the bound; nothing comes after this. */
  sseTooLong(maxBytes: number): void;
}

/** One stream's parser. */
export class SseParser {
  readonly #listener: SseListener;
  readonly #maxBytes: number;
  /** The unfinished line. */
  #rest: Uint8Array | null = null;
  #restBytes = 0;
  #data: string | null = null;
  #event = "";
  #afterCr = false;
  #begun = false;
  #stopped = false;

  /**
   * @param listener hears each event during {@linkcode push}
   * @param maxBytes bound on one line, and on the characters of one event's data
   */
  constructor(listener: SseListener, maxBytes: number) {
    this.#listener = listener;
    this.#maxBytes = maxBytes;
  }

  /** Nothing more is wanted: the rest of the chunk under way and whatever follows is ignored. */
  stop(): void {
    this.#stopped = true;
    this.#rest = null;
    this.#restBytes = 0;
    this.#data = null;
  }

  /** @param chunk the next bytes; not kept after the return */
  push(chunk: Uint8Array): void {
    const length = chunk.length;
    let start = 0;
    for (let i = 0; i < length && !this.#stopped; i++) {
      const byte = chunk[i];
      if (byte !== LF && byte !== CR) {
        this.#afterCr = false;
        continue;
      }
      if (byte === LF && this.#afterCr) {
        this.#afterCr = false;
        start = i + 1;
        continue;
      }
      this.#afterCr = byte === CR;
      if (this.#restBytes === 0) this.#line(chunk, start, i);
      else {
        this.#keep(chunk, start, i);
        const line = this.#rest;
        const end = this.#restBytes;
        this.#restBytes = 0;
        if (end > 1024) this.#rest = null;
        if (line !== null) this.#line(line, 0, end);
      }
      start = i + 1;
    }
    if (!this.#stopped && start < length) this.#keep(chunk, start, length);
  }

  /** The data of an event that the stream's end cut off after its `data` line, or null. */
  unfinished(): string | null {
    if (this.#restBytes > 0 && this.#rest !== null) {
      const line = this.#rest;
      const end = this.#restBytes;
      this.#restBytes = 0;
      this.#line(line, 0, end);
    }
    return this.#data;
  }

  #keep(chunk: Uint8Array, start: number, end: number): void {
    const bytes = this.#restBytes + end - start;
    if (bytes > this.#maxBytes) return this.#tooLong();
    let rest = this.#rest;
    if (rest === null || rest.length < bytes) {
      // Twice the need: a line that comes byte by byte is copied a logarithmic number of times.
      const larger = new Uint8Array(Math.max(128, 2 * bytes));
      if (rest !== null) larger.set(rest.subarray(0, this.#restBytes));
      this.#rest = rest = larger;
    }
    rest.set(chunk.subarray(start, end), this.#restBytes);
    this.#restBytes = bytes;
  }

  #line(bytes: Uint8Array, start: number, end: number): void {
    if (!this.#begun) {
      this.#begun = true;
      if (
        end >= start + 3 && bytes[start] === 0xef && bytes[start + 1] === 0xbb && bytes[start + 2] === 0xbf
      ) start += 3;
    }
    if (start === end) return this.#dispatch();
    if (end - start > this.#maxBytes) return this.#tooLong();
    // d a t a :
    if (
      end >= start + 4 && bytes[start] === 100 && bytes[start + 1] === 97 && bytes[start + 2] === 116 &&
      bytes[start + 3] === 97 &&
      (end === start + 4 || bytes[start + 4] === COLON)
    ) {
      let from = Math.min(start + 5, end);
      if (from < end && bytes[from] === SPACE) from++;
      const text = UTF8.decode(bytes.subarray(from, end));
      this.#data = this.#data === null ? text : `${this.#data}\n${text}`;
      if (this.#data.length > this.#maxBytes) this.#tooLong();
      return;
    }
    if (bytes[start] === COLON) return;
    const line = UTF8.decode(bytes.subarray(start, end));
    if (line === "event") this.#event = "";
    else if (line.startsWith("event:")) this.#event = line.slice(line[6] === " " ? 7 : 6);
  }

  #dispatch(): void {
    const data = this.#data;
    const event = this.#event;
    this.#event = "";
    if (data === null) return;
    this.#data = null;
    this.#listener.sse(data, event);
  }

  #tooLong(): void {
    this.stop();
    this.#listener.sseTooLong(this.#maxBytes);
  }
}

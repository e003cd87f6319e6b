/**
 * HTTP/1.1 answers (RFC 9112), from bytes as they come. Pure: no I/O.
 * @module
 */

import { type H1Head, malformed, parseFields, parseHead } from "./head.ts";

const LF = 10;
const CR = 13;
const MAX_HEAD_BYTES = 65_536;
const MAX_CHUNK_LINE_BYTES = 4_096;
/** Heads of 1xx before the answer's own, and empty lines before each. */
const MAX_INTERIM_HEADS = 32;
const MAX_EMPTY_LINES = 2;
/** Hexadecimal digits of a chunk's size. */
const MAX_SIZE_DIGITS = 12;

const NO_LINE = new Uint8Array(0);

/** Who hears the parts of an answer, in order. */
export interface H1Listener {
  h1Head(head: H1Head): void;
  /** @param bytes valid during the call only */
  h1Data(bytes: Uint8Array): void;
  h1End(): void;
}

const enum State {
  Head,
  Length,
  ChunkSize,
  ChunkData,
  ChunkEnd,
  Trailers,
  UntilClose,
  Done,
}

/** Parses the answer to one request; make another for the next. */
export class H1Parser {
  readonly #listener: H1Listener;
  #state = State.Head;
  /** The beginning of a line whose end has not come. */
  #line: Uint8Array = NO_LINE;
  #lineBytes = 0;
  #lines: string[] = [];
  #headBytes = 0;
  #interimHeads = 0;
  #emptyLines = 0;
  #left = 0;

  constructor(listener: H1Listener) {
    this.#listener = listener;
  }

  /**
   * @param bytes the next ones; not kept after the return
   * @returns how many belonged to the answer: less than all only after its end
   * @throws BackendError `malformed`
   */
  push(bytes: Uint8Array): number {
    let at = 0;
    while (at < bytes.length && this.#state !== State.Done) {
      if (this.#state === State.UntilClose) {
        this.#listener.h1Data(at === 0 ? bytes : bytes.subarray(at));
        return bytes.length;
      }
      if (this.#state === State.Length || this.#state === State.ChunkData) at = this.#onBody(bytes, at);
      else at = this.#onText(bytes, at);
    }
    return at;
  }

  /**
   * The server closed the connection.
   *
   * @returns whether that is the answer's proper end
   */
  close(): boolean {
    if (this.#state !== State.UntilClose) return false;
    this.#end();
    return true;
  }

  #onBody(bytes: Uint8Array, at: number): number {
    const end = Math.min(bytes.length, at + this.#left);
    this.#left -= end - at;
    const last = this.#left === 0;
    const inChunk = this.#state === State.ChunkData;
    if (last && inChunk) this.#state = State.ChunkEnd;
    this.#listener.h1Data(bytes.subarray(at, end));
    if (last && !inChunk) this.#end();
    return end;
  }

  #onText(bytes: Uint8Array, at: number): number {
    const found = bytes.indexOf(LF, at);
    const end = found < 0 ? bytes.length : found;
    const inHead = this.#state === State.Head || this.#state === State.Trailers;
    const maxBytes = inHead ? MAX_HEAD_BYTES : MAX_CHUNK_LINE_BYTES;
    if (this.#headBytes + this.#lineBytes + end - at > maxBytes) {
      throw malformed(`a head or chunk line of more than ${maxBytes} bytes`);
    }
    if (found < 0) {
      this.#keep(bytes, at, end);
      return bytes.length;
    }
    if (this.#lineBytes === 0) this.#onLine(bytes, at, end);
    else {
      this.#keep(bytes, at, end);
      const line = this.#line;
      const length = this.#lineBytes;
      this.#line = NO_LINE;
      this.#lineBytes = 0;
      this.#onLine(line, 0, length);
    }
    return found + 1;
  }

  #keep(bytes: Uint8Array, start: number, end: number): void {
    const length = this.#lineBytes + end - start;
    if (length > this.#line.length) {
      // Twice the need: a line that comes byte by byte is copied a logarithmic number of times.
      const larger = new Uint8Array(2 * length);
      larger.set(this.#line.subarray(0, this.#lineBytes));
      this.#line = larger;
    }
    this.#line.set(bytes.subarray(start, end), this.#lineBytes);
    this.#lineBytes = length;
  }

  /** @param end before the line feed */
  #onLine(bytes: Uint8Array, start: number, end: number): void {
    const withCr = end > start && bytes[end - 1] === CR;
    if (withCr) end--;
    switch (this.#state) {
      case State.Head:
      case State.Trailers:
        this.#headBytes += end - start + 2;
        if (end > start) this.#lines.push(latin1(bytes, start, end));
        else if (this.#state === State.Trailers) {
          parseFields(this.#lines);
          this.#end();
        } else this.#onEmptyLine();
        return;
      case State.ChunkSize:
        if (!withCr) throw malformed("a chunk's line without a carriage return");
        this.#left = chunkSize(bytes, start, end);
        this.#state = this.#left === 0 ? State.Trailers : State.ChunkData;
        return;
      case State.ChunkEnd:
        if (!withCr || end > start) throw malformed("a chunk longer than its size");
        this.#state = State.ChunkSize;
        return;
      default:
    }
  }

  #onEmptyLine(): void {
    const lines = this.#lines;
    if (lines.length === 0) {
      // Some servers end their last answer with a line too many.
      if (++this.#emptyLines > MAX_EMPTY_LINES) throw malformed("empty lines in place of an answer");
      return;
    }
    this.#lines = [];
    this.#headBytes = 0;
    const head = parseHead(lines);
    if (head.status < 200) {
      if (++this.#interimHeads > MAX_INTERIM_HEADS) throw malformed("too many heads of 1xx");
      return;
    }
    if (head.framing === "chunked") this.#state = State.ChunkSize;
    else if (head.framing === "close") this.#state = State.UntilClose;
    else {
      this.#left = head.framing;
      this.#state = State.Length;
    }
    this.#listener.h1Head(head);
    if (head.framing === 0) this.#end();
  }

  #end(): void {
    this.#state = State.Done;
    this.#lines = [];
    this.#listener.h1End();
  }
}

/** Section 7.1: hexadecimal digits, then white space or an extension. */
function chunkSize(bytes: Uint8Array, start: number, end: number): number {
  let size = 0;
  let at = start;
  for (; at < end; at++) {
    const byte = bytes[at] as number;
    const digit = byte <= 57 ? byte - 48 : (byte | 32) - 87;
    if (digit < 0 || digit > 15 || (byte > 57 && digit < 10)) break;
    size = 16 * size + digit;
  }
  const rest = latin1(bytes, at, Math.min(end, at + 40));
  if (at === start || at - start > MAX_SIZE_DIGITS || !/^[ \t]*(;|$)/.test(rest) || /[\0\r]/.test(rest)) {
    throw malformed(`the chunk size ${JSON.stringify(latin1(bytes, start, Math.min(end, start + 40)))}`);
  }
  return size;
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end; at += 4_096) {
    text += String.fromCharCode(...bytes.subarray(at, Math.min(end, at + 4_096)));
  }
  return text;
}

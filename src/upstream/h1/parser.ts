/**
 * HTTP/1.1 answers (RFC 9112), from bytes as they come. Pure: no I/O.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { Field } from "../h2/hpack.ts";

const LF = 10;
const CR = 13;
const MAX_HEAD_BYTES = 65_536;
const MAX_CHUNK_LINE_BYTES = 4_096;

const LATIN1 = new TextDecoder("latin1");
const NO_LINE = new Uint8Array(0);

/** Who hears the parts of an answer, in order. */
export interface H1Listener {
  h1Head(status: number, headers: readonly Field[]): void;
  h1Data(bytes: Uint8Array): void;
  /** @param reusable the connection may carry another request */
  h1End(reusable: boolean): void;
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
  #line: Uint8Array = NO_LINE;
  #lines: string[] = [];
  #headBytes = 0;
  #left = 0;
  #keepAlive = false;
  #begun = false;

  constructor(listener: H1Listener) {
    this.#listener = listener;
  }

  /** A byte of the answer has come. */
  get begun(): boolean {
    return this.#begun;
  }

  /**
   * @param bytes the next ones; not kept after the return
   * @returns how many belonged to the answer: less than all only after its end
   * @throws BackendError `malformed`
   */
  push(bytes: Uint8Array): number {
    if (bytes.length > 0) this.#begun = true;
    let at = 0;
    while (at < bytes.length && this.#state !== State.Done) {
      if (this.#state === State.UntilClose) {
        this.#listener.h1Data(at === 0 ? bytes : bytes.subarray(at));
        return bytes.length;
      }
      if (this.#state === State.Length || this.#state === State.ChunkData) {
        const end = Math.min(bytes.length, at + this.#left);
        this.#left -= end - at;
        const part = bytes.subarray(at, end);
        at = end;
        const last = this.#left === 0;
        const inChunk = this.#state === State.ChunkData;
        if (last && inChunk) this.#state = State.ChunkEnd;
        this.#listener.h1Data(part);
        if (last && !inChunk) this.#end();
        continue;
      }
      const end = bytes.indexOf(LF, at);
      const piece = bytes.subarray(at, end < 0 ? bytes.length : end);
      at += piece.length + 1;
      const maxBytes = this.#state === State.Head || this.#state === State.Trailers
        ? MAX_HEAD_BYTES
        : MAX_CHUNK_LINE_BYTES;
      if (this.#headBytes + this.#line.length + piece.length > maxBytes) {
        throw malformed(`a head or chunk line of more than ${maxBytes} bytes`);
      }
      if (end < 0) {
        this.#line = joined(this.#line, piece);
        return bytes.length;
      }
      const line = this.#line.length === 0 ? piece : joined(this.#line, piece);
      this.#line = NO_LINE;
      this.#onLine(LATIN1.decode(line[line.length - 1] === CR ? line.subarray(0, -1) : line));
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

  #onLine(line: string): void {
    switch (this.#state) {
      case State.Head:
      case State.Trailers:
        this.#headBytes += line.length + 2;
        if (line !== "") {
          this.#lines.push(line);
        } else if (this.#state === State.Trailers) this.#end();
        else this.#onHead();
        return;
      case State.ChunkSize: {
        const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line)?.[1];
        if (size === undefined) throw malformed(`the chunk size ${JSON.stringify(line.slice(0, 40))}`);
        this.#left = parseInt(size, 16);
        this.#state = this.#left === 0 ? State.Trailers : State.ChunkData;
        return;
      }
      case State.ChunkEnd:
        if (line !== "") throw malformed("a chunk longer than its size");
        this.#state = State.ChunkSize;
        return;
      default:
    }
  }

  #onHead(): void {
    const [first = "", ...rest] = this.#lines;
    this.#lines = [];
    this.#headBytes = 0;
    const match = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: |$)/.exec(first);
    if (match === null) throw malformed(`the answer begins with ${JSON.stringify(first.slice(0, 40))}`);
    const status = Number(match[2]);
    if (status === 101) throw malformed("a switch of protocols that was not asked for");
    if (status < 200) return;
    const headers = rest.map(field);
    const connection = tokens(headers, "connection");
    this.#keepAlive = match[1] === "1" ? !connection.includes("close") : connection.includes("keep-alive");
    const coding = tokens(headers, "transfer-encoding");
    const lengths = new Set(headers.filter(([name]) => name === "content-length").map(([, value]) => value));
    const [length] = lengths;
    if (coding.length > 0 && (coding.length > 1 || coding[0] !== "chunked")) {
      throw malformed(`the transfer coding ${JSON.stringify(coding.join(", ").slice(0, 40))}`);
    }
    if (lengths.size > 1 || (length !== undefined && !/^\d{1,15}$/.test(length))) {
      throw malformed(`the content length ${JSON.stringify([...lengths].join(", ").slice(0, 40))}`);
    }
    const empty = status === 204 || status === 304;
    if (empty) this.#left = 0;
    else if (coding.length > 0) this.#state = State.ChunkSize;
    else if (length === undefined) this.#state = State.UntilClose;
    else this.#left = Number(length);
    const ended = this.#state === State.Head && this.#left === 0;
    if (this.#state === State.Head) this.#state = State.Length;
    this.#listener.h1Head(status, headers);
    if (ended) this.#end();
  }

  #end(): void {
    const reusable = this.#keepAlive && this.#state !== State.UntilClose;
    this.#state = State.Done;
    this.#listener.h1End(reusable);
  }
}

function field(line: string): Field {
  const colon = line.indexOf(":");
  // RFC 9112, section 5.1 and 5.2: no space in a name, no folded lines.
  const name = line.slice(0, Math.max(0, colon)).toLowerCase();
  if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) {
    throw malformed(`the header line ${JSON.stringify(line.slice(0, 40))}`);
  }
  return [name, line.slice(colon + 1).trim()];
}

function tokens(headers: readonly Field[], name: string): string[] {
  return headers.filter((header) => header[0] === name)
    .flatMap(([, value]) => value.toLowerCase().split(","))
    .map((token) => token.trim()).filter((token) => token !== "");
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

const malformed = (what: string): BackendError => new BackendError("malformed", `HTTP/1.1: ${what}`);

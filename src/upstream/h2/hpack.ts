/**
 * HPACK (RFC 7541) for a client that keeps no dynamic table: it announces SETTINGS_HEADER_TABLE_SIZE 0, so a head
 * is decoded from the static table and literals alone, and one stream's head never depends on another's. Pure.
 * @module
 */

import { COMPRESSION_ERROR, ConnectionViolation } from "./frames.ts";
import { decodedBytes, huffmanDecode } from "./huffman.ts";
import { type Field, STATIC_TABLE } from "./static_table.ts";

/** The first index of each name, and the index of each field that has a value. */
const NAME_INDEX = new Map(STATIC_TABLE.map(([name], i) => [name, i + 1] as const).reverse());
const FIELD_INDEX = new Map(
  STATIC_TABLE.flatMap(([name, value], i) => value === "" ? [] : [[`${name}\0${value}`, i + 1] as const]),
);

/** Names whose values no intermediary may put into a table (RFC 7541, section 7.1.3). */
const NEVER_INDEXED = new Set(["authorization", "api-key", "proxy-authorization", "x-api-key", "cookie"]);

/**
 * Encodes a head as indexed fields and literals that are not put into the peer's table (section 6.2.2, 6.2.3).
 *
 * @param fields pseudo-fields first, names in lower case, values of characters up to U+00FF
 */
export function encodeHead(fields: readonly Field[]): Uint8Array<ArrayBuffer> {
  let room = 0;
  for (const [name, value] of fields) room += name.length + value.length + 16;
  const out = new Uint8Array(room);
  let at = 0;
  const integer = (prefixBits: number, pattern: number, value: number): void => {
    const max = (1 << prefixBits) - 1;
    if (value < max) {
      out[at++] = pattern | value;
      return;
    }
    out[at++] = pattern | max;
    for (value -= max; value >= 128; value >>>= 7) out[at++] = (value & 127) | 128;
    out[at++] = value;
  };
  const text = (value: string): void => {
    integer(7, 0, value.length);
    for (let i = 0; i < value.length; i++) out[at++] = value.charCodeAt(i);
  };
  for (const [name, value] of fields) {
    const known = NAME_INDEX.get(name) ?? 0;
    const whole = known === 0 ? undefined : FIELD_INDEX.get(`${name}\0${value}`);
    if (whole !== undefined) {
      integer(7, 0x80, whole);
      continue;
    }
    integer(4, NEVER_INDEXED.has(name) ? 0x10 : 0, known);
    if (known === 0) text(name);
    text(value);
  }
  return out.subarray(0, at);
}

/** Who is told of a block's fields, in order. */
export interface FieldListener {
  /**
   * @param name its bytes, valid during the call
   * @param length how many of them
   * @returns whether the value is wanted: what is not is not decoded either
   */
  name(name: Uint8Array, length: number): boolean;
  /** @param value of the name told last, one character per byte */
  value(value: string): void;
}

const STATIC_NAMES = STATIC_TABLE.map(([name]) => new TextEncoder().encode(name));
const SHORTEST_SCRATCH_BYTES = 4_096;
/** Of `String.fromCharCode`'s arguments. */
const MAX_ARGUMENTS = 4_096;

let scratch = new Uint8Array(SHORTEST_SCRATCH_BYTES);

/**
 * Reads a whole block.
 *
 * @throws ConnectionViolation COMPRESSION_ERROR: what section 4 to 6 call a decoding error
 */
export function readBlock(block: Uint8Array, listener: FieldListener): void {
  const reader = new BlockReader(block);
  let begun = false;
  while (!reader.atEnd) {
    const first = reader.peek();
    if ((first & 0xe0) === 0x20) {
      if (begun) throw wrong("a change of the table's size within a block");
      if (reader.integer(5) !== 0) throw wrong("a table larger than the one announced");
      continue;
    }
    begun = true;
    const whole = first >= 0x80;
    const index = reader.integer(whole ? 7 : first >= 0x40 ? 6 : 4);
    if (index > STATIC_TABLE.length || (whole && index === 0)) {
      throw wrong(`index ${index} is not in the table`);
    }
    let wanted: boolean;
    if (index === 0) wanted = reader.name(listener);
    else {
      const name = STATIC_NAMES[index - 1] as Uint8Array;
      wanted = listener.name(name, name.length);
    }
    if (whole) {
      if (wanted) listener.value((STATIC_TABLE[index - 1] as Field)[1]);
    } else if (wanted) listener.value(reader.text());
    else reader.skipText();
  }
}

/** Where in a block one stands. */
export class BlockReader {
  readonly #block: Uint8Array;
  #at = 0;

  constructor(block: Uint8Array) {
    this.#block = block;
  }

  get atEnd(): boolean {
    return this.#at >= this.#block.length;
  }

  peek(): number {
    return this.#block[this.#at] as number;
  }

  /** Section 5.1. */
  integer(prefixBits: number): number {
    const max = (1 << prefixBits) - 1;
    let value = (this.#block[this.#at++] ?? 0) & max;
    if (value < max) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = this.#block[this.#at++];
      if (byte === undefined) throw wrong("an integer is cut off");
      value += (byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw wrong("an integer is too large");
  }

  /** Tells the listener of a spelled-out name. @returns whether it wants the value */
  name(listener: FieldListener): boolean {
    const { coded, start, end } = this.#string();
    if (coded) return listener.name(scratch, this.#huffman(start, end));
    if (end - start > scratch.length) scratch = new Uint8Array(end - start);
    for (let at = start; at < end; at++) scratch[at - start] = this.#block[at] as number;
    return listener.name(scratch, end - start);
  }

  text(): string {
    const { coded, start, end } = this.#string();
    return coded ? latin1(scratch, 0, this.#huffman(start, end)) : latin1(this.#block, start, end);
  }

  /** A string that nobody reads: only its length has to be right. */
  skipText(): void {
    this.#string();
  }

  /** Section 5.2; stands behind it afterwards. */
  #string(): { readonly coded: boolean; readonly start: number; readonly end: number } {
    if (this.atEnd) throw wrong("a string is cut off");
    const coded = this.peek() >= 0x80;
    const length = this.integer(7);
    const start = this.#at;
    if (start + length > this.#block.length) throw wrong("a string is cut off");
    this.#at += length;
    return { coded, start, end: this.#at };
  }

  /** Decodes into {@linkcode scratch}. @returns how many bytes */
  #huffman(start: number, end: number): number {
    const bytes = decodedBytes(end - start);
    if (bytes > scratch.length) scratch = new Uint8Array(bytes);
    const length = huffmanDecode(this.#block, start, end, scratch);
    if (length < 0) throw wrong("a string that is not in the Huffman code");
    return length;
  }
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end; at += MAX_ARGUMENTS) {
    text += String.fromCharCode(...bytes.subarray(at, Math.min(end, at + MAX_ARGUMENTS)));
  }
  return text;
}

const wrong = (what: string): ConnectionViolation =>
  new ConnectionViolation(COMPRESSION_ERROR, `a head with ${what}`);

/**
 * HPACK (RFC 7541) for a client that keeps no dynamic table: it announces SETTINGS_HEADER_TABLE_SIZE 0, so a head
 * is decoded from the static table and literals alone, and one stream's head never depends on another's.
 * @module
 */

import { BackendError } from "../../errors.ts";

/** A head field: name in lower case, value with one character per byte. */
export type Field = readonly [name: string, value: string];

/** RFC 7541, appendix A; index 1 is the first. */
const STATIC_TABLE: readonly Field[] = [
  [":authority", ""],
  [":method", "GET"],
  [":method", "POST"],
  [":path", "/"],
  [":path", "/index.html"],
  [":scheme", "http"],
  [":scheme", "https"],
  [":status", "200"],
  [":status", "204"],
  [":status", "206"],
  [":status", "304"],
  [":status", "400"],
  [":status", "404"],
  [":status", "500"],
  ["accept-charset", ""],
  ["accept-encoding", "gzip, deflate"],
  ["accept-language", ""],
  ["accept-ranges", ""],
  ["accept", ""],
  ["access-control-allow-origin", ""],
  ["age", ""],
  ["allow", ""],
  ["authorization", ""],
  ["cache-control", ""],
  ["content-disposition", ""],
  ["content-encoding", ""],
  ["content-language", ""],
  ["content-length", ""],
  ["content-location", ""],
  ["content-range", ""],
  ["content-type", ""],
  ["cookie", ""],
  ["date", ""],
  ["etag", ""],
  ["expect", ""],
  ["expires", ""],
  ["from", ""],
  ["host", ""],
  ["if-match", ""],
  ["if-modified-since", ""],
  ["if-none-match", ""],
  ["if-range", ""],
  ["if-unmodified-since", ""],
  ["last-modified", ""],
  ["link", ""],
  ["location", ""],
  ["max-forwards", ""],
  ["proxy-authenticate", ""],
  ["proxy-authorization", ""],
  ["range", ""],
  ["referer", ""],
  ["refresh", ""],
  ["retry-after", ""],
  ["server", ""],
  ["set-cookie", ""],
  ["strict-transport-security", ""],
  ["transfer-encoding", ""],
  ["user-agent", ""],
  ["vary", ""],
  ["via", ""],
  ["www-authenticate", ""],
];

/**
 * RFC 7541, appendix B: how many bits the code of each byte has, as base-36 digits from byte 0 on. The code is
 * canonical (shorter first, then by byte), so the lengths say it all; EOS is the one with 30 ones.
 */
const CODE_LENGTHS =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6f" +
  "56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmnqq" +
  "kjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq";

const EOS = 256;
/** `2 * node + bit` → the next node if positive, `~byte` (or `~EOS`) if negative. */
const HUFFMAN_TREE = huffmanTree();

function huffmanTree(): Int16Array {
  const tree: number[] = [0, 0];
  const place = (code: number, bits: number, leaf: number): void => {
    let node = 0;
    for (let bit = bits - 1; bit >= 0; bit--) {
      const at = 2 * node + ((code >>> bit) & 1);
      if (bit === 0) tree[at] = ~leaf;
      else {
        if (tree[at] === 0) tree[at] = tree.push(0, 0) / 2 - 1;
        node = tree[at] ?? 0;
      }
    }
  };
  let code = 0;
  for (let bits = 5; bits <= 30; bits++) {
    for (let byte = 0; byte < 256; byte++) {
      if (parseInt(CODE_LENGTHS.charAt(byte), 36) === bits) place(code++, bits, byte);
    }
    if (bits === 30) place(code, bits, EOS);
    code <<= 1;
  }
  return Int16Array.from(tree);
}

/** The first index of each name, and the index of each field that has a value. */
const NAME_INDEX = new Map(STATIC_TABLE.map(([name], i) => [name, i + 1] as const).reverse());
const FIELD_INDEX = new Map(
  STATIC_TABLE.flatMap(([name, value], i) => value === "" ? [] : [[`${name}\0${value}`, i + 1] as const]),
);

/** Names whose values no intermediary may put into a table (RFC 7541, section 7.1.3). */
const NEVER_INDEXED = new Set(["authorization", "api-key", "proxy-authorization", "x-api-key", "cookie"]);

const malformed = (what: string): BackendError => new BackendError("malformed", `HTTP/2 head: ${what}`);

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
    const whole = FIELD_INDEX.get(`${name}\0${value}`);
    if (whole !== undefined) {
      integer(7, 0x80, whole);
      continue;
    }
    const known = NAME_INDEX.get(name) ?? 0;
    integer(4, NEVER_INDEXED.has(name) ? 0x10 : 0, known);
    if (known === 0) text(name);
    text(value);
  }
  return out.subarray(0, at);
}

/**
 * Decodes a whole head block.
 *
 * @param block all fragments in one
 * @param maxBytes the bound on names, values and 32 per field (RFC 9113, SETTINGS_MAX_HEADER_LIST_SIZE)
 * @throws BackendError `malformed` for anything that section 4 to 6 call a decoding error
 */
export function decodeHead(block: Uint8Array, maxBytes: number): Field[] {
  const fields: Field[] = [];
  let at = 0;
  let size = 0;
  const integer = (prefixBits: number): number => {
    const max = (1 << prefixBits) - 1;
    let value = (block[at++] ?? 0) & max;
    if (value < max) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      const byte = block[at++];
      if (byte === undefined) throw malformed("an integer is cut off");
      value += (byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw malformed("an integer is too large");
  };
  const text = (): string => {
    const first = block[at];
    if (first === undefined) throw malformed("a string is cut off");
    const length = integer(7);
    if (at + length > block.length) throw malformed("a string is cut off");
    const bytes = block.subarray(at, at += length);
    return first >= 128 ? huffmanDecode(bytes) : String.fromCharCode(...bytes);
  };
  const indexed = (index: number): Field => {
    const field = STATIC_TABLE[index - 1];
    if (field === undefined) throw malformed(`index ${index} is not in the table`);
    return field;
  };
  while (at < block.length) {
    const first = block[at] ?? 0;
    let field: Field;
    if (first >= 0x80) field = indexed(integer(7));
    else if ((first & 0xe0) === 0x20) {
      if (integer(5) !== 0) throw malformed("a table larger than the one announced");
      continue;
    } else {
      const index = integer(first >= 0x40 ? 6 : 4);
      const name = index === 0 ? text() : indexed(index)[0];
      field = [name, text()];
    }
    size += field[0].length + field[1].length + 32;
    if (size > maxBytes) throw malformed(`longer than ${maxBytes} bytes`);
    fields.push(field);
  }
  return fields;
}

function huffmanDecode(bytes: Uint8Array): string {
  let text = "";
  let node = 0;
  let depth = 0;
  let onesOnly = true;
  for (const byte of bytes) {
    for (let bit = 7; bit >= 0; bit--) {
      const one = (byte >>> bit) & 1;
      const next = HUFFMAN_TREE[2 * node + one] ?? 0;
      depth++;
      onesOnly &&= one === 1;
      if (next > 0) {
        node = next;
        continue;
      }
      if (~next === EOS) throw malformed("EOS inside of a string");
      text += String.fromCharCode(~next);
      node = 0;
      depth = 0;
      onesOnly = true;
    }
  }
  // Section 5.2: the padding is shorter than a byte and the beginning of EOS.
  if (depth > 7 || !onesOnly) throw malformed("wrong padding of a string");
  return text;
}

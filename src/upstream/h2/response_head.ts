/**
 * What a client has to know of a response's head and trailers, and what makes them malformed (RFC 9113, section 8).
 *
 * A provider's head has some 23 fields, most of them for browsers. Their names are checked, but the values that
 * nobody reads are not even decoded. Pure.
 * @module
 */

import { type FieldListener, readBlock } from "./hpack.ts";
import type { Field } from "./static_table.ts";

/** The fields that a consumer gets. */
const READ_FIELDS = [
  "content-type",
  "content-length",
  "content-encoding",
  "location",
  "retry-after",
  "retry-after-ms",
  "x-should-retry",
] as const;

/** Section 8.2.2: what belongs to an HTTP/1.1 connection. */
const CONNECTION_FIELDS = ["connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade"];
const STATUS = ":status";

/** A head, as far as it is read. */
export interface ResponseHead {
  readonly status: number;
  readonly fields: readonly Field[];
  /** What `content-length` says, or -1. */
  readonly contentLength: number;
}

interface KnownName {
  readonly name: string;
  readonly bytes: Uint8Array;
}

const KNOWN = [STATUS, ...CONNECTION_FIELDS, ...READ_FIELDS]
  .map((name): KnownName => ({ name, bytes: new TextEncoder().encode(name) }));
const KNOWN_BY_LENGTH = Map.groupBy(KNOWN, ({ bytes }) => bytes.length);

/** RFC 9110, section 5.6.2, in lower case: 1 for each byte of it. */
const NAME_BYTES = Uint8Array.from(
  { length: 256 },
  (_, byte) => Number(/[!#$%&'*+.^_`|~0-9a-z-]/.test(String.fromCharCode(byte))),
);
const COLON = 58;

const WRONG_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/;

class HeadListener implements FieldListener {
  fields: Field[] = [];
  status: string | null = null;
  #name = "";
  #regular = false;
  /** The first thing that is wrong. */
  wrong: string | null = null;

  begin(): void {
    this.fields = [];
    this.status = null;
    this.#regular = false;
    this.wrong = null;
  }

  name(name: Uint8Array, length: number): boolean {
    const known = knownName(name, length);
    if (known === STATUS) {
      if (this.#regular) this.wrong ??= "a pseudo-field after a field";
      if (this.status !== null) this.wrong ??= "a second :status";
    } else {
      if (name[0] === COLON) this.wrong ??= "an unknown pseudo-field";
      this.#regular = true;
      if (known === null && !isName(name, length)) this.wrong ??= "a name that is none, or not in lower case";
      if (known !== null && CONNECTION_FIELDS.includes(known)) {
        this.wrong ??= `the field ${known}, which is HTTP/1.1's`;
      }
    }
    this.#name = known ?? "";
    return known !== null;
  }

  value(value: string): void {
    if (WRONG_VALUE.test(value)) this.wrong ??= `a wrong value of ${this.#name}`;
    if (this.#name === STATUS) this.status = value;
    else this.fields.push([this.#name, value]);
  }
}

const listener = new HeadListener();

/**
 * Reads a response's head.
 *
 * @returns the head, or what makes it malformed
 * @throws ConnectionViolation COMPRESSION_ERROR
 */
export function readResponseHead(block: Uint8Array): ResponseHead | string {
  listener.begin();
  readBlock(block, listener);
  const { fields, status, wrong } = listener;
  if (wrong !== null) return wrong;
  if (status === null) return "no :status";
  if (!/^[1-5]\d\d$/.test(status) || status === "101") return `the status ${JSON.stringify(status)}`;
  let contentLength = -1;
  for (const [name, value] of fields) {
    if (name !== "content-length") continue;
    if (!/^\d{1,15}$/.test(value) || (contentLength >= 0 && Number(value) !== contentLength)) {
      return `the content length ${JSON.stringify(value.slice(0, 40))}`;
    }
    contentLength = Number(value);
  }
  return { status: Number(status), fields, contentLength };
}

/**
 * Reads trailers, whose values nobody wants.
 *
 * @returns what makes them malformed, or null
 * @throws ConnectionViolation COMPRESSION_ERROR
 */
export function readTrailers(block: Uint8Array): string | null {
  listener.begin();
  readBlock(block, listener);
  return listener.status === null ? listener.wrong : "a pseudo-field in trailers";
}

function knownName(name: Uint8Array, length: number): string | null {
  const candidates = KNOWN_BY_LENGTH.get(length);
  if (candidates === undefined) return null;
  for (const { name: text, bytes } of candidates) {
    let at = 0;
    while (at < length && bytes[at] === name[at]) at++;
    if (at === length) return text;
  }
  return null;
}

function isName(name: Uint8Array, length: number): boolean {
  for (let at = 0; at < length; at++) if (NAME_BYTES[name[at] as number] === 0) return false;
  return length > 0;
}

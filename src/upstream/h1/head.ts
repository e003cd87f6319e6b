/**
 * A response's head in HTTP/1.1 (RFC 9112, section 4 to 6): what its lines say, and where its body ends. Pure.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { Field } from "../h2/static_table.ts";

const QUOTED_CHARACTERS = 40;
/** So much before the server's own time-out, or half of it, lest a request goes out as it closes. */
const KEEP_ALIVE_MARGIN_MS = 1_000;

/** Where the body ends: after so many bytes, with the last chunk, or with the connection. */
export type Framing = number | "chunked" | "close";

/** A head. */
export interface H1Head {
  readonly status: number;
  readonly fields: readonly Field[];
  readonly framing: Framing;
  /** The connection may carry another request, */
  readonly keepAlive: boolean;
  /** for so long; Infinity where the server does not say. */
  readonly maxIdleMs: number;
}

/**
 * @param lines without their ends
 * @throws BackendError `malformed`
 */
export function parseHead(lines: readonly string[]): H1Head {
  const [first = "", ...rest] = lines;
  const match = /^HTTP\/1\.(\d) ([1-5]\d\d)(?: |$)/.exec(first);
  if (match === null) throw malformed(`the answer begins with ${quoted(first)}`);
  const old = match[1] === "0";
  const status = Number(match[2]);
  if (status === 101) throw malformed("a switch of protocols that was not asked for");
  const fields = parseFields(rest);
  const connection = tokens(fields, "connection");
  const framing = framingOf(status, old, fields);
  const idleMs = maxIdleMs(fields);
  return {
    status,
    fields,
    framing,
    keepAlive: framing !== "close" && idleMs > 0 &&
      (old ? connection.includes("keep-alive") : !connection.includes("close")),
    maxIdleMs: idleMs,
  };
}

/**
 * Field lines, those of trailers too.
 *
 * @throws BackendError `malformed`
 */
export function parseFields(lines: readonly string[]): Field[] {
  const fields: [name: string, value: string][] = [];
  for (const line of lines) {
    if (/[\0\r]/.test(line)) throw malformed(`the header line ${quoted(line)}`);
    const last = fields.at(-1);
    if (last !== undefined && /^[ \t]/.test(line)) {
      last[1] = `${last[1]} ${trimmed(line)}`.trimEnd(); // section 5.2: a folded line
      continue;
    }
    const colon = line.indexOf(":");
    const name = line.slice(0, Math.max(0, colon)).toLowerCase();
    if (!/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name)) throw malformed(`the header line ${quoted(line)}`);
    fields.push([name, trimmed(line.slice(colon + 1))]);
  }
  return fields;
}

function framingOf(status: number, old: boolean, fields: readonly Field[]): Framing {
  const coding = tokens(fields, "transfer-encoding");
  const lengths = new Set(fields.filter(([name]) => name === "content-length").map(([, value]) => value));
  const [length] = lengths;
  if (lengths.size > 1 || (length !== undefined && !/^\d{1,15}$/.test(length))) {
    throw malformed(`the content length ${quoted([...lengths].join(", "))}`);
  }
  if (fields.some(([name]) => name === "transfer-encoding")) {
    if (coding.length !== 1 || coding[0] !== "chunked") {
      throw malformed(`the transfer coding ${quoted(coding.join(", "))}`);
    }
    // Section 6.1 and 6.3: somebody on the way may see the end elsewhere.
    if (old) throw malformed("a transfer coding in HTTP/1.0");
    if (length !== undefined) throw malformed("both a transfer coding and a content length");
  }
  if (status < 200 || status === 204 || status === 304) return 0;
  if (coding.length > 0) return "chunked";
  return length === undefined ? "close" : Number(length);
}

/** `Keep-Alive: timeout=5`, as most servers say it. */
function maxIdleMs(fields: readonly Field[]): number {
  for (const token of tokens(fields, "keep-alive")) {
    const secs = /^timeout=(\d{1,9})$/.exec(token)?.[1];
    if (secs === undefined) continue;
    const timeoutMs = 1_000 * Number(secs);
    return timeoutMs - Math.min(KEEP_ALIVE_MARGIN_MS, timeoutMs / 2);
  }
  return Infinity;
}

function tokens(fields: readonly Field[], name: string): string[] {
  return fields.filter((field) => field[0] === name)
    .flatMap(([, value]) => value.toLowerCase().split(","))
    .map((token) => token.trim()).filter((token) => token !== "");
}

/**
 * Without the spaces and tabs around it; other white space is part of a value. A regular expression would look for the
 * end from each place of a long gap, for seconds.
 */
function trimmed(text: string): string {
  let [start, end] = [0, text.length];
  while (start < end && isBlank(text[start])) start++;
  while (end > start && isBlank(text[end - 1])) end--;
  return text.slice(start, end);
}

const isBlank = (character: string | undefined): boolean => character === " " || character === "\t";

const quoted = (text: string): string => JSON.stringify(text.slice(0, QUOTED_CHARACTERS));

/** An error for what violates the protocol. */
export const malformed = (what: string): BackendError => new BackendError("malformed", `HTTP/1.1: ${what}`);

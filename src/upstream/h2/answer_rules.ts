/**
 * What an answer on a stream may be made of (RFC 9113, section 8.1): heads of 1xx, one head, as much data as that says,
 * and trailers. Pure.
 * @module
 */

import { MAX_BLOCK_BYTES } from "./frame_reader.ts";
import * as h2 from "./frames.ts";
import { readResponseHead, readTrailers } from "./response_head.ts";
import type { Field } from "./static_table.ts";

/** Heads of 1xx before an answer's own. */
const MAX_INTERIM_HEADS = 32;
/** Of {@linkcode AnswerSoFar.leftBytes}: the head does not say it. */
export const UNKNOWN = -1;

/** What has to be known of an answer to tell what may follow. */
export interface AnswerSoFar {
  /** What of the data is still to come, as its head says; or {@linkcode UNKNOWN}. */
  leftBytes: number;
  interimHeads: number;
}

/** What a block of fields is to its answer; the code of `wrong` is the stream's end. */
export type AnswerHead =
  | { readonly kind: "interim" | "trailers" }
  | { readonly kind: "head"; readonly status: number; readonly fields: readonly Field[] }
  | { readonly kind: "wrong"; readonly code: number; readonly what: string };

const wrong = (code: number, what: string): AnswerHead => ({ kind: "wrong", code, what });

/** @param block null: it was longer than is read */
export function readAnswerHead(
  answer: AnswerSoFar,
  headSeen: boolean,
  block: Uint8Array | null,
  endStream: boolean,
): AnswerHead {
  if (block === null) return wrong(h2.ENHANCE_YOUR_CALM, `a head of more than ${MAX_BLOCK_BYTES} bytes`);
  if (headSeen) {
    const fault = endStream ? readTrailers(block) : "a second head";
    return fault === null ? { kind: "trailers" } : wrong(h2.PROTOCOL_ERROR, fault);
  }
  const head = readResponseHead(block);
  if (typeof head === "string") return wrong(h2.PROTOCOL_ERROR, head);
  const { status, fields } = head;
  if (status < 200) {
    if (endStream) return wrong(h2.PROTOCOL_ERROR, `an end after status ${status}`);
    if (++answer.interimHeads > MAX_INTERIM_HEADS) {
      return wrong(h2.ENHANCE_YOUR_CALM, `more than ${MAX_INTERIM_HEADS} heads of 1xx`);
    }
    return { kind: "interim" };
  }
  if (status !== 204 && status !== 304) answer.leftBytes = head.contentLength;
  return { kind: "head", status, fields };
}

/** Takes note of data. @returns whether the head let that much come */
export function takeData(answer: AnswerSoFar, bytes: number): boolean {
  if (answer.leftBytes === UNKNOWN) return true;
  if (bytes > answer.leftBytes) return false;
  answer.leftBytes -= bytes;
  return true;
}

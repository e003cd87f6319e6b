/**
 * A request's head as frames (RFC 9113, section 8.3.1).
 * @module
 */

import type { RequestHead, UpstreamRequest } from "../exchange.ts";
import * as h2 from "./frames.ts";
import { encodeHead } from "./hpack.ts";

/** What comes first in every block. Without a dynamic table it is the same bytes each time. */
const encoded = new WeakMap<RequestHead, Uint8Array>();

/** A dynamic table of no bytes (RFC 7541, section 6.3). */
const NO_TABLE = Uint8Array.of(0x20);

/**
 * @param resizes whether the block begins by saying that there is no dynamic table
 * @returns HEADERS, and CONTINUATION where it is longer than the server takes
 */
export function requestFrames(
  id: number,
  { head, headers, body }: UpstreamRequest,
  maxFrameBytes: number,
  resizes: boolean,
): Uint8Array<ArrayBuffer>[] {
  let first = encoded.get(head);
  if (first === undefined) encoded.set(head, first = encodeFirst(head));
  const rest = encodeHead([...headers, ["content-length", `${body.length}`]]);
  const begin = resizes ? NO_TABLE.length : 0;
  const block = new Uint8Array(begin + first.length + rest.length);
  if (resizes) block.set(NO_TABLE);
  block.set(first, begin);
  block.set(rest, begin + first.length);
  const frames: Uint8Array<ArrayBuffer>[] = [];
  let flags = body.length === 0 ? h2.FLAG_END_STREAM : 0;
  let type = h2.HEADERS;
  for (let at = 0; at === 0 || at < block.length;) {
    const end = Math.min(at + maxFrameBytes, block.length);
    const last = end === block.length ? h2.FLAG_END_HEADERS : 0;
    frames.push(h2.bytesFrame(type, flags | last, id, block.subarray(at, end)));
    type = h2.CONTINUATION;
    flags = 0;
    at = end;
  }
  return frames;
}

function encodeFirst({ method, url, headers }: RequestHead): Uint8Array {
  return encodeHead([
    [":method", method],
    [":scheme", url.protocol.slice(0, -1)],
    [":authority", url.host],
    [":path", url.pathname + url.search],
    ...headers,
  ]);
}

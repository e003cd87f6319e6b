/**
 * A request's head as frames (RFC 9113, section 8.3.1).
 * @module
 */

import type { UpstreamRequest } from "../exchange.ts";
import * as h2 from "./frames.ts";
import { encodeHead } from "./hpack.ts";

/** @returns HEADERS, and CONTINUATION where it is longer than the server takes */
export function requestFrames(
  id: number,
  { method, url, headers, body }: UpstreamRequest,
  maxFrameBytes: number,
): Uint8Array<ArrayBuffer>[] {
  const block = encodeHead([
    [":method", method],
    [":scheme", url.protocol.slice(0, -1)],
    [":authority", url.host],
    [":path", url.pathname + url.search],
    ...headers,
    ["content-length", `${body.length}`],
  ]);
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

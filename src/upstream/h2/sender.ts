/**
 * What goes out on an HTTP/2 connection: requests, a piece of each body in turn as far as the windows let through,
 * and the frames that only answer the server, which are bounded by themselves.
 * @module
 */

import type { ByteStream } from "../byte_stream.ts";
import { ByteWriter, type WriteListener } from "../byte_writer.ts";
import type { UpstreamRequest } from "../exchange.ts";
import { CONNECTION_WINDOW_BYTES, type Flow, type FlowStream } from "./flow.ts";
import { MAX_BLOCK_BYTES } from "./frame_reader.ts";
import * as h2 from "./frames.ts";
import { requestFrames } from "./request_frames.ts";

const PREFACE = new TextEncoder().encode("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
const LONGEST_FRAME_BYTES = 65_536;
/** Bytes of bodies that are queued ahead of a slow server: what is not a body has to come soon after them. */
const MAX_QUEUED_BYTES = 131_072;
/** Answers to PING and SETTINGS that the server does not read: more is an attack. */
const MAX_UNREAD_REPLY_BYTES = 1_048_576;
const NOTHING = new Uint8Array(0);

/** A stream whose request is on its way. */
export interface SendStream extends FlowStream {
  readonly id: number;
  /** What of the request's body is not sent yet. */
  unsent: Uint8Array<ArrayBuffer> | null;
}

/** The sending half of a connection. */
export class Sender implements WriteListener {
  readonly #writer: ByteWriter;
  readonly #flow: Flow;
  readonly #onFailed: (cause: unknown) => void;
  /** Those whose bodies are under way, in the order of their turns. */
  readonly #sending = new Set<SendStream>();
  #maxFrameBytes = h2.MAX_FRAME_BYTES;
  #resizesTable = false;

  /** @param onFailed hears of a failed write, once */
  constructor(stream: ByteStream, flow: Flow, onFailed: (cause: unknown) => void) {
    this.#writer = new ByteWriter(stream, this);
    this.#flow = flow;
    this.#onFailed = onFailed;
  }

  /** The connection's beginning (RFC 9113, section 3.4). */
  begin(): void {
    this.#writer.write(PREFACE);
    this.#writer.write(h2.settingsFrame([
      [h2.SETTINGS_HEADER_TABLE_SIZE, 0],
      [h2.SETTINGS_ENABLE_PUSH, 0],
      [h2.SETTINGS_MAX_HEADER_LIST_SIZE, MAX_BLOCK_BYTES],
    ]));
    this.credit(0, CONNECTION_WINDOW_BYTES - h2.DEFAULT_WINDOW_BYTES);
  }

  /** SETTINGS_MAX_FRAME_SIZE of the server. */
  set maxFrameBytes(bytes: number) {
    this.#maxFrameBytes = Math.min(bytes, LONGEST_FRAME_BYTES);
  }

  /**
   * SETTINGS_HEADER_TABLE_SIZE of the server. A smaller table than the one at the beginning has to be agreed to in the
   * next head (RFC 9113, section 4.3.1), though none is used.
   */
  set tableBytes(bytes: number) {
    if (bytes < h2.DEFAULT_TABLE_BYTES) this.#resizesTable = true;
  }

  /** Sends a request's head, and its body as soon as may be. */
  request(stream: SendStream, request: UpstreamRequest): void {
    const frames = requestFrames(stream.id, request, this.#maxFrameBytes, this.#resizesTable);
    this.#resizesTable = false;
    for (const frame of frames) this.#writer.write(frame);
    if (stream.unsent === null) return;
    this.#sending.add(stream);
    this.bodies();
  }

  /** Sends of the bodies what the windows and the queue have room for now. */
  bodies(): void {
    for (const stream of this.#sending) {
      const { unsent } = stream;
      if (unsent === null || this.#writer.pendingBytes >= MAX_QUEUED_BYTES) return;
      const bytes = Math.min(unsent.length, this.#maxFrameBytes, this.#flow.sendable(stream));
      if (bytes === 0) continue;
      const last = bytes === unsent.length;
      const flags = last ? h2.FLAG_END_STREAM : 0;
      this.#writer.write(h2.frameHead(h2.DATA, flags, stream.id, bytes));
      this.#writer.write(unsent.subarray(0, bytes));
      this.#flow.send(stream, bytes);
      stream.unsent = last ? null : unsent.subarray(bytes);
      this.#sending.delete(stream);
      if (!last) this.#sending.add(stream); // behind the others
    }
  }

  /** The stream is over: its body goes no further. @param code of a reset; null: none */
  end(stream: SendStream, code: number | null): void {
    this.#sending.delete(stream);
    stream.unsent = null;
    if (code !== null) this.#writer.write(h2.numbersFrame(h2.RST_STREAM, stream.id, code));
  }

  /** Lets the server send so much more. @param id 0 for the connection */
  credit(id: number, bytes: number): void {
    if (bytes > 0) this.#writer.write(h2.numbersFrame(h2.WINDOW_UPDATE, id, bytes));
  }

  ping(): void {
    this.#writer.write(h2.bytesFrame(h2.PING, 0, 0, new Uint8Array(8)));
  }

  goaway(code: number): void {
    this.#sending.clear();
    this.#writer.write(h2.numbersFrame(h2.GOAWAY, 0, 0, code));
  }

  /** @throws ConnectionViolation the server reads no replies */
  answerPing(payload: Uint8Array): void {
    this.#reply(h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, payload));
  }

  /** @throws ConnectionViolation the server reads no replies */
  acknowledgeSettings(): void {
    this.#reply(h2.bytesFrame(h2.SETTINGS, h2.FLAG_ACK, 0, NOTHING));
  }

  /** For a frame on a stream that the server itself has ended. @throws ConnectionViolation it reads no replies */
  answerLate(id: number): void {
    this.#reply(h2.numbersFrame(h2.RST_STREAM, id, h2.STREAM_CLOSED));
  }

  /** Settles when all is written or the stream has failed. */
  settled(): Promise<void> {
    return this.#writer.settled();
  }

  drained(): void {
    this.bodies();
  }

  writeFailed(cause: unknown): void {
    this.#onFailed(cause);
  }

  #reply(frame: Uint8Array<ArrayBuffer>): void {
    if (this.#writer.replyBytes > MAX_UNREAD_REPLY_BYTES) {
      throw new h2.ConnectionViolation(h2.ENHANCE_YOUR_CALM, "the server reads no replies");
    }
    this.#writer.reply(frame);
  }
}

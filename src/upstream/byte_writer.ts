/**
 * Writes in order to a byte stream, all that gathers during one write in the next.
 * @module
 */

import type { ByteStream } from "./byte_stream.ts";

/** Who hears of a connection's writes. */
export interface WriteListener {
  /** All that was queued is written: there is room for more. */
  drained(): void;
  /** A write has failed; heard once, and no other is tried. */
  writeFailed(cause: unknown): void;
}

/** The sending half of one connection. */
export class ByteWriter {
  readonly #stream: ByteStream;
  readonly #listener: WriteListener;
  #pending: Uint8Array<ArrayBuffer>[] = [];
  #writing: Promise<void> | null = null;
  /** Bytes that the peer has not taken yet. */
  pendingBytes = 0;
  /** Of these, the ones that only answer what the peer sent. */
  replyBytes = 0;
  /** A byte has gone to the stream. */
  begun = false;

  constructor(stream: ByteStream, listener: WriteListener) {
    this.#stream = stream;
    this.#listener = listener;
  }

  /** Queues bytes, which must not be changed afterwards. */
  write(bytes: Uint8Array<ArrayBuffer>): void {
    this.#pending.push(bytes);
    this.pendingBytes += bytes.length;
    this.#writing ??= this.#run();
  }

  /** As {@linkcode write}, counted as a reply. */
  reply(bytes: Uint8Array<ArrayBuffer>): void {
    this.replyBytes += bytes.length;
    this.write(bytes);
  }

  /** Settles when all that was queued is written or the stream has failed. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #run(): Promise<void> {
    try {
      // What is queued in the same turn goes out together.
      await null;
      while (this.#pending.length > 0) {
        const replyBytes = this.replyBytes;
        let bytes = joined(this.#pending, this.pendingBytes);
        this.#pending = [];
        this.begun = true;
        while (bytes.length > 0) {
          const count = await this.#stream.write(bytes);
          this.pendingBytes -= count;
          bytes = bytes.subarray(count);
        }
        this.replyBytes -= replyBytes;
        if (this.#pending.length === 0) this.#listener.drained();
      }
      this.#writing = null;
    } catch (cause) {
      // No further write is tried: the field stays set.
      this.#pending = [];
      this.#listener.writeFailed(cause);
    }
  }
}

function joined(parts: readonly Uint8Array<ArrayBuffer>[], bytes: number): Uint8Array<ArrayBuffer> {
  const [first] = parts;
  if (parts.length === 1 && first !== undefined) return first;
  const all = new Uint8Array(bytes);
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/**
 * Writes in order to a byte stream, all that gathers during one write in the next.
 * @module
 */

import type { ByteStream } from "./byte_stream.ts";

/** The sending half of one connection. */
export class ByteWriter {
  readonly #stream: ByteStream;
  readonly #onError: (cause: unknown) => void;
  #pending: Uint8Array<ArrayBuffer>[] = [];
  #writing: Promise<void> | null = null;
  /** Bytes that the peer has not taken yet, without the ones of the write under way. */
  pendingBytes = 0;

  /** @param onError hears of a failed write, once */
  constructor(stream: ByteStream, onError: (cause: unknown) => void) {
    this.#stream = stream;
    this.#onError = onError;
  }

  /** Queues bytes, which must not be changed afterwards. */
  write(bytes: Uint8Array<ArrayBuffer>): void {
    this.#pending.push(bytes);
    this.pendingBytes += bytes.length;
    this.#writing ??= this.#run();
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
        let bytes = joined(this.#pending, this.pendingBytes);
        this.#pending = [];
        this.pendingBytes = 0;
        while (bytes.length > 0) bytes = bytes.subarray(await this.#stream.write(bytes));
      }
      this.#writing = null;
    } catch (cause) {
      // No further write is tried: the field stays set.
      this.#pending = [];
      this.#onError(cause);
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

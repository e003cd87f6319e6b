/** A byte stream whose other end is the test. */

import type { ByteStream } from "../../src/upstream/byte_stream.ts";

/** See the file. */
export class FakeStream implements ByteStream {
  #incoming: (Uint8Array | null)[] = [];
  #wakeReader: (() => void) | null = null;
  #sent: Uint8Array[] = [];
  #wakeTest: (() => void) | null = null;
  #wakeWriter: (() => void) | null = null;
  closed = false;
  /** While set, what is written is not taken; see {@linkcode release}. */
  stuck = false;

  async read(into: Uint8Array): Promise<number | null> {
    while (this.#incoming.length === 0) {
      if (this.closed) throw new Error("closed");
      await new Promise<void>((resolve) => this.#wakeReader = resolve);
    }
    const first = this.#incoming.shift() ?? null;
    if (first === null) return null;
    const count = Math.min(first.length, into.length);
    into.set(first.subarray(0, count));
    if (count < first.length) this.#incoming.unshift(first.subarray(count));
    return count;
  }

  async write(bytes: Uint8Array): Promise<number> {
    while (this.stuck) await new Promise<void>((resolve) => this.#wakeWriter = resolve);
    if (this.closed) throw new Error("closed");
    this.#sent.push(bytes.slice());
    this.#wakeTest?.();
    return bytes.length;
  }

  close(): void {
    this.closed = true;
    this.#wakeReader?.();
    this.#wakeTest?.();
  }

  /** What is written is taken again. */
  release(): void {
    this.stuck = false;
    this.#wakeWriter?.();
  }

  /** The peer says something. */
  feed(...parts: (Uint8Array | null)[]): void {
    this.#incoming.push(...parts);
    this.#wakeReader?.();
  }

  /** Takes what was sent so far. */
  takeSent(): Uint8Array<ArrayBuffer> {
    const parts = this.#sent.splice(0);
    const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    return all;
  }

  /** Settles at the next write or the close. */
  async changed(): Promise<void> {
    if (this.#sent.length > 0 || this.closed) return;
    await new Promise<void>((resolve) => this.#wakeTest = resolve);
  }
}

/** Lets everything go on that waits for nothing but promises. */
export function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

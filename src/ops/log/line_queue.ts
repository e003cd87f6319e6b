/**
 * Lines on their way out: gathered, and written asynchronously, one write at a time. What waits is bounded; past the
 * bound lines are dropped and counted, and the count is told once there is room.
 * @module
 */

import { within } from "../../timing/within.ts";

/** UTF-16 units that wait for the writer at most. */
const MAX_WAITING_UNITS = 1_048_576;
/** PIPE_BUF of pipe(7): so much goes into a pipe whole, and lines of several isolates do not mix. */
const MAX_WRITE_BYTES = 4096;
/**
 * From one write to the next, where lines keep coming: each takes two switches of threads and a turn of the event loop,
 * which at 2,000 lines a second is a tenth of what their streams take.
 */
const REST_MS = 20;
/** Until the next try, where the other side made a pipe non-blocking and it is full. */
const RETRY_MS = 10;

const encoder = new TextEncoder();

/** The queue of one log. */
export class LineQueue {
  readonly #write: (bytes: Uint8Array) => Promise<number>;
  readonly #droppedLine: (count: number) => string;
  #lines: string[] = [];
  #waitingUnits = 0;
  #dropped = 0;
  #open = true;
  #writing: Promise<void> | undefined;
  #closing = false;
  #hurries = false;
  #endRest = (): void => {};

  /**
   * @param write writes some of the bytes, and says how many
   * @param droppedLine what to say about lines for which there was no room
   */
  constructor(write: (bytes: Uint8Array) => Promise<number>, droppedLine: (count: number) => string) {
    this.#write = write;
    this.#droppedLine = droppedLine;
  }

  /** Adds a line, its LF included. */
  push(line: string): void {
    if (!this.#open || this.#waitingUnits + line.length > MAX_WAITING_UNITS) {
      this.#dropped++;
      return;
    }
    this.#add(line);
    this.#writing ??= this.#writeLines();
    if (this.#isWriteFull) this.#endRest();
  }

  #add(line: string): void {
    this.#lines.push(line);
    this.#waitingUnits += line.length;
  }

  /** Lets what was pushed wait for nothing but the write under way. */
  hurry(): void {
    this.#hurries = true;
    this.#endRest();
  }

  /** Waits until all lines are written, at most `timeoutMs`; what is pushed later is dropped. */
  async close(timeoutMs: number): Promise<void> {
    this.#closing = true;
    this.hurry();
    await within(Promise.resolve(this.#writing), timeoutMs, () => {});
    this.#open = false;
  }

  async #writeLines(): Promise<void> {
    await Promise.resolve(); // the lines of this turn go out together
    try {
      while (this.#lines.length > 0) {
        const lines = this.#lines;
        this.#lines = [];
        this.#hurries = this.#closing;
        for (let from = 0; from < lines.length;) {
          const { to, bytes, units } = batch(lines, from);
          await this.#writeWhole(bytes);
          this.#waitingUnits -= units;
          from = to;
        }
        if (this.#dropped > 0) {
          this.#add(this.#droppedLine(this.#dropped)); // beyond the bound, too: what came meanwhile may have filled it
          this.#dropped = 0;
        }
        if (!this.#hurries && !this.#isWriteFull) await this.#rest();
      }
    } catch {
      // Standard error is gone (EPIPE, EIO). There is no place left to say so, and the streams go on.
      this.#open = false;
    }
    this.#writing = undefined;
  }

  /** Nothing is gained by waiting for more, and under a flood much would wait. */
  get #isWriteFull(): boolean {
    return this.#waitingUnits >= MAX_WRITE_BYTES;
  }

  async #rest(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#endRest = resolve;
    const timer = setTimeout(resolve, REST_MS);
    await promise;
    clearTimeout(timer);
  }

  async #writeWhole(bytes: Uint8Array): Promise<void> {
    for (let written = 0; written < bytes.length;) {
      try {
        written += await this.#write(bytes.subarray(written));
      } catch (error) {
        if (!(error instanceof Deno.errors.WouldBlock)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

/** Whole lines, as many as have at most {@linkcode MAX_WRITE_BYTES} together; a longer line stays alone. */
function batch(lines: readonly string[], from: number): { to: number; bytes: Uint8Array; units: number } {
  let to = from;
  let units = 0;
  do units += lines[to++]?.length ?? 0; while (
    to < lines.length && units + (lines[to]?.length ?? 0) <= MAX_WRITE_BYTES
  );
  while (true) {
    const text = lines.slice(from, to).join("");
    const bytes = encoder.encode(text);
    // A unit beyond ASCII has two or three bytes.
    if (bytes.length <= MAX_WRITE_BYTES || to === from + 1) return { to, bytes, units: text.length };
    to = from + Math.ceil((to - from) / 2);
  }
}

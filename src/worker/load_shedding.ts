/**
 * Keeps a worker's heap from running full: past a share of it the worker takes no new clients, so that those which it
 * has can finish. At the limit itself V8 ends the whole process, and nothing in Deno can change that.
 * @module
 */
import { getHeapStatistics } from "node:v8";
import type { Log } from "../ops/log/log.ts";

/** What stops and starts the coming of new clients: a reactor. */
export interface Door {
  admit(open: boolean): void;
}

/** The heap of this isolate, and a clock, for tests. */
export interface Heap {
  /** Bytes in use, those of what is no longer needed and not collected yet included. */
  usedBytes(): number;
  /** Bytes at which V8 gives up. */
  limitBytes(): number;
  /** Makes it likely that there is a full collection soon. @throws {RangeError} if the system has no memory for that */
  suggestCollection(): void;
  /** Milliseconds, monotonic. */
  nowMs(): number;
}

/** The share of the limit past which no new clients are taken. */
const SHUT_SHARE = 0.7;
/** The share below which they are taken again. */
const OPEN_SHARE = 0.6;
/** A byte of a request may become a text's unit of two bytes. */
const HEAP_BYTES_PER_BYTE = 2;
const COLLECTION_PAUSE_MS = 10_000;
const LOG_PAUSE_MS = 60_000;
const MIB = 1024 * 1024;
// V8 counts memory outside of its heap that the heap keeps alive. It is never touched, so that none is taken.
const SUGGESTION_BYTES = 256 * MIB;

/** This isolate's heap. Needs no permission. */
export const V8_HEAP: Heap = {
  usedBytes: () => getHeapStatistics().used_heap_size,
  limitBytes: () => getHeapStatistics().heap_size_limit,
  suggestCollection: () => void new ArrayBuffer(SUGGESTION_BYTES),
  nowMs: () => performance.now(),
};

/** Opens and shuts the door of one worker. */
export class LoadShedding {
  readonly #door: Door;
  readonly #log: Log;
  readonly #heap: Heap;
  readonly #limitBytes: number;
  #open = true;
  #heldBytes = 0;
  #usedBytesThen: number;
  #heldBytesThen = 0;
  #suggestedAtMs = -Infinity;
  #loggedAtMs = -Infinity;

  constructor(door: Door, log: Log, heap: Heap = V8_HEAP) {
    this.#door = door;
    this.#log = log;
    this.#heap = heap;
    this.#limitBytes = heap.limitBytes();
    this.#usedBytesThen = heap.usedBytes();
  }

  /** A stream keeps so many bytes of request data from now on. Exact, since the next look may come too late. */
  hold(bytes: number): void {
    this.#heldBytes += bytes;
    this.#judge();
  }

  /** A stream has let go of so many bytes. */
  release(bytes: number): void {
    this.#heldBytes -= bytes;
  }

  /** Looks at the heap. To be called about once a second. */
  look(): void {
    this.#usedBytesThen = this.#heap.usedBytes();
    this.#heldBytesThen = this.#heldBytes;
    this.#judge();
    // What is in use may be in no need: an idle heap is not collected, and the door would stay shut.
    const nowMs = this.#heap.nowMs();
    if (this.#open || nowMs - this.#suggestedAtMs < COLLECTION_PAUSE_MS) return;
    this.#suggestedAtMs = nowMs;
    try {
      this.#heap.suggestCollection();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error; // it was a hint, and there is another in ten seconds
    }
  }

  #judge(): void {
    const newBytes = Math.max(0, this.#heldBytes - this.#heldBytesThen) * HEAP_BYTES_PER_BYTE;
    const share = (this.#usedBytesThen + newBytes) / this.#limitBytes;
    if (this.#open ? share <= SHUT_SHARE : share >= OPEN_SHARE) return;
    this.#open = !this.#open;
    this.#door.admit(this.#open);
    if (this.#open || this.#heap.nowMs() - this.#loggedAtMs < LOG_PAUSE_MS) return;
    this.#loggedAtMs = this.#heap.nowMs();
    this.#log.warning(
      "The heap is nearly full, no new clients for now; have more workers, or raise the limit with " +
        "DENO_V8_FLAGS=--max-old-space-size=MIB in the environment",
      { used_mib: Math.round(share * this.#limitBytes / MIB), limit_mib: Math.round(this.#limitBytes / MIB) },
    );
  }
}

/**
 * Ends a worker's isolate before its heap is full. At the limit itself V8 would end the whole process, and all other
 * workers with it; nothing in Deno can change that (`resourceLimits` of node:worker_threads is without effect).
 * @module
 */
import { getHeapSpaceStatistics, getHeapStatistics } from "node:v8";

/** The heap of an isolate, for tests. */
export interface Heap {
  /** Bytes in use, young objects aside, which have a space of their own. */
  usedBytes(): number;
  /** Bytes at which V8 gives up, young objects aside: `--max-old-space-size`, or V8's own choice. */
  limitBytes(): number;
  /** Returns how to ask whether there has been a full collection since. */
  watchCollection(): () => boolean;
}

/** The share of the limit past which a heap is as good as full. */
const FULL_SHARE = 0.85;
const MIB = 1024 * 1024;
// Part of V8's `heap_size_limit`: three semi-spaces of the size in the flag `--max-semi-space-size=16` of all commands.
const YOUNG_BYTES = 3 * 16 * MIB;

/** This isolate's heap. Needs no permission. */
export class V8Heap implements Heap {
  // Old by the time it is let go: only a full collection takes an old object away, and clears a weak reference to it.
  #witness = {};

  usedBytes(): number {
    return getHeapSpaceStatistics().reduce(
      (sum, { space_name, space_used_size }) => space_name.startsWith("new_") ? sum : sum + space_used_size,
      0,
    );
  }

  limitBytes(): number {
    return getHeapStatistics().heap_size_limit - YOUNG_BYTES;
  }

  watchCollection(): () => boolean {
    const witness = new WeakRef(this.#witness);
    this.#witness = {};
    return () => witness.deref() === undefined;
  }
}

/**
 * Makes what is to be called now and then.
 *
 * @returns a function that throws an `Error`, which says used bytes, limit and what to do, when the heap is past the
 * share although there was a full collection since it was first seen there
 */
export function heapGuard(heap: Heap = new V8Heap()): () => void {
  let collected: (() => boolean) | undefined;
  return () => {
    const [usedBytes, limitBytes] = [heap.usedBytes(), heap.limitBytes()];
    if (usedBytes < FULL_SHARE * limitBytes) collected = undefined;
    else if (collected === undefined) collected = heap.watchCollection();
    else if (collected()) {
      throw new Error(
        `The heap is full: ${mebibytes(usedBytes)} MiB of ${mebibytes(limitBytes)} MiB are in use after a ` +
          "collection; raise the limit with --v8-flags=--max-old-space-size=MIB, or have more workers",
      );
    }
  };
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / MIB);
}

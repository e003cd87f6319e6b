/**
 * Holds what is live and waits until it has ended.
 * @module
 */

/** Something live that can be told to end. */
export interface Drainable {
  shutDown(): void;
}

/** The live connections of one worker. */
export class Drain {
  readonly #live = new Set<Drainable>();
  #empty: PromiseWithResolvers<void> | undefined;

  /** How many are live. */
  get live(): number {
    return this.#live.size;
  }

  /** One more is live. */
  enter(member: Drainable): void {
    this.#live.add(member);
  }

  /** One has ended. Later calls for the same do nothing. */
  leave(member: Drainable): void {
    if (this.#live.delete(member) && this.#live.size === 0) {
      this.#empty?.resolve();
      this.#empty = undefined;
    }
  }

  /** Tells all that are left to end. */
  shutDown(): void {
    for (const member of this.#live) member.shutDown();
  }

  /**
   * Waits until none is live.
   *
   * @param signal ends the wait
   * @returns whether none is live
   */
  async wait(signal: AbortSignal): Promise<boolean> {
    if (this.#live.size === 0) return true;
    this.#empty ??= Promise.withResolvers();
    await raceAbort(this.#empty.promise, signal);
    return this.#live.size === 0;
  }
}

/** Waits for a promise, but no longer than until the signal aborts. Rejects only as the promise does. */
export async function raceAbort(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const aborted = Promise.withResolvers<void>();
  const abort = () => aborted.resolve();
  signal.addEventListener("abort", abort, { once: true });
  try {
    await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}

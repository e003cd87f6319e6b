/**
 * The live connections of one worker, and the wait for their end.
 * @module
 */

/** A connection as its set knows it. */
interface Member {
  /** When it began. */
  readonly startedMs: number;
  /** Ends it with a word. */
  shutDown(): void;
  /** Ends it with a word, since it has lasted too long. May be called again. */
  outlived(): void;
  /** Ends it without one. */
  close(): void;
}

/** See the module. */
export class ConnectionSet {
  readonly #live = new Set<Member>();
  #onEmpty: (() => void) | undefined;

  /** How many are live. */
  get size(): number {
    return this.#live.size;
  }

  /** When the one began that is live for the longest time; `undefined` if none is. */
  get oldestStartedMs(): number | undefined {
    return this.#live.values().next().value?.startedMs; // a Set keeps the order in which they came
  }

  /** One more is live. */
  add(connection: Member): void {
    this.#live.add(connection);
  }

  /** One has ended. Later calls for the same do nothing. */
  delete(connection: Member): void {
    if (this.#live.delete(connection) && this.#live.size === 0) this.#onEmpty?.();
  }

  /** Ends those with a word that began then or before; returns when the first one began that is left. */
  outlive(startedMs: number): number | undefined {
    for (const connection of this.#live) {
      if (connection.startedMs > startedMs) return connection.startedMs;
      connection.outlived();
    }
    return undefined;
  }

  /** Tells all that are left to end. */
  shutDown(): void {
    for (const connection of this.#live) connection.shutDown();
  }

  /** Closes all that are left at once. */
  close(): void {
    for (const connection of this.#live) connection.close();
  }

  /**
   * Waits until none is live. One wait at a time.
   *
   * @param signal ends the wait
   * @returns whether none is live
   */
  async untilEmpty(signal: AbortSignal): Promise<boolean> {
    // Another one may have come before the wait for the last one goes on.
    while (this.#live.size > 0 && !signal.aborted) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const stop = () => resolve();
      this.#onEmpty = stop;
      signal.addEventListener("abort", stop);
      await promise;
      signal.removeEventListener("abort", stop);
      this.#onEmpty = undefined;
    }
    return this.#live.size === 0;
  }
}

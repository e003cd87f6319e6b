/**
 * The longest that a stream may last. One timer for all: connections are kept in the order in which they came, so the
 * oldest is the next that is due.
 * @module
 */

/** The live connections, the oldest first. */
export interface Aging {
  /**
   * Ends those with a word that began then or before.
   *
   * @returns when the first one began that is left; `undefined` if none is
   */
  outlive(startedMs: number): number | undefined;
}

/** The clock and a timer, for tests. */
export interface LimitTiming {
  /** Milliseconds, monotonic: the clock by which connections began. */
  now(): number;
  /** Calls back once; returns how to prevent it. */
  after(delayMs: number, callback: () => void): () => void;
}

const SYSTEM: LimitTiming = {
  now: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/** At least so long from one look to the next, so that those who came together end together. */
const LEAST_PAUSE_MS = 50;

/** See the module. */
export class StreamLimit {
  readonly #connections: Aging;
  readonly #timing: LimitTiming;
  #maxMs = 0;
  #stop: (() => void) | undefined;

  constructor(connections: Aging, timing: LimitTiming = SYSTEM) {
    this.#connections = connections;
    this.#timing = timing;
  }

  /** Holds from now on, also for those that are live. @param maxMs 0: as long as they like */
  set(maxMs: number): void {
    this.#maxMs = maxMs;
    this.#stop?.();
    this.#stop = undefined;
    if (maxMs > 0) this.#look();
  }

  // Whoever comes after a look is due no earlier than `maxMs` after it.
  readonly #look = (): void => {
    const nowMs = this.#timing.now();
    const oldestMs = this.#connections.outlive(nowMs - this.#maxMs) ?? nowMs;
    this.#stop = this.#timing.after(Math.max(LEAST_PAUSE_MS, oldestMs + this.#maxMs - nowMs), this.#look);
  };
}

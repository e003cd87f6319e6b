/**
 * A clock and a timer that a test moves.
 * @module
 */
import type { Timing } from "../../src/deadlines.ts";

/** Time stands still until {@linkcode FakeTiming.advance}. */
export class FakeTiming implements Timing {
  #now = 0;
  #timers: { at: number; callback: () => void }[] = [];
  /** How many timers were ever started. */
  started = 0;

  now(): number {
    return this.#now;
  }

  schedule(callback: () => void, delayMs: number): () => void {
    const timer = { at: this.#now + delayMs, callback };
    this.#timers.push(timer);
    this.started++;
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer));
  }

  /** Timers under way. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Lets so many milliseconds pass, with what is due on the way. */
  advance(ms: number): void {
    const until = this.#now + ms;
    while (true) {
      const [next] = this.#timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers = this.#timers.filter((each) => each !== next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
    }
    this.#now = until;
  }
}

/**
 * A clock and a timer that a test moves.
 * @module
 */
import type { Timing } from "../../src/timing/timer_wheel.ts";

/** Time stands still until {@linkcode FakeTiming.advance}. */
export class FakeTiming implements Timing {
  #now = 0;
  #timers: { at: number; periodMs: number; callback: () => void }[] = [];
  /** How many timers were ever started. */
  started = 0;

  now(): number {
    return this.#now;
  }

  every(periodMs: number, callback: () => void): () => void {
    const timer = { at: this.#now + periodMs, periodMs, callback };
    this.#timers.push(timer);
    this.started++;
    return () => void (this.#timers = this.#timers.filter((each) => each !== timer));
  }

  /** Timers under way. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Lets so many milliseconds pass in which nothing is called back; what was due meanwhile comes once, at the end. */
  oversleep(ms: number): void {
    this.#now += ms;
    for (const timer of this.#timers) timer.at = Math.max(timer.at, this.#now);
  }

  /** Lets so many milliseconds pass, with what is due on the way. */
  advance(ms: number): void {
    const until = this.#now + ms;
    while (true) {
      const [next] = this.#timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#now = Math.max(this.#now, next.at);
      next.at += next.periodMs;
      next.callback();
    }
    this.#now = until;
  }
}

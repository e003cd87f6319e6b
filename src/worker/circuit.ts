/**
 * Whether a backend is asked at all: where it has failed too often in a row it is left alone for a while, and then one
 * request tries whether it answers again.
 * @module
 */

/** How many failures it takes, and what follows. */
export interface CircuitLimits {
  /** In a row; 0: it is always asked. */
  readonly failures: number;
  /** The time within which they count. */
  readonly withinMs: number;
  /** How long it is left alone. */
  readonly pauseMs: number;
}

/** See the module. Times are milliseconds of one clock. */
export class Circuit {
  readonly #limits: CircuitLimits;
  readonly #changed: (open: boolean) => void;
  #failures = 0;
  #firstFailureMs = 0;
  /** When the next trial may be; undefined: it is closed. */
  #pausedUntilMs: number | undefined;
  #trying = false;

  /** @param changed is told when it opens and when it closes */
  constructor(limits: CircuitLimits, changed: (open: boolean) => void) {
    this.#limits = limits;
    this.#changed = changed;
  }

  /** Whether the backend is left alone. */
  get open(): boolean {
    return this.#pausedUntilMs !== undefined;
  }

  /** Whether it may be asked now. */
  mayAsk(nowMs: number): boolean {
    return this.#pausedUntilMs === undefined || (!this.#trying && nowMs >= this.#pausedUntilMs);
  }

  /**
   * It is asked, and may be.
   *
   * @returns whether this is the trial, of which one of the three below has to be said
   */
  ask(): boolean {
    if (this.#pausedUntilMs === undefined) return false;
    return this.#trying = true;
  }

  /** It has given a first event. */
  succeeded(): void {
    this.#failures = 0;
    this.#trying = false;
    if (this.#pausedUntilMs === undefined) return;
    this.#pausedUntilMs = undefined;
    this.#changed(false);
  }

  /** It has failed before that. */
  failed(nowMs: number, trial: boolean): void {
    const { failures, withinMs, pauseMs } = this.#limits;
    if (failures === 0) return;
    if (this.#pausedUntilMs !== undefined) {
      if (!trial) return; // asked before it opened
      this.#trying = false;
      this.#pausedUntilMs = nowMs + pauseMs;
      return;
    }
    if (this.#failures === 0 || nowMs - this.#firstFailureMs > withinMs) {
      this.#failures = 0;
      this.#firstFailureMs = nowMs;
    }
    if (++this.#failures < failures) return;
    this.#pausedUntilMs = nowMs + pauseMs;
    this.#changed(true);
  }

  /** The trial was given up without either: the next request is another one. */
  abandoned(): void {
    this.#trying = false;
  }
}

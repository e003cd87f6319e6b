/**
 * Coalescing of what comes from providers, as network cards coalesce interrupts: where turns of the event loop follow
 * each other closely, each with a few bytes, the worker rests a moment, so that the next one finds more to do.
 * @module
 */

/** What it is made of. */
export interface ReadCoalescerParts {
  /** Blocks the isolate for so many milliseconds; a new handoff ends it earlier. */
  rest(ms: number): void;
  /** Milliseconds, monotonic. */
  now?(): number;
  /** Calls back once this turn of the event loop is over. */
  afterTurn?(callback: () => void): void;
}

/** How long a rest is, and how closely turns follow each other where there is one: a turn costs about 0.1 ms. */
const REST_MS = 4;
/** Deno hands on 128 reads in a turn at most: after so many, more may be there already. */
const FULL_TURN = 64;

/**
 * At most one rest in each turn, and none after a turn that took as long by itself or was full: then what comes has
 * gathered anyway. So a single stream never meets one, and no event is later than by {@linkcode REST_MS}.
 */
export class ReadCoalescer {
  readonly #rest: (ms: number) => void;
  readonly #now: () => number;
  readonly #afterTurn: (callback: () => void) => void;
  /** How often something came in this turn. */
  #came = 0;
  #lastEndMs = -Infinity;

  constructor({ rest, now = () => performance.now(), afterTurn = setImmediate }: ReadCoalescerParts) {
    this.#rest = rest;
    this.#now = now;
    this.#afterTurn = afterTurn;
  }

  /** Something came in this turn. */
  received(): void {
    if (this.#came++ === 0) this.#afterTurn(this.#turnOver);
  }

  readonly #turnOver = (): void => {
    const isFull = this.#came >= FULL_TURN;
    this.#came = 0;
    const follows = this.#now() - this.#lastEndMs < REST_MS;
    if (follows && !isFull) this.#rest(REST_MS);
    this.#lastEndMs = this.#now();
  };
}

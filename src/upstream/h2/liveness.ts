/**
 * Whether a silent server is still there: when to send a PING, and when to give it up. Told the time; no I/O.
 * @module
 */

/** The longest wait for the answer to a PING, where the interval of pings is not shorter. */
const ANSWER_MS = 5_000;
/** A connection that was silent for so long gets no new stream before it has answered a PING, */
const DOUBT_AFTER_MS = 5_000;
/** within this time. */
const DOUBT_MS = 2_000;

/** What is to be done now. */
export type Verdict = "alive" | "ask" | "dead";

/** One connection's. All times are `performance.now()`'s. */
export class Liveness {
  readonly #intervalMs: number;
  #heardMs: number;
  #askedMs: number | null = null;
  #waitMs = 0;
  #doubted = false;

  /** @param intervalMs silence before a PING while streams run; 0: no pings at all */
  constructor(intervalMs: number, nowMs: number) {
    this.#intervalMs = intervalMs;
    this.#heardMs = nowMs;
  }

  /** Bytes have come. */
  heard(nowMs: number): void {
    this.#heardMs = nowMs;
    if (!this.#doubted) this.#askedMs = null;
  }

  /** The answer to a PING has come. */
  answered(): void {
    this.#askedMs = null;
    this.#doubted = false;
  }

  /** No new stream may begin before the server has answered. */
  get doubted(): boolean {
    return this.#doubted;
  }

  /** Whether a new stream has to wait for an answer first. */
  doubts(nowMs: number): boolean {
    return this.#intervalMs > 0 && nowMs - this.#heardMs >= Math.min(DOUBT_AFTER_MS, this.#intervalMs);
  }

  /** A PING goes out on behalf of a new stream. @returns how long to wait for its answer */
  doubt(nowMs: number): number {
    this.#doubted = true;
    this.#askedMs = nowMs;
    return this.#waitMs = Math.min(DOUBT_MS, this.#intervalMs);
  }

  /** @param running streams wait for the server */
  look(nowMs: number, running: boolean): Verdict {
    if (this.#askedMs !== null) return nowMs - this.#askedMs >= this.#waitMs ? "dead" : "alive";
    if (this.#intervalMs === 0 || !running || nowMs - this.#heardMs < this.#intervalMs) return "alive";
    this.#askedMs = nowMs;
    this.#waitMs = Math.min(ANSWER_MS, this.#intervalMs);
    return "ask";
  }

  /** For messages. */
  get waitMs(): number {
    return this.#waitMs;
  }
}

/**
 * Sums up warnings and errors that come again and again, so that a flood of refusals or failures costs no more than its
 * first lines.
 * @module
 */

/** Equal lines that are written within a second; what comes beyond is counted. */
const MAX_EQUAL = 10;
const WINDOW_MS = 1000;
/** Kinds of lines that are told apart. Messages are texts of the code; the bound is for what a text may hold. */
const MAX_KINDS = 256;

interface Kind {
  count: number;
  /** Writes the sum of what was not written. */
  readonly sumUp: (more: number) => void;
}

/** Counts the lines of one log. */
export class Floods {
  readonly #kinds = new Map<string, Kind>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /**
   * Whether to write a line of this kind.
   *
   * @param sumUp called at the end of the second if there were more than are written
   */
  admits(key: string, sumUp: (more: number) => void): boolean {
    let kind = this.#kinds.get(key);
    if (kind === undefined) {
      if (this.#kinds.size === MAX_KINDS) this.end();
      kind = { count: 0, sumUp };
      this.#kinds.set(key, kind);
      if (this.#timer === undefined) {
        this.#timer = setTimeout(() => this.end(), WINDOW_MS);
        Deno.unrefTimer(this.#timer);
      }
    }
    return ++kind.count <= MAX_EQUAL;
  }

  /** Ends the second: tells the sums. */
  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const kinds = [...this.#kinds.values()];
    this.#kinds.clear();
    for (const { count, sumUp } of kinds) if (count > MAX_EQUAL) sumUp(count - MAX_EQUAL);
  }
}

/**
 * Ids for what came without one, so that its log lines can be told from others.
 * @module
 */

/** Unique over restarts by chance, and cheap: random digits for the process, a name for the place, then a count. */
export class RequestIds {
  readonly #prefix: string;
  #count = 0;

  /** @param place such as the number of a worker */
  constructor(place: string) {
    this.#prefix = `${crypto.randomUUID().slice(0, 8)}-${place}`;
  }

  /** One that was not there before. */
  next(): string {
    return `${this.#prefix}-${(++this.#count).toString(36)}`;
  }
}

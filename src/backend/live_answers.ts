/**
 * The answers of a backend that are under way, counted, so that its end can wait for theirs.
 * @module
 */

/** See the module. */
export class LiveAnswers {
  #count = 0;
  #none: PromiseWithResolvers<void> | undefined;

  /** One more is under way. */
  began(): void {
    this.#count++;
  }

  /** One has had its last event, or was cancelled. */
  ended(): void {
    if (--this.#count === 0) this.#none?.resolve();
  }

  /** Resolves once none is under way. None may begin after this is asked for. */
  async none(): Promise<void> {
    if (this.#count > 0) await (this.#none ??= Promise.withResolvers()).promise;
  }
}

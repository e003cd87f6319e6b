/**
 * How many streams of a worker a backend may have at a time, and who waits for a place. Those that wait are fair to one
 * another by user: whose turn it is changes with each place, however many one user has waiting.
 * @module
 */

/** One that waits. */
export interface Waiter {
  /** Whose it is; all without one are one user's. */
  readonly userId: string | undefined;
  /** It has a place now, which {@linkcode Gate.leave} gives back. */
  admitted(): void;
  /** It has lost its place in the queue to a user who has fewer there. */
  displaced(): void;
}

/** See the module. */
export class Gate {
  #most = Infinity;
  #mostWaiting = 0;
  #inside = 0;
  #waiting = 0;
  #admitting = false;
  /** Those that wait, in order, by user; the users in the order of their turns. */
  readonly #users = new Map<string | undefined, Set<Waiter>>();

  /**
   * Holds from now on; whoever has a place keeps it.
   *
   * @param most streams at a time; 0: any number
   * @param mostWaiting how many may wait
   */
  set(most: number, mostWaiting: number): void {
    this.#most = most === 0 ? Infinity : most;
    this.#mostWaiting = mostWaiting;
    this.#admit();
  }

  /** How many wait. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Takes a place, if there is one that nobody waits for. */
  enter(): boolean {
    if (this.#waiting > 0 || this.#inside >= this.#most) return false;
    this.#inside++;
    return true;
  }

  /** Waits, if the queue has room, or somebody in it has more in it than this one's user. */
  wait(waiter: Waiter): boolean {
    const { userId } = waiter;
    let displaced: Waiter | undefined;
    if (this.#waiting >= this.#mostWaiting) {
      displaced = this.#lastOfLargest(this.#users.get(userId)?.size ?? 0);
      if (displaced === undefined) return false;
      this.giveUp(displaced);
    }
    this.#waiting++;
    const others = this.#users.get(userId);
    if (others === undefined) this.#users.set(userId, new Set([waiter]));
    else others.add(waiter);
    displaced?.displaced(); // last: what it does may well come back to this queue
    return true;
  }

  /** Gives a place back. */
  leave(): void {
    this.#inside--;
    this.#admit();
  }

  /** Waits no more. */
  giveUp(waiter: Waiter): void {
    const own = this.#users.get(waiter.userId);
    if (own === undefined || !own.delete(waiter)) return;
    this.#waiting--;
    if (own.size === 0) this.#users.delete(waiter.userId);
  }

  // One that is admitted may give its place back at once, as all do where a circuit has opened: a round of the loop, and
  // not a call within the call.
  #admit(): void {
    if (this.#admitting) return;
    this.#admitting = true;
    while (this.#inside < this.#most) {
      const [turn] = this.#users;
      if (turn === undefined) break;
      const [userId, own] = turn;
      const [first] = [...own.values().take(1)];
      this.giveUp(first as Waiter);
      if (own.size > 0) {
        // The next turn is another user's.
        this.#users.delete(userId);
        this.#users.set(userId, own);
      }
      this.#inside++;
      (first as Waiter).admitted();
    }
    this.#admitting = false;
  }

  /** The last one of the user who has the most, if that user would without it still have no fewer than this one. */
  #lastOfLargest(ownCount: number): Waiter | undefined {
    let largest: Set<Waiter> | undefined;
    for (const each of this.#users.values()) {
      if (each.size > (largest?.size ?? 0)) largest = each;
    }
    return largest === undefined || largest.size <= ownCount + 1 ? undefined : [...largest].at(-1);
  }
}

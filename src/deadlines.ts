/**
 * Many time-outs on one native timer. A native timer for each connection costs close to a kilobyte; these
 * deadlines are mostly moved or cancelled before they are reached.
 * @module
 */

/** A moment at which something is to happen unless it is moved or cancelled first. */
export interface Deadline {
  /** Moves it: the whole delay from now on. Does nothing if it was reached or cancelled. */
  extend(): void;
  /** It will not be reached. Later calls do nothing. */
  cancel(): void;
}

/** Who hears that a deadline was reached. A method call on an object that exists costs no closure. */
export interface DeadlineOwner {
  /** Called once; must not throw. */
  deadlineReached(): void;
}

/** The clock and the timer, for tests. */
export interface Timing {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Calls back once, after a delay in milliseconds; returns how to undo it. */
  schedule(callback: () => void, delayMs: number): () => void;
}

const SYSTEM: Timing = {
  now: () => performance.now(),
  schedule: (callback, delayMs) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/**
 * Deadlines that are reached at most `resolutionMs` late. Those of one delay form a list that is in the order of their
 * moments by itself, so that adding, moving and cancelling take constant time. No timer runs while there are none.
 */
export class Deadlines {
  readonly #lists = new Map<number, Node>();
  readonly #resolutionMs: number;
  readonly #timing: Timing;
  #unschedule: (() => void) | undefined;
  #wakesAt = Infinity;

  /** @param resolutionMs how late a deadline may be, in milliseconds: what the timer is coarsened to */
  constructor(resolutionMs: number, timing: Timing = SYSTEM) {
    this.#resolutionMs = resolutionMs;
    this.#timing = timing;
  }

  /** A deadline `delayMs` milliseconds from now. */
  after(delayMs: number, owner: DeadlineOwner): Deadline {
    let list = this.#lists.get(delayMs);
    if (list === undefined) this.#lists.set(delayMs, list = new Node(this, delayMs, undefined));
    const node = new Node(this, delayMs, owner);
    this.append(node, list);
    return node;
  }

  /** For {@linkcode Deadline.extend}. */
  append(node: Node, list = this.#lists.get(node.delayMs) as Node): void {
    node.dueAt = this.#timing.now() + node.delayMs;
    node.insertBefore(list);
    if (node.dueAt < this.#wakesAt) this.#schedule(node.dueAt);
  }

  #schedule(dueAt: number): void {
    this.#unschedule?.();
    const now = this.#timing.now();
    this.#wakesAt = Math.max(dueAt, now + this.#resolutionMs);
    this.#unschedule = this.#timing.schedule(this.#wake, this.#wakesAt - now);
  }

  readonly #wake = (): void => {
    this.#unschedule = undefined;
    this.#wakesAt = Infinity;
    const now = this.#timing.now();
    let earliest = Infinity;
    for (const [delayMs, list] of this.#lists) {
      let node = list.next;
      while (node !== list && node.dueAt <= now) {
        node.cancel();
        node.owner?.deadlineReached();
        node = list.next;
      }
      if (node !== list) earliest = Math.min(earliest, node.dueAt);
      else this.#lists.delete(delayMs); // a reload may change the delays for good
    }
    if (earliest < this.#wakesAt) this.#schedule(earliest);
  };
}

/** A deadline in its list; without an owner, the ring's head. */
class Node implements Deadline {
  dueAt = 0;
  next: Node = this;
  #previous: Node = this;
  readonly #deadlines: Deadlines;
  readonly delayMs: number;
  readonly owner: DeadlineOwner | undefined;

  constructor(deadlines: Deadlines, delayMs: number, owner: DeadlineOwner | undefined) {
    this.#deadlines = deadlines;
    this.delayMs = delayMs;
    this.owner = owner;
  }

  insertBefore(node: Node): void {
    this.next = node;
    this.#previous = node.#previous;
    node.#previous.next = this;
    node.#previous = this;
  }

  extend(): void {
    if (this.next === this) return;
    this.cancel();
    this.#deadlines.append(this);
  }

  cancel(): void {
    this.#previous.next = this.next;
    this.next.#previous = this.#previous;
    this.next = this;
    this.#previous = this;
  }
}

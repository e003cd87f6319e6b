/**
 * Many time-outs on one native timer. A native timer for each connection costs close to a kilobyte; these
 * deadlines are mostly moved or cancelled before they are reached.
 * @module
 */

/** A moment at which something is to happen unless it is moved or cancelled first. */
export interface Deadline {
  /** Moves it: the whole delay from now on. One that was reached or cancelled is set anew. */
  extend(): void;
  /**
   * Sets one that was reached anew: the whole delay after the moment that it was meant for, which keeps a pace. From now
   * on if that is half of the delay past.
   */
  repeat(): void;
  /** It will not be reached. */
  cancel(): void;
}

/** Who hears that a deadline was reached. A method call on an object that exists costs no closure. */
export interface DeadlineOwner {
  /** Called each time it is reached; must not throw. */
  deadlineReached(): void;
}

/** The clock and the timer, for tests. */
export interface Timing {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Calls back again and again, so many milliseconds apart; returns how to stop it. */
  every(periodMs: number, callback: () => void): () => void;
}

const SYSTEM: Timing = {
  now: () => performance.now(),
  every: (periodMs, callback) => {
    const timer = setInterval(callback, periodMs);
    return () => clearInterval(timer);
  },
};

const SLOTS = 1024;

/**
 * Deadlines on a hashed timing wheel (Varghese and Lauck, 1987): never reached early, and at most two ticks late. To
 * extend one is to change a number: it stays in its slot, and moves on when that slot's time has come. While there are
 * any, one interval turns the wheel: to set a timer anew for each turn costs half as much again.
 */
export class Deadlines {
  readonly #tickMs: number;
  readonly #timing: Timing;
  readonly #slots: Node[];
  /** The last tick whose slot was handled. */
  #tick = 0;
  #live = 0;
  #turning = false;
  #stop: (() => void) | undefined;

  /** @param tickMs the resolution, in milliseconds */
  constructor(tickMs: number, timing: Timing = SYSTEM) {
    this.#tickMs = tickMs;
    this.#timing = timing;
    this.#slots = Array.from({ length: SLOTS }, () => new Node(this, 0, undefined));
  }

  /** A deadline `delayMs` milliseconds from now. */
  after(delayMs: number, owner: DeadlineOwner): Deadline {
    const node = new Node(this, delayMs, owner);
    node.extend();
    return node;
  }

  /** For {@linkcode Node}. */
  nowMs(): number {
    return this.#timing.now();
  }

  /** For {@linkcode Node}: says when one is due, and puts it into its slot if it is in none. */
  set(node: Node): void {
    node.dueTick = Math.ceil(node.dueMs / this.#tickMs);
    if (node.isAlone) this.#insert(node);
  }

  #insert(node: Node): void {
    if (this.#live++ === 0 && this.#stop === undefined) {
      this.#tick = this.#now();
      this.#stop = this.#timing.every(this.#tickMs, this.#turn);
    }
    // Its time may have come in the turn that is under way; that slot is looked at again in the next one.
    node.insertBefore(this.#slots[Math.max(node.dueTick, this.#tick + 1) % SLOTS] as Node);
  }

  /** For {@linkcode Deadline.cancel}: one has left its slot. */
  removed(): void {
    this.#live--;
    this.#stopIfEmpty();
  }

  // Not in the middle of a turn, which may well set anew what it has reached.
  #stopIfEmpty(): void {
    if (this.#live > 0 || this.#turning) return;
    this.#stop?.();
    this.#stop = undefined;
  }

  #now(): number {
    return Math.floor(this.#timing.now() / this.#tickMs);
  }

  readonly #turn = (): void => {
    this.#turning = true;
    const now = this.#now();
    const due = new Node(this, 0, undefined);
    // After a long sleep each slot is looked at once.
    for (let tick = Math.max(this.#tick + 1, now - SLOTS + 1); tick <= now; tick++) {
      due.takeAll(this.#slots[tick % SLOTS] as Node);
    }
    this.#tick = now;
    for (let node = due.next; node !== due; node = due.next) {
      node.cancel();
      if (node.dueTick > now) this.#insert(node);
      else node.owner?.deadlineReached();
    }
    this.#turning = false;
    this.#stopIfEmpty();
  };
}

/** A deadline in its ring; without an owner, a ring's head. */
class Node implements Deadline {
  dueMs = 0;
  dueTick = 0;
  next: Node = this;
  #previous: Node = this;
  readonly #deadlines: Deadlines;
  readonly #delayMs: number;
  readonly owner: DeadlineOwner | undefined;

  constructor(deadlines: Deadlines, delayMs: number, owner: DeadlineOwner | undefined) {
    this.#deadlines = deadlines;
    this.#delayMs = delayMs;
    this.owner = owner;
  }

  /** Whether it is in no ring, or its ring holds nothing else. */
  get isAlone(): boolean {
    return this.next === this;
  }

  insertBefore(node: Node): void {
    this.next = node;
    this.#previous = node.#previous;
    node.#previous.next = this;
    node.#previous = this;
  }

  /** Moves all that hang on another head to the end of this one's ring. */
  takeAll(head: Node): void {
    if (head.isAlone) return;
    head.next.#previous = this.#previous;
    this.#previous.next = head.next;
    head.#previous.next = this;
    this.#previous = head.#previous;
    head.next = head;
    head.#previous = head;
  }

  extend(): void {
    this.dueMs = this.#deadlines.nowMs() + this.#delayMs;
    this.#deadlines.set(this);
  }

  repeat(): void {
    const nowMs = this.#deadlines.nowMs();
    this.dueMs = (nowMs - this.dueMs > this.#delayMs / 2 ? nowMs : this.dueMs) + this.#delayMs;
    this.#deadlines.set(this);
  }

  cancel(): void {
    if (this.isAlone) return;
    this.#deadlines.removed();
    this.#previous.next = this.next;
    this.next.#previous = this.#previous;
    this.next = this;
    this.#previous = this;
  }
}

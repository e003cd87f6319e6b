/**
 * Many time-outs on one native timer. A native timer for each connection costs close to a kilobyte; these
 * deadlines are mostly moved or cancelled before they are reached.
 * @module
 */

/** A moment at which something is to happen unless it is moved or cancelled first. */
export interface Deadline {
  /** Moves it: the whole delay from now on. One that was reached or cancelled is set anew. */
  extend(): void;
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

const SLOTS = 1024;
const LOOK_AHEAD = 64;

/**
 * Deadlines on a hashed timing wheel (Varghese and Lauck, 1987): never reached early, and at most one tick late. To
 * extend one is to change a number: it stays in its slot, and moves on when that slot's time has come. The timer sleeps
 * until the next slot that holds any, and does not run while there are none.
 */
export class Deadlines {
  readonly #tickMs: number;
  readonly #timing: Timing;
  readonly #slots: Node[];
  /** The last tick whose slot was handled. */
  #tick: number;
  /** When the timer wakes; not to be set during a turn, which sets it at its end. */
  #wakeTick = Infinity;
  #live = 0;
  #unschedule: (() => void) | undefined;

  /** @param tickMs the resolution, in milliseconds */
  constructor(tickMs: number, timing: Timing = SYSTEM) {
    this.#tickMs = tickMs;
    this.#timing = timing;
    this.#slots = Array.from({ length: SLOTS }, () => new Node(this, 0, undefined));
    this.#tick = Math.floor(timing.now() / tickMs);
  }

  /** A deadline `delayMs` milliseconds from now. */
  after(delayMs: number, owner: DeadlineOwner): Deadline {
    const node = new Node(this, delayMs, owner);
    node.extend();
    return node;
  }

  /** For {@linkcode Deadline.extend}: the tick by which so many milliseconds from now have passed. */
  tickAfter(delayMs: number): number {
    return Math.ceil((this.#timing.now() + delayMs) / this.#tickMs);
  }

  /** For {@linkcode Deadline.extend}: puts one into its slot. */
  insert(node: Node): void {
    node.insertBefore(this.#slots[node.dueTick % SLOTS] as Node);
    this.#live++;
    if (node.dueTick < this.#wakeTick) this.#sleepUntil(node.dueTick);
  }

  /** For {@linkcode Deadline.cancel}: one has left its slot. */
  removed(): void {
    if (--this.#live > 0 || this.#wakeTick === -Infinity) return;
    this.#unschedule?.();
    this.#wakeTick = Infinity;
  }

  #sleepUntil(tick: number): void {
    this.#unschedule?.();
    this.#wakeTick = tick;
    this.#unschedule = this.#timing.schedule(
      this.#turn,
      Math.max(0, Math.ceil(tick * this.#tickMs - this.#timing.now())),
    );
  }

  readonly #turn = (): void => {
    this.#wakeTick = -Infinity;
    const now = Math.floor(this.#timing.now() / this.#tickMs);
    const due = new Node(this, 0, undefined);
    // After a long sleep each slot is looked at once.
    for (let tick = Math.max(this.#tick + 1, now - SLOTS + 1); tick <= now; tick++) {
      due.takeAll(this.#slots[tick % SLOTS] as Node);
    }
    this.#tick = now;
    for (let node = due.next; node !== due; node = due.next) {
      node.cancel();
      if (node.dueTick > now) this.insert(node);
      else node.owner?.deadlineReached();
    }
    this.#wakeTick = Infinity;
    this.#unschedule = undefined;
    if (this.#live > 0) this.#sleepUntil(this.#nextTick());
  };

  // Of the next slot that holds any, as far as one looks. If they belong to another round, the timer wakes in vain.
  #nextTick(): number {
    let tick = this.#tick + 1;
    while (tick < this.#tick + LOOK_AHEAD && this.#slots[tick % SLOTS]?.isAlone) tick++;
    return tick;
  }
}

/** A deadline in its ring; without an owner, a ring's head. */
class Node implements Deadline {
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
    this.dueTick = this.#deadlines.tickAfter(this.#delayMs);
    if (this.isAlone) this.#deadlines.insert(this);
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

/**
 * Many time-outs on one native timer, which for each connection would cost close to a kilobyte. They are mostly moved
 * or cancelled before they are reached.
 * @module
 */
import { turnNow } from "./turn_clock.ts";

/** The clock and the timer, for tests. */
export interface Timing {
  /** Milliseconds, monotonic. */
  now(): number;
  /** Calls back again and again, so many milliseconds apart; returns how to stop it. */
  every(periodMs: number, callback: () => void): () => void;
}

const SYSTEM: Timing = {
  now: turnNow,
  every: (periodMs, callback) => {
    const timer = setInterval(callback, periodMs);
    return () => clearInterval(timer);
  },
};

/**
 * Something that a wheel can call at a moment. It is a base class, so that an object which waits and its time-out are
 * one object. It is on one wheel at a time; only the wheel touches its fields.
 */
export abstract class Timer {
  /** Milliseconds of the wheel's clock. */
  dueMs = 0;
  /** When the wheel looks at it next: its slot's tick, which is not after the tick that it is due at. */
  lookTick = 0;
  next: Timer = this;
  previous: Timer = this;

  /** The moment has come. Called by the wheel; must not throw. */
  abstract timedOut(): void;
}

/** The head of a slot's ring. */
class Slot extends Timer {
  timedOut(): void {}
}

const SLOTS = 1024;

/**
 * A hashed timing wheel (Varghese and Lauck, 1987): nothing is reached early, and at most two ticks late. To move a
 * timer to a later moment is to change a number: it stays in its slot, and moves on when that slot's time has come.
 * While there are any, one interval turns the wheel: to set a native timer anew for each turn costs half as much again.
 */
export class TimerWheel {
  readonly #tickMs: number;
  readonly #timing: Timing;
  readonly #slots: Slot[] = Array.from({ length: SLOTS }, () => new Slot());
  /** The last tick whose slot was handled. */
  #tick = 0;
  #live = 0;
  #turning = false;
  #stop: (() => void) | undefined;

  /** @param tickMs the resolution, in milliseconds */
  constructor(tickMs: number, timing: Timing = SYSTEM) {
    this.#tickMs = tickMs;
    this.#timing = timing;
  }

  /** Milliseconds of its clock. */
  now(): number {
    return this.#timing.now();
  }

  /** Sets a timer, or moves one that is set: the whole delay from now on. */
  set(timer: Timer, delayMs: number): void {
    this.#place(timer, this.#timing.now() + delayMs);
  }

  /**
   * Sets a timer that was reached anew: the whole delay after the moment that it was meant for, which keeps a pace.
   * From now on if that is half of the delay past.
   */
  repeat(timer: Timer, delayMs: number): void {
    const nowMs = this.#timing.now();
    this.#place(timer, (nowMs - timer.dueMs > delayMs / 2 ? nowMs : timer.dueMs) + delayMs);
  }

  /** It will not be reached. Does nothing to one that is not set. */
  cancel(timer: Timer): void {
    if (timer.next === timer) return;
    this.#unlink(timer);
    // Not in the middle of a turn, which may well set anew what it has reached.
    if (!this.#turning) this.#stopIfEmpty();
  }

  #place(timer: Timer, dueMs: number): void {
    timer.dueMs = dueMs;
    const dueTick = Math.ceil(dueMs / this.#tickMs);
    if (timer.next !== timer) {
      if (dueTick >= timer.lookTick) return;
      this.#unlink(timer);
    }
    if (this.#live === 0 && this.#stop === undefined) {
      this.#tick = this.#nowTick();
      this.#stop = this.#timing.every(this.#tickMs, this.#turn);
    }
    this.#link(timer, dueTick);
  }

  #link(timer: Timer, dueTick: number): void {
    // Its time may have come in the turn that is under way; that slot is looked at again in the next one.
    timer.lookTick = Math.min(Math.max(dueTick, this.#tick + 1), this.#tick + SLOTS);
    const slot = this.#slots[timer.lookTick % SLOTS] as Slot;
    timer.next = slot;
    timer.previous = slot.previous;
    slot.previous.next = timer;
    slot.previous = timer;
    this.#live++;
  }

  #unlink(timer: Timer): void {
    timer.previous.next = timer.next;
    timer.next.previous = timer.previous;
    timer.next = timer;
    timer.previous = timer;
    this.#live--;
  }

  #stopIfEmpty(): void {
    if (this.#live > 0) return;
    this.#stop?.();
    this.#stop = undefined;
  }

  #nowTick(): number {
    return Math.floor(this.#timing.now() / this.#tickMs);
  }

  readonly #turn = (): void => {
    this.#turning = true;
    const nowTick = this.#nowTick();
    const due = new Slot();
    // After a long sleep each slot is looked at once.
    for (let tick = Math.max(this.#tick + 1, nowTick - SLOTS + 1); tick <= nowTick; tick++) {
      moveAll(this.#slots[tick % SLOTS] as Slot, due);
    }
    this.#tick = nowTick;
    while (due.next !== due) {
      const timer = due.next;
      this.#unlink(timer);
      const dueTick = Math.ceil(timer.dueMs / this.#tickMs);
      if (dueTick > nowTick) this.#link(timer, dueTick);
      else timer.timedOut();
    }
    this.#turning = false;
    this.#stopIfEmpty();
  };
}

/** Moves all that hang on one head to the end of another one's ring. */
function moveAll(from: Slot, to: Slot): void {
  if (from.next === from) return;
  from.next.previous = to.previous;
  to.previous.next = from.next;
  from.previous.next = to;
  to.previous = from.previous;
  from.next = from;
  from.previous = from;
}

/**
 * The outbox gathers the frames of one turn of the event loop, from all connections, so that they cross into the
 * shim together.
 * @module
 */
import type { Frame, FrameTarget } from "../protocol/sse.ts";

/** A client, and its frame of the turn under way: all that a turn has for one client goes out together. */
export interface OutboxTarget extends FrameTarget {
  frame: OpenFrame<OutboxTarget> | undefined;
}

/** A frame that may still grow. */
export interface OpenFrame<Target extends FrameTarget> extends Frame<Target> {
  text: string;
  end: boolean;
}

/** UTF-16 units that one client may have in a turn before its connection is to wait for the next. */
const CLIENT_TURN_UNITS = 16 * 1024;
/** Units at which a batch goes out without waiting for the turn's end, so that its size is bounded. */
const BATCH_UNITS = 512 * 1024;
/** Rounds of the microtask queue without anything new, after which a turn is over: a read that follows a read takes a few. */
const QUIET_ROUNDS = 6;

/**
 * Frames go in by {@linkcode Outbox.push}; {@linkcode Outbox.readable} gives them batch by batch, in order.
 *
 * A turn's frames come out of promise reactions that run one after the other, so the turn is over when the microtask
 * queue has gone round a few times and brought nothing new.
 */
export class Outbox<Target extends OutboxTarget> {
  /** One chunk per turn. */
  readonly readable: ReadableStream<readonly Frame<Target>[]>;
  #controller!: ReadableStreamDefaultController<readonly Frame<Target>[]>;
  #frames: OpenFrame<Target>[] = [];
  #units = 0;
  #additions = 0;
  #additionsSeen = 0;
  #quietRounds = 0;
  #gathering = false;
  #nextTurn: Promise<void> | undefined;

  constructor() {
    this.readable = new ReadableStream({ start: (controller) => void (this.#controller = controller) });
  }

  /**
   * Adds bytes for a client to this turn.
   *
   * @returns whether the client has had its share of the turn: then its connection awaits {@linkcode Outbox.nextTurn}
   */
  push(target: Target, text: string): boolean {
    return this.#add(target, text, false).text.length >= CLIENT_TURN_UNITS;
  }

  /** Adds a client's last bytes, after which it is closed in order. */
  pushLast(target: Target, text: string): void {
    this.#add(target, text, true);
  }

  #add(target: Target, text: string, end: boolean): OpenFrame<OutboxTarget> {
    let { frame } = target;
    if (frame === undefined) {
      frame = { target, text, end };
      target.frame = frame;
      this.#frames.push(frame as OpenFrame<Target>);
    } else {
      frame.text += text;
      frame.end ||= end;
    }
    this.#additions++;
    this.#units += text.length;
    if (this.#units >= BATCH_UNITS) this.#flush();
    else if (!this.#gathering) {
      this.#gathering = true;
      queueMicrotask(this.#gather);
    }
    return frame;
  }

  /** Resolves when the event loop has gone round, so that everybody else had a turn as well. */
  nextTurn(): Promise<void> {
    return this.#nextTurn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#nextTurn = undefined;
        resolve();
      });
    });
  }

  /** Gives out what is left and ends {@linkcode Outbox.readable}. No frame may come after it. */
  close(): void {
    this.#flush();
    this.#controller.close();
  }

  readonly #gather = (): void => {
    if (this.#additions !== this.#additionsSeen) {
      this.#additionsSeen = this.#additions;
      this.#quietRounds = 0;
    } else if (++this.#quietRounds === QUIET_ROUNDS) {
      this.#gathering = false;
      this.#quietRounds = 0;
      return this.#flush();
    }
    queueMicrotask(this.#gather);
  };

  #flush(): void {
    if (this.#frames.length === 0) return;
    for (const { target } of this.#frames) target.frame = undefined;
    this.#controller.enqueue(this.#frames);
    this.#frames = [];
    this.#units = 0;
  }
}

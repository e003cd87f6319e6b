/**
 * The outbox gathers the frames of one turn of the event loop, from all connections, so that they cross into the
 * shim together.
 * @module
 */
import type { Frame, FrameTarget } from "./sse.ts";

/** What the outbox keeps of a client: how much this turn has for it already. */
export interface OutboxTarget extends FrameTarget {
  turn: number;
  turnUnits: number;
}

/** UTF-16 units that one client may have in a turn before its connection is to wait for the next. */
const CLIENT_TURN_UNITS = 16 * 1024;
/** Units at which a batch goes out without waiting for the turn's end, so that its size is bounded. */
const BATCH_UNITS = 512 * 1024;

/**
 * Frames go in by {@linkcode Outbox.push}; {@linkcode Outbox.readable} gives them batch by batch, in order.
 *
 * A turn's frames come out of promise reactions that run one after the other, so the turn is over when the microtask
 * queue has gone round once and brought no further frame.
 */
export class Outbox<Target extends OutboxTarget> {
  /** One chunk per turn. */
  readonly readable: ReadableStream<readonly Frame<Target>[]>;
  #controller!: ReadableStreamDefaultController<readonly Frame<Target>[]>;
  #frames: Frame<Target>[] = [];
  #framesSeen = 0;
  #units = 0;
  #turn = 1;
  #gathering = false;
  #nextTurn: Promise<void> | undefined;

  constructor() {
    this.readable = new ReadableStream({ start: (controller) => void (this.#controller = controller) });
  }

  /**
   * Adds a frame to this turn.
   *
   * @returns whether the client has had its share of the turn: then its connection awaits {@linkcode Outbox.nextTurn}
   */
  push(target: Target, text: string): boolean {
    this.#add({ target, text, end: false });
    return target.turnUnits >= CLIENT_TURN_UNITS;
  }

  /** Adds a client's last frame, after which it is closed in order. */
  pushLast(target: Target, text: string): void {
    this.#add({ target, text, end: true });
  }

  #add(frame: Frame<Target>): void {
    const { target, text } = frame;
    this.#frames.push(frame);
    this.#units += text.length;
    if (target.turn !== this.#turn) {
      target.turn = this.#turn;
      target.turnUnits = 0;
    }
    target.turnUnits += text.length;
    if (this.#units >= BATCH_UNITS) this.#flush();
    else if (!this.#gathering) {
      this.#gathering = true;
      queueMicrotask(this.#gather);
    }
  }

  /** Resolves when the event loop has gone round, so that everybody else had a turn as well. */
  nextTurn(): Promise<void> {
    return this.#nextTurn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#nextTurn = undefined;
        this.#turn++;
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
    if (this.#frames.length !== this.#framesSeen) {
      this.#framesSeen = this.#frames.length;
      queueMicrotask(this.#gather);
      return;
    }
    this.#gathering = false;
    this.#turn++;
    this.#flush();
  };

  #flush(): void {
    if (this.#frames.length === 0) return;
    this.#controller.enqueue(this.#frames);
    this.#frames = [];
    this.#framesSeen = 0;
    this.#units = 0;
  }
}

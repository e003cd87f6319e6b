/**
 * A stream that has an id of its own: its answer is no single client's, and what it has said is kept, so that whoever
 * comes later or again is given the same bytes.
 * @module
 */
import type { Answer, BackendRequest } from "../backend/backend.ts";
import type { StreamFailure } from "../errors.ts";
import { formatFor } from "../protocol/formats/choose.ts";
import { NumberedFormat } from "../protocol/formats/numbered.ts";
import type { StreamChoice } from "../protocol/stream_choice.ts";
import type { AnswerFormat, ClientEvent } from "../protocol/stream_event.ts";
import { BackendCall, type CallParts } from "./backend_call.ts";
import { ByteLog, type LogMemory } from "./byte_log.ts";

/** Who watches a stream. */
export interface Watcher {
  /** It has gone. */
  readonly ended: boolean;
  /** Takes what comes next, by copy if it cannot be sent at once. Nothing follows an end. */
  give(bytes: Uint8Array<ArrayBuffer>, end: boolean): void;
  /** The stream has failed before there was anything to give. */
  refuse(failure: StreamFailure): void;
}

/** What its streams share. */
export interface StreamHome extends LogMemory {
  /** How long a stream is kept after its end, in milliseconds. */
  readonly keepMs: number;
  /** The daemon ends: what nobody watches is of no use any more. */
  readonly ending: boolean;
  /** More of it has come. */
  grown(stream: SharedStream, start: number, bytes: Uint8Array<ArrayBuffer>, end: boolean): void;
  /** It can be given again for some time, or can no more. */
  completed(stream: SharedStream): void;
  forgotten(stream: SharedStream): void;
}

/** What a watcher is given at a time of what lies before it. */
const PIECE_BYTES = 64 * 1024;

/** See the module. */
export class SharedStream extends BackendCall {
  /** No client's: nothing is sent to it. */
  readonly id = 0;
  /** What comes is appended, see {@linkcode SharedStream.append}. */
  readonly full = true;
  ended = false;
  readonly streamId: string;
  readonly #continues: boolean;
  readonly #home: StreamHome;
  readonly #watches = new Set<Watch>();
  #pausedWatches = 0;
  #answerPaused = false;
  #begun = false;
  /** Nothing more will be appended. */
  #complete = false;
  #kept = true;
  readonly log: ByteLog;
  /** Makes a format for what a watcher is told alone. */
  readonly formatForOne: () => AnswerFormat | null;
  /** Whether a copy of it is in the store. */
  saved = false;

  constructor(
    parts: CallParts,
    home: StreamHome,
    request: Pick<BackendRequest, "format" | "include" | "requestId" | "model">,
    { id, continues }: Pick<StreamChoice, "id" | "continues">,
  ) {
    super({ ...parts, heartbeatMs: 0 }); // silence is each watcher's own
    this.#home = home;
    this.streamId = id;
    this.#continues = continues;
    this.log = new ByteLog(home);
    this.headSent = true; // each watcher has one of its own
    const { format, include, requestId, model } = request;
    this.formatForOne = () => formatFor({ format, include, requestId, model }, Math.floor(Date.now() / 1000));
    parts.connections.add(this);
  }

  /** See {@linkcode BackendCall.ask}. */
  begin(request: BackendRequest, requestBytes: number): void {
    this.ask(request, requestBytes);
  }

  protected override formatOf(request: BackendRequest): AnswerFormat {
    return new NumberedFormat(super.formatOf(request));
  }

  /** Whether somebody watches. */
  get watched(): boolean {
    return this.#watches.size > 0;
  }

  /** How it ended, if not as it should. */
  get endedBy(): StreamFailure | undefined {
    return this.failure;
  }

  /**
   * One more watches, from a position on; it is given what there is once it has called {@linkcode Watch.resume}.
   */
  watch(watcher: Watcher, position: number): Watch {
    const watch = new Watch(this, watcher, position);
    this.#watches.add(watch);
    this.#pausedWatches++;
    return watch;
  }

  /** One watches no more. */
  left(watch: Watch): void {
    if (!this.#watches.delete(watch)) return;
    if (watch.paused) this.#pausedWatches--;
    if (this.over) {
      if (!this.#kept) this.#releaseUnwatched();
    } else if (this.watched) this.#keepPace();
    else this.deserted();
  }

  /** Nobody watches any more, and it is not at its end. */
  protected deserted(): void {
    if (this.#continues && this.#kept && !this.#home.ending) this.#keepPace();
    else this.cut("client_disconnected");
  }

  /** Ends the answer at the provider. Returns whether it was under way. */
  stop(): boolean {
    if (this.over) return false;
    this.cut("stopped");
    return true;
  }

  /** The daemon stops. */
  shutDown(): void {
    if (!this.over) this.cut("shutdown");
  }

  /** It has lasted too long. */
  outlived(): void {
    if (!this.over) this.cut("max_stream");
  }

  /** The last resort of a drain. */
  close(): void {
    this.cancelAnswer();
    this.over = true;
    this.parts.connections.delete(this);
    this.forget();
  }

  override note(event: ClientEvent): boolean {
    if (!super.note(event)) return false;
    const { failure } = this;
    if (this.over) this.#answerOver();
    if (failure !== undefined && failure !== "stopped" && this.log.end === 0 && this.frame === "") {
      for (const watch of this.#watches) watch.refuse(failure);
      this.forget();
      return false;
    }
    if (event.kind === "open") {
      this.#begun = true;
      for (const watch of this.#watches) watch.appended(this.log.end, new Uint8Array());
    }
    return true;
  }

  #answerOver(): void {
    const { wheel, connections } = this.parts;
    wheel.cancel(this);
    if (this.model !== undefined) {
      this.summarize("Answer", this.model, this.lastedSecs());
    }
    connections.delete(this);
  }

  /** Whether there is something for a watcher to see, be it only that there will be. */
  get begun(): boolean {
    return this.#begun || this.log.end > 0;
  }

  /** Whether the stream is at its end at a position. */
  endsAt(position: number): boolean {
    return this.#complete && position === this.log.end;
  }

  /** The bytes of the events that came in a turn. */
  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    const start = this.log.end;
    this.log.append(bytes, (from) => {
      for (const watch of this.#watches) watch.takeUntil(from);
    });
    this.#complete = end;
    this.#home.grown(this, start, bytes, end);
    for (const watch of this.#watches) watch.appended(start, bytes);
    if (!end) return;
    this.log.trim();
    if (!this.#kept) this.#releaseUnwatched();
    else if (this.#home.keepMs === 0) this.forget();
    else {
      this.parts.wheel.set(this, this.#home.keepMs);
      this.#home.completed(this);
    }
  }

  /** The backend gave nothing for too long, or it has been kept for long enough. */
  override timedOut(): void {
    if (this.over) this.forget();
    else super.timedOut();
  }

  /** Nobody can find it any more; who watches gets the rest. */
  forget(): void {
    if (!this.#kept) return;
    this.#kept = false;
    this.parts.wheel.cancel(this);
    this.#home.forgotten(this);
    if (this.over) this.#releaseUnwatched();
  }

  #releaseUnwatched(): void {
    if (this.watched) return;
    this.ended = true;
    this.log.clear();
  }

  sent(): void {}

  protected get waits(): boolean {
    return this.#answerPaused;
  }

  /** So many watchers more are full, or less. */
  paused(watches: -1 | 1): void {
    this.#pausedWatches += watches;
    this.#keepPace();
  }

  // The answer goes at the pace of the fastest; with nobody to watch, at its own.
  #keepPace(): void {
    const pauses = this.#watches.size > 0 && this.#pausedWatches === this.#watches.size;
    if (pauses === this.#answerPaused || this.answer === undefined) return;
    this.#answerPaused = pauses;
    if (pauses) {
      this.parts.wheel.cancel(this);
      this.answer.pause();
    } else {
      this.waitForBackend();
      this.answer.resume();
    }
  }

  protected override identity(): Record<string, unknown> {
    return { ...super.identity(), stream_id: this.streamId };
  }
}

/** One watcher's place in a stream. It is given nothing before its first {@linkcode Watch.resume}. */
export class Watch implements Answer {
  readonly #stream: SharedStream;
  readonly #watcher: Watcher;
  #position: number;
  /** It watches no more: it is not counted, and the log may have lost what lies before it. */
  #left = false;
  paused = true;

  constructor(stream: SharedStream, watcher: Watcher, position: number) {
    this.#stream = stream;
    this.#watcher = watcher;
    this.#position = position;
  }

  /** See {@linkcode SharedStream.formatForOne}. */
  get format(): AnswerFormat | null {
    return this.#stream.formatForOne();
  }

  /** How the stream ended, if not as it should. */
  get failure(): StreamFailure | undefined {
    return this.#stream.endedBy;
  }

  /** Bytes have come; `start` is the position in front of them. */
  appended(start: number, bytes: Uint8Array<ArrayBuffer>): void {
    const { log } = this.#stream;
    // It is behind, or will be: it finds them in the log.
    if (this.#position !== start || (this.paused && log.start <= start)) return;
    this.#give(bytes, log.end);
  }

  /** What lies in front of a position will be gone. */
  takeUntil(position: number): void {
    if (this.#position >= position) return;
    const { log } = this.#stream;
    this.#give(log.from(this.#position, Infinity), log.end);
  }

  #give(bytes: Uint8Array<ArrayBuffer>, position: number): void {
    this.#position = position;
    this.#watcher.give(bytes, this.#stream.endsAt(position));
  }

  refuse(failure: StreamFailure): void {
    this.#watcher.refuse(failure);
  }

  pause(): void {
    if (this.paused || this.#left) return;
    this.paused = true;
    this.#stream.paused(1);
  }

  /** Gives what lies before it, until the watcher is full or has all. */
  resume(): void {
    if (!this.paused || this.#left) return;
    this.paused = false;
    this.#stream.paused(-1);
    const { log } = this.#stream;
    if (!this.#stream.begun) return;
    do {
      const bytes = log.from(this.#position, PIECE_BYTES);
      const position = this.#position + bytes.length;
      this.#give(bytes, position);
    } while (!this.paused && !this.#left && this.#position < log.end);
  }

  cancel(): void {
    this.#left = true;
    this.#stream.left(this);
  }
}

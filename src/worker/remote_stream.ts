/**
 * A stream with an id that is made at another daemon, as those see it who watch it here.
 * @module
 */
import type { StreamFailure } from "../errors.ts";
import { ContentFormat } from "../protocol/formats/content.ts";
import { NumberedFormat } from "../protocol/formats/numbered.ts";
import { FAILURE_TEXT } from "../protocol/sse.ts";
import type { AnswerFormat } from "../protocol/stream_event.ts";
import type { Said, StreamAbout } from "../store/redis_records.ts";
import type { CallParts } from "./backend_call.ts";
import { SharedStream, type StreamHome } from "./shared_stream.ts";

const GONE_TEXT = "The daemon that gave this answer has gone";
const encoder = new TextEncoder();

/** See the module. No backend is asked: what it says is told by {@linkcode RemoteStream.hear}. */
export class RemoteStream extends SharedStream {
  readonly #leave: () => void;
  /** Set until what there is already has been heard. */
  loading: Promise<void> | undefined;

  /** @param leave nothing of it is wanted any more */
  constructor(parts: CallParts, home: StreamHome, id: string, about: StreamAbout, leave: () => void) {
    super(parts, home, about, { id, continues: false });
    this.requestId = about.requestId;
    this.#leave = leave;
  }

  /** More of it has come. */
  hear({ start, bytes, end, failure }: Said): void {
    if (this.over) return;
    if (this.log.end === 0) this.log.beginAt(start);
    // What was trimmed before it could be read is missing.
    if (start !== this.log.end) return this.cut("other");
    if (end) this.#over(failure);
    this.append(bytes, end);
  }

  /** It is not to be had any more. */
  lost(): void {
    if (!this.over) this.cut("other");
  }

  /** The last words of one whose daemon has gone: the same ones at every daemon. */
  wordsOfTheGone(): Said {
    const { log } = this;
    const format = new NumberedFormat(this.#formatFromHere(), log.lastEventId);
    return {
      start: log.end,
      bytes: encoder.encode(format.failure("other", GONE_TEXT)),
      end: true,
      failure: "other",
    };
  }

  // Its beginning was written by another one.
  #formatFromHere(): AnswerFormat {
    const format = this.formatForOne() ?? new ContentFormat([]);
    if (this.log.end > 0) format.text("");
    return format;
  }

  override close(): void {
    this.#leave();
    super.close();
  }

  /** Ends it for those who watch it here, without an id: elsewhere it may go on. */
  protected override cut(failure: StreamFailure): void {
    const words = encoder.encode(this.#formatFromHere().failure(failure, FAILURE_TEXT[failure]));
    this.#leave();
    this.#over(failure);
    this.forget();
    this.append(words, true);
  }

  protected override deserted(): void {
    this.#leave();
    this.#over("client_disconnected");
    this.forget();
  }

  #over(failure: StreamFailure | undefined): void {
    this.over = true;
    this.failure = failure;
    this.parts.connections.delete(this);
  }
}

/**
 * The streams of one worker that have an id: those under way, and those that have ended and are kept for a while.
 * @module
 */
import type { BackendRequest } from "../backend/backend.ts";
import type { StreamStats } from "../ops/metrics/metrics.ts";
import type { StreamChoice } from "../protocol/stream_choice.ts";
import type { CallParts } from "./backend_call.ts";
import { SharedStream, type StreamHome, type Watch, type Watcher } from "./shared_stream.ts";

/** What may be kept. */
export interface KeepLimits {
  readonly keepMs: number;
  readonly maxStreamBytes: number;
  /** Of all streams of the worker. */
  readonly maxTotalBytes: number;
}

/** What a stream counts besides its bytes. */
const STREAM_BYTES = 1024;

/** See the module. */
export class SharedStreams implements StreamHome {
  #limits: KeepLimits;
  readonly #byId = new Map<string, SharedStream>();
  /** Those that have ended, in that order. */
  readonly #ended = new Set<SharedStream>();
  #usedBytes = 0;
  #evicted = 0;
  ending = false;

  constructor(limits: KeepLimits) {
    this.#limits = limits;
  }

  /** Holds from now on. */
  configure(limits: KeepLimits): void {
    this.#limits = limits;
  }

  get keepMs(): number {
    return this.#limits.keepMs;
  }

  get maxStreamBytes(): number {
    return this.#limits.maxStreamBytes;
  }

  /** For the metrics. */
  get stats(): StreamStats {
    const kept = this.#ended.size;
    return { live: this.#byId.size - kept, kept, bytes: this.#usedBytes, evicted: this.#evicted };
  }

  /**
   * One more watches a stream. It is begun if there is none of that id, and the watcher has not had any of it.
   *
   * @param requestBytes what the request keeps in memory until the provider has taken it
   * @returns nothing where there is nothing to go on with
   */
  watch(
    parts: CallParts,
    request: BackendRequest,
    choice: StreamChoice,
    requestBytes: number,
    watcher: Watcher,
  ): Watch | undefined {
    const { id, lastEventId } = choice;
    const stream = this.#byId.get(id);
    if (stream !== undefined) {
      const position = stream.log.after(lastEventId ?? 0);
      const isWhole = position !== undefined && stream.endsAt(position) && lastEventId !== undefined;
      if (position === undefined || isWhole) {
        parts.metrics.streamAskedFor("nothing");
        return undefined;
      }
      parts.metrics.streamAskedFor(lastEventId === undefined ? "watched" : "resumed");
      return stream.watch(watcher, position);
    }
    if (lastEventId !== undefined) {
      parts.metrics.streamAskedFor("nothing");
      return undefined;
    }
    parts.metrics.streamAskedFor("begun");
    return this.#begin(parts, request, choice, requestBytes, watcher);
  }

  #begin(
    parts: CallParts,
    request: BackendRequest,
    choice: StreamChoice,
    requestBytes: number,
    watcher: Watcher,
  ): Watch {
    const stream = new SharedStream(parts, this, request, choice);
    const watch = stream.watch(watcher, 0);
    // Without room for it, it is its watchers' alone, and ends with them.
    if (this.reserve(STREAM_BYTES)) this.#byId.set(choice.id, stream);
    else stream.forget();
    stream.begin(request, requestBytes);
    return watch;
  }

  /** Ends a stream at its provider. Returns whether it was under way. */
  stop(id: string): boolean {
    return this.#byId.get(id)?.stop() ?? false;
  }

  /** The daemon ends: what nobody watches is ended now, or when that is so. */
  end(): void {
    this.ending = true;
    for (const stream of this.#byId.values()) if (!stream.watched) stream.shutDown();
  }

  /** Forgets all. */
  close(): void {
    for (const stream of this.#byId.values()) stream.close();
  }

  reserve(bytes: number): boolean {
    for (const stream of this.#ended) {
      if (this.#usedBytes + bytes <= this.#limits.maxTotalBytes) break;
      if (stream.watched) continue;
      stream.forget();
      this.#evicted++;
    }
    if (this.#usedBytes + bytes > this.#limits.maxTotalBytes) return false;
    this.#usedBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }

  completed(stream: SharedStream): void {
    this.#ended.add(stream);
  }

  forgotten(stream: SharedStream): void {
    this.#ended.delete(stream);
    if (this.#byId.get(stream.streamId) !== stream) return;
    this.#byId.delete(stream.streamId);
    this.release(STREAM_BYTES);
  }
}

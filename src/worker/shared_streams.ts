/**
 * The streams of one worker that have an id: those under way, and those that have ended and are kept for a while; and
 * those of other daemons that are watched here, where there is a store in which daemons meet.
 * @module
 */
import type { BackendRequest } from "../backend/backend.ts";
import type { Log } from "../ops/log/log.ts";
import type { StreamStats } from "../ops/metrics/metrics.ts";
import type { StreamChoice } from "../protocol/stream_choice.ts";
import type { Said, StreamAbout } from "../store/redis_records.ts";
import { RedisStore, type RedisStoreOptions } from "../store/redis_store.ts";
import type { StoreEvents } from "../store/stream_reader.ts";
import type { CallParts } from "./backend_call.ts";
import { RemoteStream } from "./remote_stream.ts";
import { SharedStream, type StreamHome, type Watch, type Watcher } from "./shared_stream.ts";

/** What may be kept. */
export interface KeepLimits {
  readonly keepMs: number;
  readonly maxStreamBytes: number;
  /** Of all streams of the worker. */
  readonly maxTotalBytes: number;
}

/** Who asks for a stream, and for what. */
export interface Asked {
  readonly parts: CallParts;
  readonly request: BackendRequest;
  readonly choice: StreamChoice;
  /** What the request keeps in memory until the provider has taken it. */
  readonly requestBytes: number;
  readonly watcher: Watcher;
}

/** A place in the stream; or 204: there is nothing to go on with; or 503: that cannot be known for now. */
export type Found = Watch | 204 | 503;

/** What a stream counts besides its bytes. */
const STREAM_BYTES = 1024;

/** See the module. */
export class SharedStreams implements StreamHome, StoreEvents {
  #limits: KeepLimits;
  readonly #byId = new Map<string, SharedStream>();
  /** Those that have ended, in that order. */
  readonly #ended = new Set<SharedStream>();
  #usedBytes = 0;
  #evicted = 0;
  #ending = false;
  readonly #store: RedisStore | undefined;
  /** Ids that the store is asked for, to begin a stream. */
  readonly #claims = new Map<string, Promise<void>>();

  /** @param redis the server where daemons meet; none: each is alone */
  constructor(limits: KeepLimits, log: Log, redis?: Pick<RedisStoreOptions, "url" | "caFile">) {
    this.#limits = limits;
    if (redis !== undefined) {
      this.#store = new RedisStore({ ...limits, ...redis, log, events: this });
    }
  }

  /** Holds from now on. */
  configure(limits: KeepLimits): void {
    this.#limits = limits;
    if (this.#store !== undefined) this.#store.writer.keepMs = limits.keepMs;
  }

  get keepMs(): number {
    return this.#limits.keepMs;
  }

  get maxStreamBytes(): number {
    return this.#limits.maxStreamBytes;
  }

  get ending(): boolean {
    return this.#ending && this.#store === undefined;
  }

  /** For the metrics. */
  get stats(): StreamStats {
    const kept = this.#ended.size;
    const { up, unsaved } = this.#store?.stats ?? { up: true, unsaved: 0 };
    return {
      live: this.#byId.size - kept,
      kept,
      bytes: this.#usedBytes,
      evicted: this.#evicted,
      storeUp: up ? 1 : 0,
      unsaved,
    };
  }

  /**
   * One more watches a stream. It is begun if there is none of that id, and the watcher has not had any of it. What is
   * known here is found at once.
   */
  watch(asked: Asked): Found | Promise<Found> {
    const stream = this.#byId.get(asked.choice.id);
    if (stream !== undefined) return this.#joinLoaded(stream, asked);
    if (this.#store !== undefined) return this.#watchInTurn(this.#store, asked);
    return asked.choice.lastEventId === undefined ? this.#begin(asked, false) : this.#nothing(asked);
  }

  #joinLoaded(stream: SharedStream, asked: Asked): Found | Promise<Found> {
    const loading = stream instanceof RemoteStream ? stream.loading : undefined;
    if (loading === undefined) return this.#join(stream, asked);
    return loading.then(() =>
      this.#byId.get(stream.streamId) === stream ? this.#join(stream, asked) : this.#unknown(asked)
    );
  }

  // An outage, which the store has told; or there is no room for it.
  #unknown({ parts }: Asked): 503 {
    parts.metrics.streamAskedFor("unknown");
    return 503;
  }

  #nothing({ parts }: Asked): 204 {
    parts.metrics.streamAskedFor("nothing");
    return 204;
  }

  #join(stream: SharedStream, asked: Asked): Found {
    const { parts, choice: { lastEventId }, watcher } = asked;
    const position = stream.log.after(lastEventId ?? 0);
    if (position === undefined || (lastEventId !== undefined && stream.endsAt(position))) {
      return this.#nothing(asked);
    }
    parts.metrics.streamAskedFor(lastEventId === undefined ? "watched" : "resumed");
    return stream.watch(watcher, position);
  }

  #begin({ parts, request, choice, requestBytes, watcher }: Asked, saved: boolean): Watch {
    parts.metrics.streamAskedFor("begun");
    const stream = new SharedStream(parts, this, request, choice);
    stream.saved = saved;
    const watch = stream.watch(watcher, 0);
    // Without room for it, it is its watchers' alone, and ends with them.
    if (this.reserve(STREAM_BYTES)) this.#byId.set(choice.id, stream);
    else {
      stream.forget();
      stream.saved = false;
    }
    stream.begin(request, requestBytes);
    return watch;
  }

  // One after the other where it is the same id: a claim whose client leaves is given back, and until then it looks as if
  // somebody had it.
  async #watchInTurn(store: RedisStore, asked: Asked): Promise<Found> {
    const { choice: { id, lastEventId } } = asked;
    for (let claim; (claim = this.#claims.get(id)) !== undefined;) await claim;
    const stream = this.#byId.get(id);
    if (stream !== undefined) return await this.#joinLoaded(stream, asked);
    if (lastEventId !== undefined) return await this.#watchWith(store, asked);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#claims.set(id, promise);
    try {
      return await this.#watchWith(store, asked);
    } finally {
      this.#claims.delete(id);
      resolve();
    }
  }

  // It may be at another daemon.
  async #watchWith(store: RedisStore, asked: Asked): Promise<Found> {
    const { parts, request, choice: { id, lastEventId }, watcher } = asked;
    const { format, include, requestId, model } = request;
    let about: StreamAbout | undefined;
    let reached = true;
    try {
      about = lastEventId === undefined
        ? await store.claim(id, { format, include, requestId, model })
        : await store.find(id);
    } catch {
      reached = false; // an outage, which the store has told
    }
    const stream = this.#byId.get(id); // it has come meanwhile
    if (stream !== undefined) return this.#joinLoaded(stream, asked);
    if (about !== undefined) return await this.#watchRemote(store, about, asked);
    if (lastEventId === undefined) {
      // A reload may have taken its backend away meanwhile.
      if (!watcher.ended && parts.backends.route(request.backend) !== undefined) {
        return this.#begin(asked, reached);
      }
      if (reached) store.writer.forget(id);
      return 503;
    }
    return reached ? this.#nothing(asked) : this.#unknown(asked);
  }

  async #watchRemote(store: RedisStore, about: StreamAbout, asked: Asked): Promise<Found> {
    const { parts, choice: { id } } = asked;
    const stream = new RemoteStream(parts, this, id, about, () => store.reader.unfollow(id));
    if (this.reserve(STREAM_BYTES)) this.#byId.set(id, stream);
    else {
      stream.close();
      return this.#unknown(asked);
    }
    const followed = store.reader.follow(id, about);
    stream.loading = followed.catch(() => {});
    try {
      await followed;
    } catch {
      stream.close();
      return this.#unknown(asked);
    } finally {
      stream.loading = undefined;
    }
    // Others who wait for the same come first.
    setTimeout(() => {
      if (!stream.watched && !stream.endsAt(stream.log.end)) stream.close();
    }, 0);
    return this.#join(stream, asked);
  }

  /** Ends a stream at its provider, wherever that is. Resolves to whether it was under way; 503: not to be known for now. */
  stop(id: string): boolean | Promise<boolean | 503> {
    const stream = this.#byId.get(id);
    if (this.#store === undefined || (stream !== undefined && !(stream instanceof RemoteStream))) {
      return stream?.stop() ?? false;
    }
    return this.#store.stop(id).catch(() => 503 as const); // an outage, which the store has told
  }

  stopped(id: string): void {
    this.#byId.get(id)?.stop();
  }

  grown(stream: SharedStream, start: number, bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    if (!stream.saved) return;
    this.#store?.writer.append(stream.streamId, { start, bytes, end, failure: stream.endedBy });
  }

  heard(id: string, said: Said): void {
    this.#remote(id)?.hear(said);
  }

  ownerGone(id: string): void {
    const stream = this.#remote(id);
    if (stream !== undefined) this.#store?.writer.endForOwner(id, stream.wordsOfTheGone());
  }

  lost(id: string): void {
    this.#remote(id)?.lost();
  }

  #remote(id: string): RemoteStream | undefined {
    const stream = this.#byId.get(id);
    return stream instanceof RemoteStream ? stream : undefined;
  }

  /** The daemon ends: what nobody watches is ended now, or when that is so, unless it is saved. */
  end(): void {
    this.#ending = true;
    if (!this.ending) return;
    for (const stream of this.#byId.values()) if (!stream.watched) stream.shutDown();
  }

  /** Forgets all. What was to be saved is waited for, for a second at most. */
  async close(): Promise<void> {
    for (const stream of this.#byId.values()) stream.close();
    await this.#store?.close();
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
    // It has failed before it said anything, and the id is free again; or there is no room for it.
    if (stream.saved && stream.log.end === 0) this.#store?.writer.forget(stream.streamId);
    if (this.#byId.get(stream.streamId) !== stream) return;
    this.#byId.delete(stream.streamId);
    this.release(STREAM_BYTES);
  }
}

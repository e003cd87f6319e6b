/**
 * What is read of streams that are made elsewhere, and of what others ask of this worker: one read that waits for all.
 * @module
 */
import type { Buffer } from "node:buffer";
import { inTime, type RedisLink, type Reply } from "./redis_link.ts";
import {
  aboutKey,
  askedKey,
  eventsKey,
  leaseKey,
  NO_ENTRY,
  parseEntry,
  type Said,
  type StreamAbout,
  streamOf,
} from "./redis_records.ts";

/** Who hears of streams that are elsewhere. Must not throw. */
export interface StoreEvents {
  /** Somebody at another daemon stops one that is made here. */
  stopped(id: string): void;
  /** What a stream that is followed has said next. */
  heard(id: string, said: Said): void;
  /** Whoever made a followed stream has gone, and it has no end. */
  ownerGone(id: string): void;
  /** A followed stream is not to be had any more. It is followed no longer. */
  lost(id: string): void;
}

/** What a reader reads by, and for whom. */
export interface StreamReaderParts {
  /** Of this worker. */
  readonly name: string;
  /** For what is answered at once. */
  readonly link: RedisLink;
  /** For the read that waits. */
  readonly waitingLink: RedisLink;
  readonly events: StoreEvents;
}

const BLOCK_MS = 1000;
const READ_PAUSE_MS = 200;
const PAGE_ENTRIES = 256;
/** A read names all that is followed: of so many on, entries gather for so long before the next one. */
const MANY_STREAMS = 16;
const GATHER_MS = 20;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

interface Followed {
  readonly owner: string;
  /** Of its last entry. */
  entry: string;
  /** What there is already has been read. */
  caughtUp: boolean;
}

/** See the module. */
export class StreamReader {
  readonly #name: string;
  readonly #link: RedisLink;
  readonly #waitingLink: RedisLink;
  readonly #events: StoreEvents;
  readonly #followed = new Map<string, Followed>();
  /** What the server calls the connection of the read that waits. */
  #waitingId: number | undefined;
  #asked = NO_ENTRY;
  #closed = false;

  constructor({ name, link, waitingLink, events }: StreamReaderParts) {
    this.#name = name;
    this.#link = link;
    this.#waitingLink = waitingLink;
    this.#events = events;
  }

  /** The connection of the read that waits is up. */
  async up(): Promise<void> {
    try {
      this.#waitingId = await this.#waitingLink.send("CLIENT", "ID") as number;
    } catch {
      this.#waitingId = undefined; // down again, which was told; without it a new one to follow waits a second
    }
  }

  /**
   * Has all of a stream told, from what there is to its end. Resolves when what there is by now was told.
   *
   * @throws {Error} if the store does not give it in time; it is not followed then
   */
  async follow(id: string, { owner }: StreamAbout): Promise<void> {
    const followed: Followed = { owner, entry: NO_ENTRY, caughtUp: false };
    this.#followed.set(id, followed);
    try {
      while (this.#followed.get(id) === followed) {
        const from = `(${followed.entry}`;
        const page = await inTime(
          this.#link.send("XRANGE", eventsKey(id), from, "+", "COUNT", String(PAGE_ENTRIES)),
        ) as readonly Reply[];
        if (this.#followed.get(id) !== followed) return; // followed anew, or by nobody any more
        for (const entry of page) this.#tell(id, entry);
        if (page.length < PAGE_ENTRIES) break;
      }
    } catch (error) {
      if (this.#followed.get(id) === followed) this.#followed.delete(id);
      throw error;
    }
    followed.caughtUp = true;
    void this.#check(id);
    // So that the read that waits asks for it as well.
    if (this.#waitingId !== undefined) {
      this.#link.send("CLIENT", "UNBLOCK", String(this.#waitingId)).catch(() => {});
    }
  }

  /** It is of no interest any more. */
  unfollow(id: string): void {
    this.#followed.delete(id);
  }

  /** Looks after all that is followed, now and then. */
  check(): void {
    for (const [id, { caughtUp }] of this.#followed) if (caughtUp) void this.#check(id);
  }

  // Whether somebody is still there to end it, and it is there itself.
  async #check(id: string): Promise<void> {
    const followed = this.#followed.get(id);
    if (followed === undefined) return;
    try {
      const [lease, about] = await Promise.all([
        this.#link.send("EXISTS", leaseKey(followed.owner)),
        this.#link.send("EXISTS", aboutKey(id)),
      ]);
      if (this.#followed.get(id) !== followed) return;
      if (about === 0) this.#lose(id);
      else if (lease === 0) {
        // Its last words may have come since.
        const last = await lastEntry(this.#link, id);
        if (this.#followed.get(id) === followed && followed.entry === (last?.id ?? NO_ENTRY)) {
          this.#events.ownerGone(id);
        }
      }
    } catch {
      // Down: an outage is told elsewhere, and the next check is soon.
    }
  }

  #lose(id: string): void {
    if (this.#followed.delete(id)) this.#events.lost(id);
  }

  /** The store is down for too long. */
  loseAll(): void {
    for (const id of [...this.#followed.keys()]) this.#lose(id);
  }

  /** Reads until it is closed. */
  async run(): Promise<void> {
    while (!this.#closed) {
      const read = new Map([...this.#followed].filter(([, { caughtUp }]) => caughtUp));
      const keys = [askedKey(this.#name), ...[...read.keys()].map(eventsKey)];
      const after = [this.#asked, ...[...read.values()].map(({ entry }) => entry)];
      try {
        const streams = await this.#waitingLink.send(
          "XREAD",
          "COUNT",
          String(PAGE_ENTRIES),
          "BLOCK",
          String(BLOCK_MS),
          "STREAMS",
          ...keys,
          ...after,
        );
        for (const [key, entries] of (streams ?? []) as readonly [Buffer, readonly Reply[]][]) {
          const id = streamOf(String(key));
          for (const entry of entries) {
            if (id === undefined) this.#obey(entry);
            // One that is followed anew meanwhile is told from its beginning.
            else if (this.#followed.get(id) === read.get(id)) this.#tell(id, entry);
          }
        }
        if (streams !== null && read.size >= MANY_STREAMS) await pause(GATHER_MS);
      } catch {
        // An outage, which is told elsewhere.
        if (!this.#closed) await pause(READ_PAUSE_MS);
      }
    }
  }

  #obey(entry: Reply): void {
    const [entryId, fields] = entry as [Buffer, readonly Buffer[]];
    this.#asked = String(entryId);
    if (String(fields[0]) === "stop") this.#events.stopped(String(fields[1]));
  }

  #tell(id: string, entry: Reply): void {
    const followed = this.#followed.get(id);
    if (followed === undefined) return;
    const { id: entryId, said } = parseEntry(entry);
    followed.entry = entryId;
    if (said.end) this.#followed.delete(id);
    this.#events.heard(id, said);
  }

  /** The read under way is the last one. */
  close(): void {
    this.#closed = true;
  }
}

/** The last entry of a stream's events, if there is any. */
export async function lastEntry(
  link: RedisLink,
  id: string,
): Promise<{ id: string; said: Said } | undefined> {
  const [last] = await link.send("XREVRANGE", eventsKey(id), "+", "-", "COUNT", "1") as readonly Reply[];
  return last === undefined ? undefined : parseEntry(last);
}

/**
 * Streams with an id in Valkey or Redis, so that what was begun at one daemon is resumed and stopped at another.
 *
 * A stream has two keys: `about` (JSON: who makes it, how it is written) and `events`, a stream of Redis whose entries
 * are what was said in a turn; an entry's id is its end's position in bytes, so a gap or a second end cannot go unseen.
 * A worker has two: a lease that it renews, and a stream of what others ask of it.
 * @module
 */
import { Buffer } from "node:buffer";
import type { Log } from "../ops/log/log.ts";
import { RedisLink, type Reply } from "./redis_link.ts";
import {
  aboutKey,
  askedKey,
  endFields,
  eventsKey,
  leaseKey,
  parseAbout,
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

/** What a store is made of. */
export interface RedisStoreOptions {
  readonly url: string;
  /** PEM file of the certificates to trust in place of Mozilla's list; "": that list. */
  readonly caFile: string;
  readonly keepMs: number;
  readonly maxStreamBytes: number;
  readonly log: Log;
  readonly events: StoreEvents;
}

/** For the metrics. */
export interface StoreStats {
  readonly up: boolean;
  /** Streams whose copy was given up so far. */
  readonly unsaved: number;
}

const LEASE_MS = 10_000;
const RENEW_MS = 3000;
const BLOCK_MS = 1000;
const READ_PAUSE_MS = 200;
/** An outage that streams which are followed outlive. */
const GRACE_MS = 5000;
const ANSWER_MS = 1000;
/** To be up for the first time, for which whoever comes before it waits: the library takes a moment to load. */
const START_MS = 5000;
const PAGE_ENTRIES = 256;
/** So long a stream is kept from its last word on while it has no end: its worker may have died. */
const UNENDED_SECS = 3600;
const EXPIRE_EACH_MS = 60_000;
/** What waits for the server at most, for all streams together. */
const MAX_UNSENT_BYTES = 8 * 1024 * 1024;
/** What a command counts besides its data. */
const COMMAND_BYTES = 512;

interface Saved {
  /** When its keys were last told how long to live. */
  expiryMs: number;
  /** The position up to which it was trimmed. */
  trimmed: number;
}

interface Followed {
  readonly owner: string;
  /** Of its last entry. */
  entry: string;
  /** What there is already has been read. */
  caughtUp: boolean;
}

/** See the module. */
export class RedisStore {
  readonly #name: string = crypto.randomUUID();
  readonly #options: RedisStoreOptions;
  #keepMs: number;
  readonly #writer = new RedisLink();
  readonly #reader = new RedisLink();
  readonly #opened: Promise<unknown>;
  readonly #saved = new Map<string, Saved>();
  /** Their keys are to go when the server is back: a part is missing. */
  readonly #spoiled = new Set<string>();
  /** Ids whose claim nobody waits for any more; it is given back once it is made. */
  readonly #lateClaims = new Set<string>();
  readonly #followed = new Map<string, Followed>();
  #readerId: number | undefined;
  #asked = "0-0";
  #unsentBytes = 0;
  #unsaved = 0;
  #downSinceMs: number | undefined;
  readonly #late: ReturnType<typeof setTimeout>;
  readonly #renewing: ReturnType<typeof setInterval>;
  #reading: Promise<void>;
  /** Resolves when it is up for the first time, cannot be, or is late. */
  readonly #started = Promise.withResolvers<void>();
  #closed = false;

  /** Connects by and by; until then it is as down. */
  constructor(options: RedisStoreOptions) {
    this.#options = options;
    this.#keepMs = options.keepMs;
    const { url, caFile } = options;
    this.#opened = Promise.all([
      this.#writer.open(url, caFile, { up: () => this.#renew(), down: (error) => this.#isDown(error) }),
      this.#reader.open(url, caFile, {
        up: () => void this.#readerIsUp(),
        down: (error) => this.#isDown(error),
      }),
    ]);
    this.#late = setTimeout(() => this.#started.resolve(), START_MS);
    this.#renewing = setInterval(() => this.#renew(), RENEW_MS);
    this.#reading = this.#read();
  }

  /** For streams that end from now on. */
  set keepMs(keepMs: number) {
    this.#keepMs = keepMs;
  }

  /** For the metrics. */
  get stats(): StoreStats {
    return {
      up: this.#writer.up && this.#reader.up && this.#downSinceMs === undefined,
      unsaved: this.#unsaved,
    };
  }

  // It has taken something, which one that is only connected to need not: it may want a password, or be full.
  #works(): void {
    if (!this.#reader.up) return;
    const { log } = this.#options;
    if (this.#downSinceMs !== undefined) log.info("The store of streams is back");
    this.#downSinceMs = undefined;
    for (const id of this.#spoiled) this.forget(id);
    this.#spoiled.clear();
    this.#started.resolve();
  }

  #isDown(error: Error): void {
    this.#started.resolve();
    if (this.#downSinceMs !== undefined || this.#closed) return;
    this.#downSinceMs = performance.now();
    this.#options.log.warning(
      "The store of streams cannot be reached; they go on, but cannot be resumed at another daemon",
      { error },
    );
  }

  async #readerIsUp(): Promise<void> {
    this.#renew();
    try {
      this.#readerId = await this.#reader.send("CLIENT", "ID") as number;
    } catch {
      this.#readerId = undefined; // down again, which was told; without it a new one to follow waits a second
    }
  }

  /**
   * Claims an id for a stream that is made here.
   *
   * @returns nothing if it is ours now, else who has it
   * @throws {Error} if the store does not say so in time
   */
  async claim(id: string, about: Omit<StreamAbout, "owner">): Promise<StreamAbout | undefined> {
    const value = JSON.stringify({ owner: this.#name, ...about });
    await this.#started.promise;
    this.#checkLate(id);
    const key = aboutKey(id);
    const set = this.#writer.send("SET", key, value, "NX", "EX", String(this.#unendedSecs()));
    const other = this.#writer.send("GET", key);
    let answers;
    try {
      answers = await inTime(Promise.all([set, other]));
    } catch (error) {
      // It goes on without being saved; if the claim is made later on, nobody is to wait for what it says.
      this.#lateClaims.add(id);
      set.then((set) => set === null || this.forget(id), () => {}).finally(() => this.#lateClaims.delete(id));
      throw error;
    }
    if (answers[0] === null) {
      const found = parseAbout(answers[1] as Buffer | null);
      if (found === undefined) throw new Error("The store has an id that nobody can read");
      return found;
    }
    this.#saved.set(id, { expiryMs: performance.now(), trimmed: 0 });
    this.#spoiled.delete(id); // it was another one's of that id
    return undefined;
  }

  /**
   * Who has an id.
   *
   * @throws {Error} if the store does not say so in time
   */
  async find(id: string): Promise<StreamAbout | undefined> {
    await this.#started.promise;
    this.#checkLate(id);
    return parseAbout(await inTime(this.#writer.send("GET", aboutKey(id))) as Buffer | null);
  }

  // What is there by now may be a claim that is about to be given back.
  #checkLate(id: string): void {
    if (this.#lateClaims.has(id)) throw new Error("An earlier claim of that id has had no answer yet");
  }

  /** Saves what a claimed stream has said. Never fails: the worst is that it is saved no longer. */
  append(id: string, { start, bytes, end, failure }: Said): void {
    const saved = this.#saved.get(id);
    if (saved === undefined) return;
    if (end) this.#saved.delete(id);
    if (!this.#writer.up || this.#unsentBytes + bytes.length > MAX_UNSENT_BYTES) return this.#spoil(id);
    const key = eventsKey(id);
    const position = start + bytes.length;
    this.#write(
      id,
      bytes.length,
      "XADD",
      key,
      `${position}-0`,
      "b",
      Buffer.from(bytes),
      ...endFields(end, failure),
    );
    const { maxStreamBytes } = this.#options;
    if (position - saved.trimmed > maxStreamBytes + maxStreamBytes / 4) {
      saved.trimmed = position - maxStreamBytes;
      this.#write(id, 0, "XTRIM", key, "MINID", `${saved.trimmed}-0`);
    }
    if (end) this.#expire(id, Math.ceil(this.#keepMs / 1000));
    else if (start === 0 || performance.now() - saved.expiryMs > EXPIRE_EACH_MS) {
      saved.expiryMs = performance.now();
      this.#expire(id, this.#unendedSecs());
    }
  }

  #unendedSecs(): number {
    return UNENDED_SECS + Math.ceil(this.#keepMs / 1000);
  }

  #expire(id: string, secs: number): void {
    for (const key of [aboutKey(id), eventsKey(id)]) this.#write(id, 0, "EXPIRE", key, String(secs));
  }

  #write(id: string, bytes: number, ...command: (string | Buffer)[]): void {
    this.#unsentBytes += COMMAND_BYTES + bytes;
    void this.#writer.send(...command).catch(() => this.#spoil(id)).finally(() =>
      this.#unsentBytes -= COMMAND_BYTES + bytes
    );
  }

  // What is there has a gap from now on.
  #spoil(id: string): void {
    if (this.#spoiled.has(id)) return;
    this.#saved.delete(id);
    this.#unsaved++;
    if (this.#writer.up) this.forget(id);
    else this.#spoiled.add(id);
  }

  /** Removes a stream that is made here. */
  forget(id: string): void {
    this.#saved.delete(id);
    // Where that fails it is for later.
    this.#writer.send("DEL", aboutKey(id), eventsKey(id)).catch(() => this.#spoiled.add(id));
  }

  /**
   * Has all of a stream told, from what there is to its end. Resolves when what there is by now was told.
   *
   * @throws {Error} if the store does not give it in time; it is not followed then
   */
  async follow(id: string, { owner }: StreamAbout): Promise<void> {
    const followed: Followed = { owner, entry: "0-0", caughtUp: false };
    this.#followed.set(id, followed);
    try {
      while (this.#followed.get(id) === followed) {
        const from = `(${followed.entry}`;
        const page = await inTime(
          this.#writer.send("XRANGE", eventsKey(id), from, "+", "COUNT", String(PAGE_ENTRIES)),
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
    // So that the reader asks for it as well.
    if (this.#readerId !== undefined) {
      this.#writer.send("CLIENT", "UNBLOCK", String(this.#readerId)).catch(() => {});
    }
  }

  /** It is of no interest any more. */
  unfollow(id: string): void {
    this.#followed.delete(id);
  }

  /** Ends a followed stream whose owner has gone, for all who follow it: they hear of it as of all else. */
  end(id: string, { start, bytes, failure }: Said): void {
    const position = `${start + bytes.length}-0`;
    const added = this.#writer.send(
      "XADD",
      eventsKey(id),
      position,
      "b",
      Buffer.from(bytes),
      ...endFields(true, failure),
    );
    // Another daemon was first; it said the same.
    added.catch(() => {});
    this.#expire(id, Math.ceil(this.#keepMs / 1000));
  }

  /**
   * Asks the worker that makes a stream to end it. Returns whether it is under way.
   *
   * @throws {Error} if the store does not say so in time
   */
  async stop(id: string): Promise<boolean> {
    const about = await this.find(id);
    if (about === undefined) return false;
    const [lease, last] = await inTime(Promise.all([
      this.#writer.send("EXISTS", leaseKey(about.owner)),
      this.#writer.send("XREVRANGE", eventsKey(id), "+", "-", "COUNT", "1"),
    ]));
    const entry = (last as readonly Reply[])[0];
    if (lease === 0 || (entry !== undefined && parseEntry(entry).said.end)) return false;
    await inTime(this.#writer.send("XADD", askedKey(about.owner), "MAXLEN", "~", "1000", "*", "stop", id));
    return true;
  }

  #renew(): void {
    if (this.#downSinceMs !== undefined && performance.now() - this.#downSinceMs > GRACE_MS) {
      for (const id of [...this.#followed.keys()]) this.#lose(id);
    }
    if (!this.#writer.up) return;
    this.#writer.send("SET", leaseKey(this.#name), "1", "PX", String(LEASE_MS)).then(
      () => this.#works(),
      (error: Error) => this.#isDown(error),
    );
    // Where that fails, so does the one before.
    this.#writer.send("PEXPIRE", askedKey(this.#name), String(LEASE_MS)).catch(() => {});
    for (const [id, { caughtUp }] of this.#followed) if (caughtUp) void this.#check(id);
  }

  // Whether somebody is still there to end it, and it is there itself.
  async #check(id: string): Promise<void> {
    const followed = this.#followed.get(id);
    if (followed === undefined) return;
    try {
      const [lease, about] = await Promise.all([
        this.#writer.send("EXISTS", leaseKey(followed.owner)),
        this.#writer.send("EXISTS", aboutKey(id)),
      ]);
      if (this.#followed.get(id) !== followed) return;
      if (about === 0) this.#lose(id);
      else if (lease === 0) {
        // Its last words may have come since.
        const [last] = await this.#writer.send("XREVRANGE", eventsKey(id), "+", "-", "COUNT", "1") as [
          Reply?,
        ];
        const lastId = last === undefined ? "0-0" : parseEntry(last).id;
        if (this.#followed.get(id) === followed && followed.entry === lastId) {
          this.#options.events.ownerGone(id);
        }
      }
    } catch {
      // Down: an outage is told elsewhere, and the next check is soon.
    }
  }

  #lose(id: string): void {
    if (this.#followed.delete(id)) this.#options.events.lost(id);
  }

  // One read for all that is followed, and for what is asked of this worker.
  async #read(): Promise<void> {
    await this.#opened;
    while (!this.#closed) {
      const read = new Map([...this.#followed].filter(([, { caughtUp }]) => caughtUp));
      const keys = [askedKey(this.#name), ...[...read.keys()].map(eventsKey)];
      const after = [this.#asked, ...[...read.values()].map(({ entry }) => entry)];
      try {
        const streams = await this.#reader.send(
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
      } catch {
        // An outage, which is told elsewhere.
        if (!this.#closed) await new Promise((resolve) => setTimeout(resolve, READ_PAUSE_MS));
      }
    }
  }

  #obey(entry: Reply): void {
    const [entryId, fields] = entry as [Buffer, readonly Buffer[]];
    this.#asked = String(entryId);
    if (String(fields[0]) === "stop") this.#options.events.stopped(String(fields[1]));
  }

  #tell(id: string, entry: Reply): void {
    const followed = this.#followed.get(id);
    if (followed === undefined) return;
    const { id: entryId, said } = parseEntry(entry);
    if (said.start + said.bytes.length <= Number(followed.entry.split("-")[0])) return; // read already
    followed.entry = entryId;
    if (said.end) this.#followed.delete(id);
    this.#options.events.heard(id, said);
  }

  /** Lets go of all. What was written before is waited for, a second at most. */
  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#renewing);
    clearTimeout(this.#late);
    this.#started.resolve();
    if (this.#writer.up) {
      // After all that was written before.
      await inTime(this.#writer.send("DEL", leaseKey(this.#name), askedKey(this.#name))).catch(() => {});
    }
    this.#reader.close();
    this.#writer.close();
    await Promise.all([this.#opened, this.#reading]);
  }
}

/** Gives up a wait for the server. */
async function inTime<Value>(wait: Promise<Value>): Promise<Value> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`The store gave no answer for ${ANSWER_MS} ms`)),
    ANSWER_MS,
  );
  try {
    return await Promise.race([wait, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Streams with an id in Valkey or Redis, so that what was begun at one daemon is resumed and stopped at another.
 *
 * A stream has two keys: `about` (JSON: who makes it, how it is written) and `events`, a stream of Redis whose entries
 * are what was said in a turn; an entry's id is its end's position in bytes, so a gap or a second end cannot go unseen.
 * A worker has two: a lease that it renews, and a stream of what others ask of it.
 * @module
 */
import type { Buffer } from "node:buffer";
import type { Log } from "../ops/log/log.ts";
import { inTime, RedisLink } from "./redis_link.ts";
import { aboutKey, askedKey, leaseKey, parseAbout, type StreamAbout } from "./redis_records.ts";
import { lastEntry, type StoreEvents, StreamReader } from "./stream_reader.ts";
import { StreamWriter } from "./stream_writer.ts";

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
/** An outage that streams which are followed outlive. */
const GRACE_MS = 5000;
/** To be up for the first time, for which whoever comes before it waits: the library takes a moment to load. */
const START_MS = 5000;

/** See the module. */
export class RedisStore {
  readonly #name: string = crypto.randomUUID();
  readonly #log: Log;
  readonly #link = new RedisLink();
  readonly #waitingLink = new RedisLink();
  /** For streams that are made here. */
  readonly writer: StreamWriter;
  /** For those that are made elsewhere. */
  readonly reader: StreamReader;
  /** Ids whose claim nobody waits for any more; it is given back once it is made. */
  readonly #lateClaims = new Set<string>();
  #downSinceMs: number | undefined;
  readonly #late: ReturnType<typeof setTimeout>;
  readonly #renewing: ReturnType<typeof setInterval>;
  /** Resolves when it is up for the first time, cannot be, or is late. */
  readonly #started = Promise.withResolvers<void>();
  /** Resolves when nothing is read any more. */
  readonly #reading: Promise<void>;
  #closed = false;

  /** Connects by and by; until then it is as down. */
  constructor({ url, caFile, log, events, ...limits }: RedisStoreOptions) {
    this.#log = log;
    const [link, waitingLink] = [this.#link, this.#waitingLink];
    this.writer = new StreamWriter(link, limits);
    this.reader = new StreamReader({ name: this.#name, link, waitingLink, events });
    const down = (error: Error): void => this.#isDown(error);
    const opened = Promise.all([
      link.open(url, caFile, { up: () => this.#renew(), down }),
      waitingLink.open(url, caFile, {
        up: () => {
          this.#renew();
          void this.reader.up();
        },
        down,
      }),
    ]);
    this.#late = setTimeout(() => this.#started.resolve(), START_MS);
    this.#renewing = setInterval(() => this.#renew(), RENEW_MS);
    this.#reading = opened.then(() => this.reader.run());
  }

  /** For the metrics. */
  get stats(): StoreStats {
    return {
      up: this.#link.up && this.#waitingLink.up && this.#downSinceMs === undefined,
      unsaved: this.writer.unsaved,
    };
  }

  // It has taken something, which one that is only connected to need not: it may want a password, or be full.
  #works(): void {
    if (!this.#waitingLink.up) return;
    if (this.#downSinceMs !== undefined) this.#log.info("The store of streams is back");
    this.#downSinceMs = undefined;
    this.writer.forgetSpoiled();
    this.#started.resolve();
  }

  #isDown(error: Error): void {
    this.#started.resolve();
    if (this.#downSinceMs !== undefined || this.#closed) return;
    this.#downSinceMs = performance.now();
    this.#log.warning(
      "The store of streams cannot be reached; they go on, but cannot be resumed at another daemon",
      { error },
    );
  }

  #renew(): void {
    if (this.#downSinceMs !== undefined && performance.now() - this.#downSinceMs > GRACE_MS) {
      this.reader.loseAll();
    }
    if (!this.#link.up) return;
    this.#link.sendProbe("SET", leaseKey(this.#name), "1", "PX", String(LEASE_MS)).then(
      () => this.#works(),
      (error: Error) => this.#isDown(error),
    );
    // Where that fails, so does the one before.
    this.#link.send("PEXPIRE", askedKey(this.#name), String(LEASE_MS)).catch(() => {});
    this.reader.check();
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
    const set = this.#link.send("SET", key, value, "NX", "EX", String(this.writer.unendedSecs));
    const other = this.#link.send("GET", key);
    let answers;
    try {
      answers = await inTime(Promise.all([set, other]));
    } catch (error) {
      // It goes on without being saved; if the claim is made later on, nobody is to wait for what it says.
      this.#lateClaims.add(id);
      set.then((set) => set === null || this.writer.forget(id), () => {})
        .finally(() => this.#lateClaims.delete(id));
      throw error;
    }
    if (answers[0] === null) {
      const found = parseAbout(answers[1] as Buffer | null);
      if (found === undefined) throw new Error("The store has an id that nobody can read");
      return found;
    }
    this.writer.claimed(id);
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
    return parseAbout(await inTime(this.#link.send("GET", aboutKey(id))) as Buffer | null);
  }

  // What is there by now may be a claim that is about to be given back.
  #checkLate(id: string): void {
    if (this.#lateClaims.has(id)) throw new Error("An earlier claim of that id has had no answer yet");
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
      this.#link.send("EXISTS", leaseKey(about.owner)),
      lastEntry(this.#link, id),
    ]));
    if (lease === 0 || last?.said.end) return false;
    const asked = askedKey(about.owner);
    await inTime(Promise.all([
      this.#link.send("XADD", asked, "MAXLEN", "~", "1000", "*", "stop", id),
      this.#link.send("PEXPIRE", asked, String(LEASE_MS)), // its worker may have died, and renews nothing then
    ]));
    return true;
  }

  /** Lets go of all. What was written before is waited for, a second at most, and so is a connection on its way. */
  async close(): Promise<void> {
    this.#closed = true;
    this.reader.close();
    clearInterval(this.#renewing);
    clearTimeout(this.#late);
    this.#started.resolve();
    if (this.#link.up) {
      // After all that was written before.
      await inTime(this.#link.send("DEL", leaseKey(this.#name), askedKey(this.#name))).catch(() => {});
    }
    this.#waitingLink.close();
    this.#link.close();
    await inTime(this.#reading).catch(() => {}); // nothing breaks off what is only being opened
  }
}

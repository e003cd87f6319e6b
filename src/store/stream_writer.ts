/**
 * What is written of streams: those that are made here, from the claim of their id on, and the last words of one whose
 * owner has gone.
 * @module
 */
import type { Argument, RedisLink } from "./redis_link.ts";
import { aboutKey, addCommand, eventsKey, type Said } from "./redis_records.ts";

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

/** See the module. Never fails: the worst is that a stream is saved no longer. */
export class StreamWriter {
  readonly #link: RedisLink;
  readonly #maxStreamBytes: number;
  /** For streams that end from now on. */
  keepMs: number;
  readonly #saved = new Map<string, Saved>();
  /** Their keys are to go when the server is back: a part is missing. */
  readonly #spoiled = new Set<string>();
  #unsentBytes = 0;
  #unsaved = 0;

  /** @param link commands go out by it, in their order */
  constructor(
    link: RedisLink,
    { keepMs, maxStreamBytes }: { readonly keepMs: number; readonly maxStreamBytes: number },
  ) {
    this.#link = link;
    this.#maxStreamBytes = maxStreamBytes;
    this.keepMs = keepMs;
  }

  /** Streams whose copy was given up so far. */
  get unsaved(): number {
    return this.#unsaved;
  }

  /** How long the keys of one that goes on are kept. */
  get unendedSecs(): number {
    return UNENDED_SECS + this.#keepSecs;
  }

  get #keepSecs(): number {
    return Math.ceil(this.keepMs / 1000);
  }

  /** Its id is ours now. */
  claimed(id: string): void {
    this.#saved.set(id, { expiryMs: performance.now(), trimmed: 0 });
    this.#spoiled.delete(id); // it was another one's of that id
  }

  /** Saves what a claimed stream has said. */
  append(id: string, said: Said): void {
    const saved = this.#saved.get(id);
    if (saved === undefined) return;
    const { start, bytes, end } = said;
    if (end) this.#saved.delete(id);
    if (!this.#link.up || this.#unsentBytes + bytes.length > MAX_UNSENT_BYTES) return this.#spoil(id);
    const position = start + bytes.length;
    this.#write(id, bytes.length, ...addCommand(id, said));
    if (position - saved.trimmed > this.#maxStreamBytes + this.#maxStreamBytes / 4) {
      saved.trimmed = position - this.#maxStreamBytes;
      this.#write(id, 0, "XTRIM", eventsKey(id), "MINID", `${saved.trimmed}-0`);
    }
    if (end) this.#expire(id, this.#keepSecs);
    else if (start === 0 || performance.now() - saved.expiryMs > EXPIRE_EACH_MS) {
      saved.expiryMs = performance.now();
      this.#expire(id, this.unendedSecs);
    }
  }

  /** Ends one whose owner has gone, for all who follow it: they hear of it as of all else. */
  endForOwner(id: string, said: Said): void {
    // Another daemon was first; it said the same.
    this.#link.send(...addCommand(id, said)).catch(() => {});
    this.#expire(id, this.#keepSecs);
  }

  #expire(id: string, secs: number): void {
    for (const key of [aboutKey(id), eventsKey(id)]) this.#write(id, 0, "EXPIRE", key, String(secs));
  }

  #write(id: string, bytes: number, ...command: Argument[]): void {
    this.#unsentBytes += COMMAND_BYTES + bytes;
    void this.#link.send(...command).catch(() => this.#spoil(id)).finally(() =>
      this.#unsentBytes -= COMMAND_BYTES + bytes
    );
  }

  // What is there has a gap from now on.
  #spoil(id: string): void {
    if (this.#spoiled.has(id)) return;
    this.#saved.delete(id);
    this.#unsaved++;
    if (this.#link.up) this.forget(id);
    else this.#spoiled.add(id);
  }

  /** Removes a stream that is made here. */
  forget(id: string): void {
    this.#saved.delete(id);
    // Where that fails it is for later.
    this.#link.send("DEL", aboutKey(id), eventsKey(id)).catch(() => this.#spoiled.add(id));
  }

  /** The server takes something again: what could not be removed is removed now. */
  forgetSpoiled(): void {
    for (const id of this.#spoiled) this.forget(id);
    this.#spoiled.clear();
  }
}

/**
 * The bytes of one stream that can be given again: all of them, or the last ones where there is no room for more.
 * @module
 */

/** Where a log has its memory from. */
export interface LogMemory {
  /** What one log may have at most, in bytes. */
  readonly maxStreamBytes: number;
  /** Asks for so many bytes more; returns whether they may be had. */
  reserve(bytes: number): boolean;
  release(bytes: number): void;
}

const FIRST_BYTES = 1024;
// Each byte becomes one character, so that places in the text are places in the bytes.
const latin1 = new TextDecoder("latin1");

/** See the module. Positions count from the beginning of the stream. */
export class ByteLog {
  readonly #memory: LogMemory;
  #bytes = new Uint8Array();
  #start = 0;
  #end = 0;
  /** The last event of what came last and was not kept. */
  #goneId = 0;

  constructor(memory: LogMemory) {
    this.#memory = memory;
  }

  /** The first position that is kept. */
  get start(): number {
    return this.#start;
  }

  /** The position after the last byte that came. */
  get end(): number {
    return this.#end;
  }

  /** Bytes of memory. */
  get heldBytes(): number {
    return this.#bytes.length;
  }

  /**
   * Adds bytes, by copy.
   *
   * @param dropping is told before what lies in front of a position is dropped to make room
   */
  append(bytes: Uint8Array, dropping: (start: number) => void): void {
    const length = this.#end - this.#start;
    if (length + bytes.length > this.#bytes.length && !this.#grow(length + bytes.length)) {
      // Half of the room is made free, so that it does not come to this at each event.
      const kept = Math.max(0, Math.min(length, (this.#bytes.length >> 1) - bytes.length));
      dropping(this.#end - kept);
      this.#bytes.copyWithin(0, length - kept, length);
      this.#start = this.#end - kept;
    }
    const at = this.#end - this.#start;
    this.#end += bytes.length;
    if (at + bytes.length <= this.#bytes.length) this.#bytes.set(bytes, at);
    else {
      // More at once than there is room for.
      this.#start = this.#end;
      this.#goneId = lastIdIn(latin1.decode(bytes)) ?? this.#goneId;
    }
  }

  #grow(neededBytes: number): boolean {
    const { maxStreamBytes } = this.#memory;
    if (neededBytes > maxStreamBytes) return false;
    const held = this.#bytes.length;
    // An eighth more where that is all there is: each time, what is held is copied.
    for (
      const wanted of [
        Math.max(held * 2, neededBytes, FIRST_BYTES),
        Math.max(held + (held >> 3), neededBytes),
      ]
    ) {
      const capacity = Math.min(wanted, maxStreamBytes);
      if (!this.#memory.reserve(capacity - held)) continue;
      const grown = new Uint8Array(capacity);
      grown.set(this.#bytes.subarray(0, this.#end - this.#start));
      this.#bytes = grown;
      return true;
    }
    return false;
  }

  /** Nothing more will come: gives back the memory that it does not need. */
  trim(): void {
    const held = this.#bytes.length;
    this.#bytes = this.#bytes.slice(0, this.#end - this.#start);
    this.#memory.release(held - this.#bytes.length);
  }

  /** Gives back all memory; nothing is kept any more. */
  clear(): void {
    this.#memory.release(this.#bytes.length);
    this.#bytes = new Uint8Array();
    this.#start = this.#end;
  }

  /** Bytes from a kept position on, so many at most: a view that is valid until the next change. */
  from(position: number, mostBytes: number): Uint8Array<ArrayBuffer> {
    const at = position - this.#start;
    return this.#bytes.subarray(at, Math.min(at + mostBytes, this.#end - this.#start));
  }

  /** The stream is known from there on only. For one that has nothing yet. */
  beginAt(position: number): void {
    this.#start = position;
    this.#end = position;
  }

  /** The id of the last event; 0 if there is none. */
  get lastEventId(): number {
    return lastIdIn(this.#text()) ?? this.#goneId;
  }

  /** The position after the event with that id, 0 being the beginning; `undefined` if what follows it is not kept. */
  after(eventId: number): number | undefined {
    if (eventId === 0) return this.#start === 0 ? 0 : undefined;
    // Of an event at the very beginning, the id has a line break in front, too.
    const text = `\n${this.#text()}`;
    // A line of its own: no data has a line break in it (JSON), and each event's first line is not its id's only once.
    const at = text.indexOf(`\nid: ${eventId}\n`);
    if (at < 0) {
      const isNext = text === "\n" ? this.#goneId === eventId : text.startsWith(`\nid: ${eventId + 1}\n`);
      return isNext ? this.#start : undefined;
    }
    const end = text.indexOf("\n\n", at + 1);
    return end < 0 ? undefined : this.#start + end + 1;
  }

  #text(): string {
    return latin1.decode(this.from(this.#start, Infinity));
  }
}

/** The id of the last event in a text. */
function lastIdIn(text: string): number | undefined {
  const lines = `\n${text}`;
  const id = /^\nid: (\d+)\n/.exec(lines.slice(lines.lastIndexOf("\nid: ")))?.[1];
  return id === undefined ? undefined : Number(id);
}

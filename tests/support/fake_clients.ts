/**
 * Clients without a kernel: sockets that a test fills and drains, the reactor that they belong to, and recipients that
 * only take notes.
 * @module
 */
import type { ClientEvents } from "../../src/native/reactor.ts";
import type { AnswerFormat, ClientEvent, Recipient } from "../../src/protocol/stream_event.ts";
import type { Sender } from "../../src/worker/clients.ts";
import type { Sockets } from "../../src/worker/connection.ts";

/** A socket that takes `room` bytes and remembers them. */
export class FakeSocket {
  readonly id: number;
  owner: ClientEvents | undefined;
  received = "";
  room: number;
  /** What send(2) fails with, as a negative status. */
  failure: number | undefined;
  /** How it was closed: by close(2) at once, or in order after its last bytes. */
  closed: "at once" | "in order" | undefined;
  /** After a send that came up short, until there is room again. */
  blocked = false;

  constructor(id: number, room: number) {
    this.id = id;
    this.room = room;
  }

  /** Makes room, and says so as the reactor does. */
  drain(room: number): void {
    this.room = room;
    this.blocked = false;
    this.owner?.writable();
  }
}

/**
 * Behaves as `shim/ABI.md` says: a number is given again once its client is closed. Throws where the shim's status would
 * tell of a bug: bytes for a client that is closed, a client closed twice.
 */
export class FakeReactor implements Sender, Sockets {
  readonly #open = new Map<number, FakeSocket>();
  /** Closed by their last entry; their owners are still to be told so. */
  readonly #ended = new Map<number, FakeSocket>();
  /** Calls of {@linkcode FakeReactor.send} so far. */
  batches = 0;

  accept(room = Infinity): FakeSocket {
    let id = 0;
    while (this.#open.has(id)) id++;
    if (this.#ended.has(id)) throw new Error(`client ${id} was not told that its last bytes closed it`);
    const socket = new FakeSocket(id, room);
    this.#open.set(id, socket);
    return socket;
  }

  /** Clients whose sockets are open, or whose owners do not know yet that they are not. */
  get open(): number {
    return this.#open.size + this.#ended.size;
  }

  send({ entries, count, data, dataBytes }: Parameters<Sender["send"]>[0]): Int32Array {
    this.batches++;
    const results = new Int32Array(count);
    for (let index = 0; index < count; index++) {
      const [id, offset, length, flags] = entries.subarray(index * 4, index * 4 + 4) as unknown as [
        number,
        number,
        number,
        number,
      ];
      if (offset + length > dataBytes) throw new RangeError(`entry ${index} is beyond the data`);
      results[index] = this.#sendOne(id, data.subarray(offset, offset + length), flags === 1);
    }
    return results;
  }

  #sendOne(id: number, bytes: Uint8Array, end: boolean): number {
    const socket = this.#open.get(id);
    if (socket === undefined) throw new RangeError(`client ${id} is not open`);
    if (socket.blocked) return 0;
    if (socket.failure !== undefined) return socket.failure;
    const taken = Math.min(bytes.length, socket.room);
    socket.received += new TextDecoder("latin1").decode(bytes.subarray(0, taken));
    socket.room -= taken;
    socket.blocked = taken < bytes.length;
    if (end && !socket.blocked) {
      this.#end(id, "in order");
      this.#ended.set(id, socket);
    }
    return taken;
  }

  close(id: number): void {
    this.#end(id, "at once").owner = undefined;
  }

  closedByEnd(id: number): void {
    const socket = this.#ended.get(id);
    if (socket === undefined) throw new RangeError(`client ${id} was not closed by its last bytes`);
    this.#ended.delete(id);
    socket.owner = undefined;
  }

  /** Clients that went to another reactor: its number, and the handoff's data. */
  readonly moved: [number, string][] = [];
  /** Whether other reactors take clients. */
  moves = true;

  move(id: number, reactor: number, payload: Uint8Array): boolean {
    if (!this.moves) return false;
    if (!this.#open.delete(id)) throw new RangeError(`client ${id} is not open`);
    this.moved.push([reactor, new TextDecoder().decode(payload)]);
    return true;
  }

  #end(id: number, how: "at once" | "in order"): FakeSocket {
    const socket = this.#open.get(id);
    if (socket === undefined) throw new RangeError(`client ${id} is not open`);
    this.#open.delete(id);
    socket.closed = how;
    return socket;
  }
}

/** Says what became of its events and bytes. */
export class FakeRecipient implements Recipient {
  readonly id: number;
  ended = false;
  full = false;
  headSent = false;
  headers = "";
  format: AnswerFormat | null = null;
  frame = "";
  frameEnds = false;
  /** Kinds of the events that it was shown before they were encoded. */
  readonly noted: string[] = [];
  /** Whether it still wants what comes. */
  wants = true;
  /** `[result, the entry's text, end]`. */
  readonly results: [number, string, boolean][] = [];
  /** `[text, end]`. */
  readonly appended: [string, boolean][] = [];

  constructor(id: number) {
    this.id = id;
  }

  note(event: ClientEvent): boolean {
    this.noted.push(event.kind);
    return this.wants;
  }

  sent(result: number, data: Uint8Array<ArrayBuffer>, offset: number, length: number, end: boolean): void {
    this.results.push([result, new TextDecoder().decode(data.subarray(offset, offset + length)), end]);
  }

  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    this.appended.push([new TextDecoder().decode(bytes), end]);
  }
}

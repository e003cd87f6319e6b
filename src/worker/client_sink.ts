/**
 * The clients' end of the pipeline: sends batches, keeps for each client what did not fit, and gives up on those that
 * take nothing for too long. One client's failure is that client's state, never an error of the stream.
 * @module
 */
import type { Deadline, DeadlineOwner, Deadlines } from "../timing/timer_wheel.ts";
import type { StreamFailure } from "../errors.ts";
import type { OpenFrame, OutboxTarget } from "./outbox.ts";
import type { Batch } from "../protocol/sse.ts";

/** A client's socket, as the reactor gives it. */
export interface Socket {
  readonly id: number;
  events: { gone(errno: number): void; writable(): void } | undefined;
  close(): void;
  closedByEnd(): void;
}

/** What sends: the reactor. */
export interface Sender {
  /** One result per entry: the bytes taken, or a negative status. Valid until the next call. */
  send(batch: Pick<Batch<Client>, "entries" | "count" | "data" | "dataBytes">): Int32Array;
}

/** Who owns a client: hears once how it ended. Must not throw. */
export interface ClientOwner {
  /** `undefined`: its last bytes went out and it was closed in order. */
  clientEnded(failure: StreamFailure | undefined): void;
}

/** What the sink counts. */
export interface Traffic {
  bytesSent(bytes: number): void;
}

const ENTRY_WORDS = 4;
const END = 1;
const ETIMEDOUT = 110;

/** One client: its socket, and what it has not taken yet. Its socket is closed exactly once, here. */
export class Client implements OutboxTarget, DeadlineOwner {
  readonly id: number;
  frame: OpenFrame<OutboxTarget> | undefined;
  readonly #sink: ClientSink;
  readonly #socket: Socket;
  readonly #owner: ClientOwner;
  #kept: Uint8Array<ArrayBuffer> | undefined;
  #endKept = false;
  #ended = false;
  #writeDeadline: Deadline | undefined;
  #room: PromiseWithResolvers<void> | undefined;

  /** For {@linkcode ClientSink.adopt}. */
  constructor(sink: ClientSink, socket: Socket, owner: ClientOwner) {
    this.#sink = sink;
    this.#socket = socket;
    this.#owner = owner;
    this.id = socket.id;
    socket.events = this;
  }

  /** Whether bytes wait for room: nothing more should be made for it until {@linkcode Client.room}. */
  get full(): boolean {
    return this.#kept !== undefined;
  }

  /** Whether its socket is closed. */
  get ended(): boolean {
    return this.#ended;
  }

  /** Resolves when nothing waits for room any more, or the client has ended. */
  room(): Promise<void> {
    if (this.#kept === undefined || this.#ended) return Promise.resolve();
    this.#room ??= Promise.withResolvers();
    return this.#room.promise;
  }

  /** Closes the socket at once, for a reason; what was kept is dropped. Does nothing after its end. */
  abort(failure: StreamFailure): void {
    if (this.#ended) return;
    this.#socket.close();
    this.#finish(failure);
  }

  /** The shim's word that the client's end came (0), or an error on its socket. */
  gone(errno: number): void {
    // The kernel gives up on bytes that stay unacknowledged for the write time-out (TCP_USER_TIMEOUT).
    this.abort(errno === ETIMEDOUT ? "write_timeout" : "client_disconnected");
  }

  /** The write deadline passed: no progress for so long. */
  deadlineReached(): void {
    this.abort("write_timeout");
  }

  /** Room again: sends what was kept. */
  writable(): void {
    if (this.#kept !== undefined) this.#sink.sendKept(this, this.#kept, this.#endKept);
  }

  /**
   * For the sink: what became of bytes that were to be sent.
   *
   * @param result bytes taken, or a negative status
   * @param data where the bytes lie; copied if they must be kept
   */
  sent(result: number, data: Uint8Array<ArrayBuffer>, offset: number, length: number, end: boolean): void {
    if (this.#ended) return;
    if (result < 0) this.gone(-result);
    else if (result === length) {
      if (end) {
        this.#socket.closedByEnd();
        this.#finish(undefined);
      } else if (this.#kept !== undefined) this.#drained();
    } else this.#keep(data.slice(offset + result, offset + length), end, result > 0);
  }

  /** For the sink: bytes that follow those which are kept already. */
  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    if (this.#ended) return;
    const kept = this.#kept ?? new Uint8Array();
    const joined = new Uint8Array(kept.length + bytes.length);
    joined.set(kept);
    joined.set(bytes, kept.length);
    this.#kept = joined;
    this.#endKept ||= end;
  }

  #keep(rest: Uint8Array<ArrayBuffer>, end: boolean, progress: boolean): void {
    this.#kept = rest;
    this.#endKept = end;
    if (this.#writeDeadline === undefined) this.#writeDeadline = this.#sink.writeDeadline(this);
    else if (progress) this.#writeDeadline.extend();
  }

  #drained(): void {
    this.#release();
    this.#room?.resolve();
    this.#room = undefined;
  }

  #release(): void {
    this.#kept = undefined;
    this.#writeDeadline?.cancel();
    this.#writeDeadline = undefined;
  }

  #finish(failure: StreamFailure | undefined): void {
    this.#ended = true;
    this.#drained();
    this.#owner.clientEnded(failure);
  }
}

/** What the sink is made of. */
export interface ClientSinkParts {
  readonly sender: Sender;
  readonly deadlines: Deadlines;
  readonly traffic: Traffic;
  /** How long a client may take nothing, in milliseconds. Read anew for each. */
  writeTimeoutMs(): number;
}

/** The `WritableStream` for batches, and the clients behind it. */
export class ClientSink {
  readonly #parts: ClientSinkParts;
  readonly #one = new Uint32Array(ENTRY_WORDS);

  constructor(parts: ClientSinkParts) {
    this.#parts = parts;
  }

  /** The end of the pipeline. A batch's arrays are not used after `write` has returned. */
  writable(): WritableStream<Batch<Client>> {
    return new WritableStream({ write: (batch) => this.#send(batch) }, { highWaterMark: 1 });
  }

  /** Makes a client of a socket, whose end the owner will hear of. */
  adopt(socket: Socket, owner: ClientOwner): Client {
    return new Client(this, socket, owner);
  }

  /** For {@linkcode Client}. */
  writeDeadline(client: Client): Deadline {
    return this.#parts.deadlines.after(this.#parts.writeTimeoutMs(), client);
  }

  /** For {@linkcode Client}: tries what was kept. */
  sendKept(client: Client, kept: Uint8Array<ArrayBuffer>, end: boolean): void {
    this.#one.set([client.id, 0, kept.length, end ? END : 0]);
    const results = this.#parts.sender.send({
      entries: this.#one,
      count: 1,
      data: kept,
      dataBytes: kept.length,
    });
    const result = results[0] as number;
    if (result > 0) this.#parts.traffic.bytesSent(result);
    client.sent(result, kept, 0, kept.length, end);
  }

  #send(batch: Batch<Client>): void {
    const { targets, entries, data, dataBytes } = batch;
    const count = this.#sift(batch);
    const results = this.#parts.sender.send({ entries, count, data, dataBytes });
    let bytes = 0;
    for (let index = 0, word = 0; index < count; index++, word += ENTRY_WORDS) {
      const result = results[index] as number;
      const length = entries[word + 2] as number;
      if (result > 0) bytes += result;
      // Most of a turn's entries went out whole and end nothing.
      if (result === length && entries[word + 3] === 0) continue;
      const client = targets[index] as Client;
      const offset = entries[word + 1] as number;
      const end = entries[word + 3] === END;
      // Full since an earlier entry of this very batch: then the shim sent nothing of this one.
      if (client.full) client.append(data.slice(offset, offset + length), end);
      else client.sent(result, data, offset, length, end);
    }
    this.#parts.traffic.bytesSent(bytes);
  }

  // Takes out, in place, what must not be sent: a client that has ended may have left its number to another one by
  // now, and what is for a full one comes after what is kept. Returns how many entries are left.
  #sift({ targets, entries, count, data }: Batch<Client>): number {
    let kept = 0;
    for (let index = 0; index < count; index++) {
      const client = targets[index] as Client;
      if (!client.ended && !client.full) {
        if (kept !== index) {
          targets[kept] = client;
          entries.copyWithin(kept * ENTRY_WORDS, index * ENTRY_WORDS, (index + 1) * ENTRY_WORDS);
        }
        kept++;
      } else if (!client.ended) {
        const word = index * ENTRY_WORDS;
        const offset = entries[word + 1] as number;
        const length = entries[word + 2] as number;
        client.append(data.slice(offset, offset + length), entries[word + 3] === END);
      }
    }
    return kept;
  }
}

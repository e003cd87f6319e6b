/**
 * The clients' end of the pipeline: sends a turn's bytes in one call. One client's failure is that client's state,
 * never an error of the stream.
 * @module
 */
import { END, ENTRY_WORDS, type SendBatch } from "../protocol/sse.ts";
import type { Recipient } from "../protocol/stream_event.ts";

/** What sends: the reactor. */
export interface Sender {
  /** One result per entry: the bytes taken, or a negative status. Valid until the next call. */
  send(batch: Pick<SendBatch, "entries" | "count" | "data" | "dataBytes">): Int32Array;
}

/** What is counted here. */
export interface Traffic {
  bytesSent(bytes: number): void;
}

/** See the module. */
export class Clients {
  readonly #sender: Sender;
  readonly #traffic: Traffic;
  readonly #one = new Uint32Array(ENTRY_WORDS);

  constructor(sender: Sender, traffic: Traffic) {
    this.#sender = sender;
    this.#traffic = traffic;
  }

  /**
   * The end of a pipeline; each gets one of its own. A batch's arrays are not used after `write` has returned, and no
   * write waits: what a client does not take waits at that client.
   */
  get writable(): WritableStream<SendBatch> {
    return new WritableStream({ write: (batch) => this.#send(batch) }, { highWaterMark: 1 });
  }

  /** Sends to one client at once: what it has not taken, or what is its own affair. */
  sendNow(client: Recipient, bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    const entries = this.#one;
    entries[0] = client.id;
    entries[2] = bytes.length;
    entries[3] = end ? END : 0;
    const results = this.#sender.send({ entries, count: 1, data: bytes, dataBytes: bytes.length });
    const result = results[0] as number;
    if (result > 0) this.#traffic.bytesSent(result);
    client.sent(result, bytes, 0, bytes.length, end);
  }

  #send(batch: SendBatch): void {
    const { recipients, entries, data, dataBytes } = batch;
    const count = sift(batch);
    if (count === 0) return;
    const results = this.#sender.send({ entries, count, data, dataBytes });
    let bytes = 0;
    for (let index = 0, word = 0; index < count; index++, word += ENTRY_WORDS) {
      const result = results[index] as number;
      const length = entries[word + 2] as number;
      const end = entries[word + 3] === END;
      if (result > 0) bytes += result;
      // Most of a turn's entries went out whole and end nothing.
      if (result !== length || end) {
        (recipients[index] as Recipient).sent(result, data, entries[word + 1] as number, length, end);
      }
    }
    this.#traffic.bytesSent(bytes);
  }
}

// Takes out, in place, what must not be sent: a client that has ended may have left its number to another one by now,
// and what is for a full one comes after what it keeps. Returns how many entries are left.
function sift({ recipients, entries, count, data }: SendBatch): number {
  let left = 0;
  for (let index = 0; index < count; index++) {
    const client = recipients[index] as Recipient;
    if (!client.ended && !client.full) {
      if (left !== index) {
        recipients[left] = client;
        entries.copyWithin(left * ENTRY_WORDS, index * ENTRY_WORDS, (index + 1) * ENTRY_WORDS);
      }
      left++;
    } else if (!client.ended) {
      const word = index * ENTRY_WORDS;
      const offset = entries[word + 1] as number;
      client.append(
        data.subarray(offset, offset + (entries[word + 2] as number)),
        entries[word + 3] === END,
      );
    }
  }
  return left;
}

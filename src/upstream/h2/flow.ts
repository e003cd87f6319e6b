/**
 * Flow control (RFC 9113, section 5.2 and 6.9): how much may be sent, and whether the server keeps to what it may
 * send. Numbers only: no frames, no I/O.
 *
 * The connection's window is given back to the server as bytes arrive, a stream's only as its consumer takes
 * them: a slow one holds {@linkcode DEFAULT_WINDOW_BYTES} and stalls nobody.
 * @module
 */

import { DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES } from "./frames.ts";

/** What the server may send ahead on all streams together. */
export const CONNECTION_WINDOW_BYTES = 16 * 1_048_576;

/** A stream's part in it; its other fields are nobody's business here. */
export interface FlowStream {
  /** Bytes that the server takes; below 0 where it has made all windows smaller (section 6.9.2). */
  sendBytes: number;
  /** Bytes received that the server has no credit back for. */
  heldBytes: number;
}

/** One connection's windows. */
export class Flow {
  #sendBytes = DEFAULT_WINDOW_BYTES;
  #heldBytes = 0;
  /** SETTINGS_INITIAL_WINDOW_SIZE: the window that a stream begins with. */
  initialSendBytes = DEFAULT_WINDOW_BYTES;

  /** How many bytes may be sent on a stream now. */
  sendable(stream: FlowStream): number {
    return Math.max(0, Math.min(stream.sendBytes, this.#sendBytes));
  }

  /** So many bytes, no more than {@linkcode sendable}, go out. */
  send(stream: FlowStream, bytes: number): void {
    stream.sendBytes -= bytes;
    this.#sendBytes -= bytes;
  }

  /**
   * WINDOW_UPDATE.
   *
   * @param stream null for the connection
   * @returns whether the window is within its bound
   */
  grow(stream: FlowStream | null, increment: number): boolean {
    const bytes = increment + (stream === null ? this.#sendBytes : stream.sendBytes);
    if (bytes > MAX_WINDOW_BYTES) return false;
    if (stream === null) this.#sendBytes = bytes;
    else stream.sendBytes = bytes;
    return true;
  }

  /**
   * SETTINGS_INITIAL_WINDOW_SIZE, which changes the windows that there are, too.
   *
   * @returns whether all are within their bound
   */
  setInitial(bytes: number, streams: Iterable<FlowStream>): boolean {
    const change = bytes - this.initialSendBytes;
    this.initialSendBytes = bytes;
    let within = true;
    for (const stream of streams) {
      stream.sendBytes += change;
      within &&= stream.sendBytes <= MAX_WINDOW_BYTES;
    }
    return within;
  }

  /**
   * The server has sent bytes, on whichever stream.
   *
   * @returns whether it was allowed to
   */
  receive(bytes: number): boolean {
    this.#heldBytes += bytes;
    return this.#heldBytes <= CONNECTION_WINDOW_BYTES;
  }

  /** @returns what to give back to the server on the connection now, in steps that make few frames; 0: nothing yet */
  credit(): number {
    if (this.#heldBytes < CONNECTION_WINDOW_BYTES / 4) return 0;
    const bytes = this.#heldBytes;
    this.#heldBytes = 0;
    return bytes;
  }

  /** As {@linkcode receive}, on this stream. */
  receiveOn(stream: FlowStream, bytes: number): boolean {
    stream.heldBytes += bytes;
    return stream.heldBytes <= DEFAULT_WINDOW_BYTES;
  }

  /** As {@linkcode credit}, on this stream, whose consumer has taken all. */
  creditOn(stream: FlowStream): number {
    if (stream.heldBytes < DEFAULT_WINDOW_BYTES / 4) return 0;
    const bytes = stream.heldBytes;
    stream.heldBytes = 0;
    return bytes;
  }
}

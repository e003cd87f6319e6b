/**
 * One HTTP/2 connection of a client (RFC 9113): many exchanges over one byte stream.
 *
 * Its own framing, since `node:http2` costs 24 µs per event where this costs 3 (bench/upstream). Received bytes
 * go to their exchange from the read buffer, uncopied. The connection's window is given back as bytes arrive, a
 * stream's only as its consumer takes them: a slow one holds {@linkcode DEFAULT_WINDOW_BYTES} and stalls nobody.
 * @module
 */

import { BackendError } from "../../errors.ts";
import { ByteWriter } from "../byte_writer.ts";
import type { Connection, ConnectionOwner, Exchange } from "../exchange.ts";
import * as h2 from "./frames.ts";
import { decodeHead, encodeHead } from "./hpack.ts";
import type { ByteStream } from "../byte_stream.ts";

const PREFACE = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const READ_BUFFER_BYTES = 65_536;
const MAX_HEAD_BYTES = 65_536;
/** What the server may send ahead on all streams together. */
const CONNECTION_WINDOW_BYTES = 16 * 1_048_576;
/** A server that names no limit gets no more than this on one connection. */
const MAX_STREAMS = 256;
/** Answers to PING and SETTINGS that the server does not read: more is an attack. */
const MAX_UNREAD_REPLY_BYTES = 1_048_576;

/** The server on a connection made with prior knowledge answers in HTTP/1. */
export class NotHttp2Error extends Error {
  override readonly name = "NotHttp2Error";
}

/** An exchange on its way over this connection. */
interface Stream {
  readonly id: number;
  readonly exchange: Exchange;
  /** Bytes of the request's body that are sent, and that the server still takes. */
  sentBytes: number;
  sendWindowBytes: number;
  /** Bytes received that the server has no credit back for. */
  heldBytes: number;
}

/** See the module. */
export class H2Connection implements Connection {
  readonly #stream: ByteStream;
  readonly #owner: ConnectionOwner;
  readonly #pingIntervalMs: number;
  readonly #writer: ByteWriter;
  readonly #streams = new Map<number, Stream>();
  readonly #ready = Promise.withResolvers<void>();
  #settled = false;
  #nextId = 1;
  /** No new stream: after GOAWAY, at the end of the ids. */
  #draining = false;
  #closed = false;
  #maxStreams = MAX_STREAMS;
  #maxFrameBytes = h2.MAX_FRAME_BYTES;
  #initialSendWindowBytes = h2.DEFAULT_WINDOW_BYTES;
  #sendWindowBytes = h2.DEFAULT_WINDOW_BYTES;
  #receivedBytes = 0;
  #heardMs: number;
  #pingSentMs: number | null = null;
  /** The fragments of a head that CONTINUATION goes on with. */
  #head: { id: number; endStream: boolean; block: Uint8Array } | null = null;
  idleSinceMs: number;
  readonly closed: Promise<void>;

  /**
   * @param stream connected, and agreed on HTTP/2
   * @param pingIntervalMs silence after which the server is asked; as much again without an answer is its
   *   death; 0 asks never
   */
  constructor(stream: ByteStream, owner: ConnectionOwner, pingIntervalMs: number) {
    this.#stream = stream;
    this.#owner = owner;
    this.#pingIntervalMs = pingIntervalMs;
    this.#heardMs = this.idleSinceMs = performance.now();
    this.#writer = new ByteWriter(stream, (cause) => this.#die("the connection broke", cause));
    this.#writer.write(new TextEncoder().encode(PREFACE));
    this.#writer.write(h2.settingsFrame([
      [h2.SETTINGS_HEADER_TABLE_SIZE, 0],
      [h2.SETTINGS_ENABLE_PUSH, 0],
      [h2.SETTINGS_MAX_HEADER_LIST_SIZE, MAX_HEAD_BYTES],
    ]));
    this.#writer.write(
      h2.numbersFrame(h2.WINDOW_UPDATE, 0, CONNECTION_WINDOW_BYTES - h2.DEFAULT_WINDOW_BYTES),
    );
    this.closed = this.#read();
  }

  /**
   * The server's SETTINGS have come, hence its limit is known. No stream may be started earlier, so that none is
   * ever over the limit, and so that a server that turns out to speak HTTP/1 has been asked nothing.
   *
   * Rejects with {@linkcode NotHttp2Error} or `BackendError`.
   */
  get ready(): Promise<void> {
    return this.#ready.promise;
  }

  get room(): number {
    return this.#draining || this.#closed ? 0 : Math.max(0, this.#maxStreams - this.#streams.size);
  }

  get active(): number {
    return this.#streams.size;
  }

  /** How many streams the server lets run at once. */
  get maxStreams(): number {
    return this.#maxStreams;
  }

  start(exchange: Exchange): void {
    const id = this.#nextId;
    this.#nextId += 2;
    if (this.#nextId > h2.MAX_WINDOW_BYTES) this.#draining = true;
    const stream: Stream = {
      id,
      exchange,
      sentBytes: 0,
      sendWindowBytes: this.#initialSendWindowBytes,
      heldBytes: 0,
    };
    this.#streams.set(id, stream);
    exchange.carrier = this;
    exchange.streamId = id;
    const { method, url, headers, body } = exchange.request;
    const block = encodeHead([
      [":method", method],
      [":scheme", url.protocol.slice(0, -1)],
      [":authority", url.host],
      [":path", url.pathname + url.search],
      ...headers,
      ["content-length", `${body.length}`],
    ]);
    let flags = body.length === 0 ? h2.FLAG_END_STREAM : 0;
    let type = h2.HEADERS;
    for (let at = 0; at === 0 || at < block.length;) {
      const end = Math.min(at + this.#maxFrameBytes, block.length);
      const last = end === block.length ? h2.FLAG_END_HEADERS : 0;
      this.#writer.write(h2.bytesFrame(type, flags | last, id, block.subarray(at, end)));
      type = h2.CONTINUATION;
      flags = 0;
      at = end;
    }
    this.#sendBody(stream);
    this.#owner.changed(this);
  }

  drop(exchange: Exchange): void {
    if (!this.#has(exchange)) return;
    this.#writer.write(h2.numbersFrame(h2.RST_STREAM, exchange.streamId, h2.CANCEL));
    this.#forget(exchange);
  }

  resume(exchange: Exchange): void {
    const stream = this.#streams.get(exchange.streamId);
    if (stream !== undefined) this.#credit(stream);
  }

  tick(nowMs: number): void {
    if (this.#pingIntervalMs === 0) return;
    if (this.#pingSentMs !== null) {
      if (nowMs - this.#pingSentMs >= this.#pingIntervalMs) {
        this.#die(`no answer to a ping within ${this.#pingIntervalMs} ms`);
      }
    } else if (nowMs - this.#heardMs >= this.#pingIntervalMs && this.#streams.size > 0) {
      this.#pingSentMs = nowMs;
      this.#writer.write(h2.bytesFrame(h2.PING, 0, 0, new Uint8Array(8)));
    }
  }

  close(error: BackendError): void {
    if (this.#closed) return;
    this.#writer.write(h2.numbersFrame(h2.GOAWAY, 0, 0, h2.NO_ERROR));
    this.#end(error);
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(READ_BUFFER_BYTES);
    let have = 0;
    try {
      while (!this.#closed) {
        const count = await this.#stream.read(have === 0 ? buffer : buffer.subarray(have));
        if (count === null) throw new BackendError("unavailable", "the server closed the connection");
        this.#heardMs = performance.now();
        this.#pingSentMs = null;
        have += count;
        const taken = this.#frames(have === buffer.length ? buffer : buffer.subarray(0, have));
        if (taken < have) buffer.copyWithin(0, taken, have);
        have -= taken;
      }
    } catch (error) {
      if (error instanceof BackendError && error.kind === "malformed") this.#protocolError(error);
      else if (error instanceof NotHttp2Error) this.#ready.reject(error);
      this.#die(error instanceof Error ? error.message : "the connection broke", error);
    }
    await this.#writer.settled();
  }

  /** @returns how many bytes were whole frames */
  #frames(bytes: Uint8Array): number {
    let at = 0;
    if (!this.#settled && bytes.length >= 5 && bytes[0] === 72 && bytes[1] === 84 && bytes[2] === 84) {
      throw new NotHttp2Error("the server answers in HTTP/1");
    }
    while (bytes.length - at >= h2.HEAD_BYTES && !this.#closed) {
      const length = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
      if (length > h2.MAX_FRAME_BYTES) throw violation(`a frame of ${length} bytes`);
      const end = at + h2.HEAD_BYTES + length;
      if (end > bytes.length) break;
      const type = bytes[at + 3] ?? 0;
      const flags = bytes[at + 4] ?? 0;
      const id = h2.uint32(bytes, at + 5) & h2.MAX_WINDOW_BYTES;
      const start = at + h2.HEAD_BYTES;
      at = end;
      if (!this.#settled && (type !== h2.SETTINGS || (flags & h2.FLAG_ACK) !== 0)) {
        throw violation("the server does not begin with SETTINGS");
      }
      if (this.#head !== null && (type !== h2.CONTINUATION || this.#head.id !== id)) {
        throw violation("a head is interrupted");
      }
      this.#frame(type, flags, id, bytes, start, end);
    }
    return at;
  }

  #frame(type: number, flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    switch (type) {
      case h2.DATA:
        return this.#onData(flags, id, bytes, start, end);
      case h2.HEADERS: {
        this.#known(id);
        if ((flags & h2.FLAG_PADDED) !== 0) end -= bytes[start++] ?? 0;
        if ((flags & h2.FLAG_PRIORITY) !== 0) start += 5;
        if (start > end) throw violation("padding longer than its frame");
        this.#onHead(id, (flags & h2.FLAG_END_STREAM) !== 0, flags, bytes.subarray(start, end));
        return;
      }
      case h2.CONTINUATION: {
        const head = this.#head;
        if (head === null) throw violation("CONTINUATION without HEADERS");
        if (start === end && (flags & h2.FLAG_END_HEADERS) === 0) throw violation("an empty CONTINUATION");
        const block = new Uint8Array(head.block.length + end - start);
        if (block.length > MAX_HEAD_BYTES) throw violation(`a head of more than ${MAX_HEAD_BYTES} bytes`);
        block.set(head.block);
        block.set(bytes.subarray(start, end), head.block.length);
        this.#onHead(id, head.endStream, flags, block);
        return;
      }
      case h2.RST_STREAM:
        this.#known(id);
        if (end - start !== 4) throw violation("RST_STREAM of a wrong length");
        return this.#onReset(id, h2.uint32(bytes, start));
      case h2.SETTINGS:
        return this.#onSettings(flags, bytes.subarray(start, end));
      case h2.PUSH_PROMISE:
        throw violation("PUSH_PROMISE, though push is off");
      case h2.PING:
        if (end - start !== 8) throw violation("PING of a wrong length");
        if ((flags & h2.FLAG_ACK) === 0) {
          this.#reply(h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, bytes.subarray(start, end)));
        }
        return;
      case h2.GOAWAY:
        if (end - start < 8) throw violation("GOAWAY of a wrong length");
        return this.#onGoaway(h2.uint32(bytes, start) & h2.MAX_WINDOW_BYTES, h2.uint32(bytes, start + 4));
      case h2.WINDOW_UPDATE:
        if (end - start !== 4) throw violation("WINDOW_UPDATE of a wrong length");
        return this.#onWindow(id, h2.uint32(bytes, start) & h2.MAX_WINDOW_BYTES);
      default: // PRIORITY and unknown types (section 5.5)
    }
  }

  #onData(flags: number, id: number, bytes: Uint8Array, start: number, end: number): void {
    const length = end - start;
    this.#receivedBytes += length;
    if (this.#receivedBytes >= CONNECTION_WINDOW_BYTES / 4) {
      this.#reply(h2.numbersFrame(h2.WINDOW_UPDATE, 0, this.#receivedBytes));
      this.#receivedBytes = 0;
    }
    const stream = this.#streams.get(id);
    if (stream === undefined) return this.#known(id);
    if ((flags & h2.FLAG_PADDED) !== 0) end -= bytes[start++] ?? 0;
    if (start > end) throw violation("padding longer than its frame");
    const { exchange } = stream;
    if (!exchange.headSeen) return this.#refuse(stream, h2.PROTOCOL_ERROR, "data before the head");
    stream.heldBytes += length;
    if (stream.heldBytes > h2.DEFAULT_WINDOW_BYTES) {
      return this.#refuse(stream, h2.FLOW_CONTROL_ERROR, "more data than the window lets through");
    }
    if (start < end) exchange.data(bytes.subarray(start, end));
    if ((flags & h2.FLAG_END_STREAM) !== 0) this.#finish(stream);
    else if (!exchange.paused) this.#credit(stream);
  }

  /** Gives the server back what the consumer took, in steps that make few frames. */
  #credit(stream: Stream): void {
    if (stream.heldBytes < h2.DEFAULT_WINDOW_BYTES / 4) return;
    if (!this.#has(stream.exchange)) return;
    this.#writer.write(h2.numbersFrame(h2.WINDOW_UPDATE, stream.id, stream.heldBytes));
    stream.heldBytes = 0;
  }

  #onHead(id: number, endStream: boolean, flags: number, block: Uint8Array): void {
    if ((flags & h2.FLAG_END_HEADERS) === 0) {
      this.#head = { id, endStream, block: block.slice() };
      return;
    }
    this.#head = null;
    const stream = this.#streams.get(id);
    // Without a dynamic table, the block of a stream that nobody listens to any more need not be decoded.
    if (stream === undefined) return;
    const fields = decodeHead(block, MAX_HEAD_BYTES);
    if (stream.exchange.headSeen) {
      if (!endStream) return this.#refuse(stream, h2.PROTOCOL_ERROR, "a second head");
    } else {
      const text = fields[0]?.[0] === ":status" ? fields[0][1] : "is missing";
      const status = Number(text);
      if (!(status >= 100 && status <= 599) || status === 101) {
        return this.#refuse(stream, h2.PROTOCOL_ERROR, `the status ${text}`);
      }
      if (status >= 200) stream.exchange.head(status, fields.slice(1));
      else if (endStream) return this.#refuse(stream, h2.PROTOCOL_ERROR, `an end after status ${status}`);
    }
    if (endStream) this.#finish(stream);
  }

  /** The server has said all. */
  #finish(stream: Stream): void {
    if (!this.#has(stream.exchange)) return;
    if (stream.sentBytes < stream.exchange.request.body.length) {
      this.#writer.write(h2.numbersFrame(h2.RST_STREAM, stream.id, h2.NO_ERROR));
    }
    this.#forget(stream.exchange);
    stream.exchange.end();
  }

  #refuse(stream: Stream, code: number, what: string): void {
    this.#writer.write(h2.numbersFrame(h2.RST_STREAM, stream.id, code));
    this.#forget(stream.exchange);
    stream.exchange.fail(violation(what));
  }

  #onReset(id: number, code: number): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    const { exchange } = stream;
    this.#forget(exchange);
    const why = `the server reset the stream (${h2.errorName(code)})`;
    if (code === h2.REFUSED_STREAM && !exchange.headSeen) {
      this.#owner.returned(exchange, new BackendError("unavailable", why));
    } else exchange.broke(why);
  }

  #onSettings(flags: number, payload: Uint8Array): void {
    if ((flags & h2.FLAG_ACK) !== 0) return;
    if (payload.length % 6 !== 0) throw violation("SETTINGS of a wrong length");
    for (let at = 0; at < payload.length; at += 6) {
      const id = ((payload[at] ?? 0) << 8) | (payload[at + 1] ?? 0);
      const value = h2.uint32(payload, at + 2);
      if (id === h2.SETTINGS_MAX_CONCURRENT_STREAMS) this.#maxStreams = Math.min(value, MAX_STREAMS);
      else if (id === h2.SETTINGS_MAX_FRAME_SIZE) {
        if (value < h2.MAX_FRAME_BYTES || value > 0xffffff) {
          throw violation(`a maximum frame of ${value} bytes`);
        }
        this.#maxFrameBytes = Math.min(value, READ_BUFFER_BYTES);
      } else if (id === h2.SETTINGS_INITIAL_WINDOW_SIZE) {
        if (value > h2.MAX_WINDOW_BYTES) throw violation(`a window of ${value} bytes`);
        const change = value - this.#initialSendWindowBytes;
        this.#initialSendWindowBytes = value;
        for (const stream of this.#streams.values()) stream.sendWindowBytes += change;
      }
    }
    this.#reply(h2.bytesFrame(h2.SETTINGS, h2.FLAG_ACK, 0, new Uint8Array(0)));
    if (!this.#settled) {
      this.#settled = true;
      this.#ready.resolve();
      return;
    }
    for (const stream of this.#streams.values()) this.#sendBody(stream);
    this.#owner.changed(this);
  }

  #onGoaway(lastId: number, code: number): void {
    this.#draining = true;
    const why = new BackendError("unavailable", `the server closes the connection (${h2.errorName(code)})`);
    for (const { id, exchange } of [...this.#streams.values()]) {
      if (id <= lastId) continue;
      this.#forget(exchange);
      this.#owner.returned(exchange, why);
    }
    if (this.#streams.size === 0) this.#end(why);
    else this.#owner.changed(this);
  }

  #onWindow(id: number, increment: number): void {
    if (id === 0) {
      this.#sendWindowBytes += increment;
      if (increment === 0 || this.#sendWindowBytes > h2.MAX_WINDOW_BYTES) {
        throw violation("a wrong window update");
      }
      for (const stream of this.#streams.values()) {
        if (this.#sendWindowBytes === 0) return;
        this.#sendBody(stream);
      }
      return;
    }
    this.#known(id);
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    stream.sendWindowBytes += increment;
    if (increment === 0 || stream.sendWindowBytes > h2.MAX_WINDOW_BYTES) {
      return this.#refuse(stream, h2.FLOW_CONTROL_ERROR, "a wrong window update");
    }
    this.#sendBody(stream);
  }

  /** Sends as much of the request's body as both windows let through. */
  #sendBody(stream: Stream): void {
    const { body } = stream.exchange.request;
    while (stream.sentBytes < body.length) {
      const left = body.length - stream.sentBytes;
      const bytes = Math.min(left, this.#maxFrameBytes, stream.sendWindowBytes, this.#sendWindowBytes);
      if (bytes <= 0) return;
      const payload = body.subarray(stream.sentBytes, stream.sentBytes + bytes);
      const flags = bytes === left ? h2.FLAG_END_STREAM : 0;
      this.#writer.write(h2.bytesFrame(h2.DATA, flags, stream.id, payload));
      stream.sentBytes += bytes;
      stream.sendWindowBytes -= bytes;
      this.#sendWindowBytes -= bytes;
    }
  }

  /** A frame on a stream that is not there is a late one, unless the stream never was. */
  #known(id: number): void {
    if (id === 0 || id % 2 === 0 || id >= this.#nextId) throw violation(`a frame on stream ${id}`);
  }

  #reply(frame: Uint8Array<ArrayBuffer>): void {
    if (this.#writer.pendingBytes > MAX_UNREAD_REPLY_BYTES) throw violation("the server reads no replies");
    this.#writer.write(frame);
  }

  #has(exchange: Exchange): boolean {
    return this.#streams.get(exchange.streamId)?.exchange === exchange;
  }

  #forget(exchange: Exchange): void {
    this.#streams.delete(exchange.streamId);
    if (this.#streams.size === 0) {
      this.idleSinceMs = performance.now();
      if (this.#draining) return this.#end(new BackendError("unavailable", "the connection is closing"));
    }
    this.#owner.changed(this);
  }

  #protocolError(error: BackendError): void {
    this.#writer.write(h2.numbersFrame(h2.GOAWAY, 0, 0, h2.PROTOCOL_ERROR));
    for (const { exchange } of this.#takeAll()) exchange.fail(error);
    this.#ready.reject(error);
  }

  #die(why: string, cause?: unknown): void {
    if (!this.#closed) this.#end(new BackendError("unavailable", why, { cause }));
  }

  #end(error: BackendError): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ready.reject(error);
    this.#owner.gone(this);
    for (const { exchange } of this.#takeAll()) exchange.broke(error.message, error.cause);
    // After the writer's microtask, so that a GOAWAY is tried at least once.
    queueMicrotask(() => queueMicrotask(() => this.#stream.close()));
  }

  #takeAll(): Stream[] {
    const all = [...this.#streams.values()];
    this.#streams.clear();
    return all;
  }
}

const violation = (what: string): BackendError => new BackendError("malformed", `HTTP/2: ${what}`);

/**
 * HTTP/2 (RFC 9113) for the stand-in provider: as much of a server as its answers need, on a socket of `node:net` or
 * `node:tls`.
 *
 * In place of `node:http2`, whose server ends the whole process in Deno 2.9.6, by an assertion in nghttp2, where a client
 * has reset streams and then closes its connection. It keeps no dynamic table, and says so.
 * @module
 */
import { Buffer } from "node:buffer";
import { EventEmitter } from "node:events";
import type { Socket } from "node:net";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { encodeHead } from "../../src/upstream/h2/hpack.ts";
import { decodeFields } from "./decode_fields.ts";

const PREFACE_BYTES = 24;
const decoder = new TextDecoder();
const encoder = new TextEncoder();

/** A request, from its head on. */
export class H2Request {
  readonly httpVersion = "2.0";
  readonly headers: Readonly<Record<string, string>>;
  readonly #body = Promise.withResolvers<string>();
  readonly #pieces: Uint8Array[] = [];

  constructor(fields: readonly (readonly [string, string])[]) {
    this.headers = Object.fromEntries(fields);
    this.#body.promise.catch(() => {}); // nobody may be reading it
  }

  get method(): string {
    return this.headers[":method"] ?? "";
  }

  get url(): string {
    return this.headers[":path"] ?? "";
  }

  /** The body as text; fails where the stream is reset before its end. */
  body(): Promise<string> {
    return this.#body.promise;
  }

  add(bytes: Uint8Array): void {
    this.#pieces.push(bytes);
  }

  end(): void {
    this.#body.resolve(decoder.decode(Buffer.concat(this.#pieces)));
  }

  abort(): void {
    this.#body.reject(new DOMException("The request was reset", "AbortError"));
  }
}

interface Piece {
  bytes: Uint8Array;
  readonly end: boolean;
  readonly written: (() => void) | undefined;
}

/** The answer to one: events `finish` when all was written, `aborted` where it is reset, `close` after either. */
export class H2Response extends EventEmitter {
  readonly id: number;
  readonly request: H2Request;
  readonly #session: H2Session;
  readonly #pieces: Piece[] = [];
  window: number;
  writableFinished = false;
  over = false;

  constructor(session: H2Session, id: number, request: H2Request, window: number) {
    super();
    this.#session = session;
    this.id = id;
    this.request = request;
    this.window = window;
  }

  writeHead(status: number, headers: Readonly<Record<string, string>>): void {
    if (this.over) return;
    const fields = Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value] as const);
    const block = encodeHead([[":status", `${status}`], ...fields]);
    this.#session.send(h2.bytesFrame(h2.HEADERS, h2.FLAG_END_HEADERS, this.id, block));
  }

  write(data: Uint8Array | string, written?: () => void): void {
    this.#add({ bytes: typeof data === "string" ? encoder.encode(data) : data, end: false, written });
  }

  end(): void {
    this.#add({ bytes: new Uint8Array(), end: true, written: undefined });
  }

  /** RST_STREAM. */
  reset(code: number): void {
    if (this.over) return;
    this.#session.send(h2.numbersFrame(h2.RST_STREAM, this.id, code));
    this.abort();
  }

  #add(piece: Piece): void {
    if (this.over) return;
    this.#pieces.push(piece);
    this.pump();
  }

  /** Sends what the windows have room for. */
  pump(): void {
    for (let piece = this.#pieces[0]; piece !== undefined && !this.over; piece = this.#pieces[0]) {
      const room = Math.min(this.window, this.#session.window, this.#session.maxFrameBytes);
      if (room <= 0 && piece.bytes.length > 0) return;
      const part = piece.bytes.subarray(0, room);
      piece.bytes = piece.bytes.subarray(part.length);
      this.window -= part.length;
      this.#session.window -= part.length;
      const last = piece.bytes.length === 0;
      const flags = last && piece.end ? h2.FLAG_END_STREAM : 0;
      this.#session.send(h2.bytesFrame(h2.DATA, flags, this.id, part), last ? piece.written : undefined);
      if (!last) continue;
      this.#pieces.shift();
      if (piece.end) this.#finish();
    }
  }

  #finish(): void {
    this.writableFinished = true;
    this.#leave();
    this.emit("finish");
    this.emit("close");
  }

  /** The client has reset it, or the connection is gone. */
  abort(): void {
    if (this.over) return;
    this.#leave();
    this.request.abort();
    this.emit("aborted");
    this.emit("close");
  }

  #leave(): void {
    this.over = true;
    this.#pieces.length = 0;
    this.#session.streams.delete(this.id);
  }
}

/** One connection. */
export class H2Session {
  readonly streams = new Map<number, H2Response>();
  window = h2.DEFAULT_WINDOW_BYTES;
  maxFrameBytes = h2.MAX_FRAME_BYTES;
  readonly #socket: Socket;
  readonly #maxStreams: number;
  readonly #onRequest: (request: H2Request, response: H2Response) => void;
  #initialWindow = h2.DEFAULT_WINDOW_BYTES;
  #unread: Buffer = Buffer.alloc(0);
  #preface = false;
  /** The head under way, in pieces, and its flags. */
  #block: Uint8Array[] = [];
  #blockFlags = 0;

  constructor(
    socket: Socket,
    maxStreams: number,
    onRequest: (request: H2Request, response: H2Response) => void,
  ) {
    this.#socket = socket;
    this.#maxStreams = maxStreams;
    this.#onRequest = onRequest;
    this.send(h2.settingsFrame([
      [h2.SETTINGS_HEADER_TABLE_SIZE, 0],
      [h2.SETTINGS_MAX_CONCURRENT_STREAMS, maxStreams],
    ]));
    socket.on("data", (bytes: Buffer) => this.#take(bytes));
    socket.on("close", () => this.#gone());
    socket.on("end", () => this.#gone());
  }

  send(frame: Uint8Array, written?: () => void): void {
    if (!this.#socket.destroyed) this.#socket.write(frame, () => written?.());
  }

  #gone(): void {
    for (const stream of [...this.streams.values()]) stream.abort();
  }

  #take(bytes: Buffer): void {
    this.#unread = Buffer.concat([this.#unread, bytes]);
    if (!this.#preface) {
      if (this.#unread.length < PREFACE_BYTES) return;
      this.#unread = this.#unread.subarray(PREFACE_BYTES);
      this.#preface = true;
    }
    while (this.#unread.length >= h2.HEAD_BYTES) {
      const length = this.#unread.readUIntBE(0, 3);
      if (this.#unread.length < h2.HEAD_BYTES + length) return;
      const [type = 0, flags = 0] = this.#unread.subarray(3, 5);
      const id = h2.uint32(this.#unread, 5) & 0x7fffffff;
      const payload = this.#unread.subarray(h2.HEAD_BYTES, h2.HEAD_BYTES + length);
      this.#unread = this.#unread.subarray(h2.HEAD_BYTES + length);
      this.#frame(type, flags, id, payload);
    }
  }

  #frame(type: number, flags: number, id: number, payload: Uint8Array): void {
    switch (type) {
      case h2.HEADERS:
      case h2.CONTINUATION:
        return this.#head(type, flags, id, payload);
      case h2.DATA:
        return this.#data(flags, id, payload);
      case h2.RST_STREAM:
        return this.streams.get(id)?.abort();
      case h2.SETTINGS:
        return this.#settings(flags, payload);
      case h2.PING:
        if ((flags & h2.FLAG_ACK) === 0) this.send(h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, payload));
        return;
      case h2.WINDOW_UPDATE:
        return this.#windowUpdate(id, h2.uint32(payload, 0));
    }
    // GOAWAY, of a client that opens no more, and PRIORITY ask for nothing.
  }

  #head(type: number, flags: number, id: number, payload: Uint8Array): void {
    if (type === h2.HEADERS) this.#blockFlags = flags;
    this.#block.push(type === h2.HEADERS ? unpadded(flags, payload) : payload);
    if ((flags & h2.FLAG_END_HEADERS) === 0) return;
    const block = Buffer.concat(this.#block);
    this.#block = [];
    if (this.streams.size >= this.#maxStreams) {
      return this.send(h2.numbersFrame(h2.RST_STREAM, id, h2.REFUSED_STREAM));
    }
    const request = new H2Request(decodeFields(block));
    const response = new H2Response(this, id, request, this.#initialWindow);
    this.streams.set(id, response);
    if ((this.#blockFlags & h2.FLAG_END_STREAM) !== 0) request.end();
    this.#onRequest(request, response);
  }

  #data(flags: number, id: number, payload: Uint8Array): void {
    const ended = (flags & h2.FLAG_END_STREAM) !== 0;
    if (payload.length > 0) {
      this.send(h2.numbersFrame(h2.WINDOW_UPDATE, 0, payload.length));
      if (!ended && this.streams.has(id)) this.send(h2.numbersFrame(h2.WINDOW_UPDATE, id, payload.length));
    }
    const request = this.streams.get(id)?.request;
    request?.add(unpadded(flags, payload));
    if (ended) request?.end();
  }

  #settings(flags: number, payload: Uint8Array): void {
    if ((flags & h2.FLAG_ACK) !== 0) return;
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      const value = h2.uint32(payload, at + 2);
      const setting = ((payload[at] ?? 0) << 8) | (payload[at + 1] ?? 0);
      if (setting === h2.SETTINGS_MAX_FRAME_SIZE) this.maxFrameBytes = value;
      if (setting !== h2.SETTINGS_INITIAL_WINDOW_SIZE) continue;
      for (const stream of this.streams.values()) stream.window += value - this.#initialWindow;
      this.#initialWindow = value;
    }
    this.send(h2.bytesFrame(h2.SETTINGS, h2.FLAG_ACK, 0, new Uint8Array()));
    this.#pump();
  }

  #windowUpdate(id: number, more: number): void {
    if (id === 0) this.window += more;
    else {
      const stream = this.streams.get(id);
      if (stream !== undefined) stream.window += more;
    }
    this.#pump();
  }

  #pump(): void {
    for (const stream of [...this.streams.values()]) stream.pump();
  }
}

/** Without padding and priority (section 6.1 and 6.2). */
function unpadded(flags: number, payload: Uint8Array): Uint8Array {
  const padded = (flags & h2.FLAG_PADDED) !== 0;
  const start = (padded ? 1 : 0) + ((flags & h2.FLAG_PRIORITY) !== 0 ? 5 : 0);
  return payload.subarray(start, payload.length - (padded ? payload[0] ?? 0 : 0));
}

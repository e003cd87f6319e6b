/**
 * One HTTP/2 connection of a client (RFC 9113): many exchanges over one byte stream.
 *
 * It says what each frame means to its stream, and is the one way in which a stream and the connection end. Frames are
 * read by {@linkcode FrameReader}, windows counted by {@linkcode Flow}, streams kept in a {@linkcode StreamTable}; what
 * an answer may be made of is in `answer_rules.ts`. Its own framing, since `node:http2` costs 24 µs per event where this
 * costs 3 (bench/upstream). Received bytes go to their exchange from the read buffer, uncopied.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { ByteStream } from "../byte_stream.ts";
import type { Connection, ConnectionOwner, Exchange } from "../exchange.ts";
import { readAnswerHead, takeData } from "./answer_rules.ts";
import { Flow } from "./flow.ts";
import { type FrameListener, FrameReader } from "./frame_reader.ts";
import * as h2 from "./frames.ts";
import { Liveness } from "./liveness.ts";
import { Sender } from "./sender.ts";
import { type Stream, StreamTable } from "./stream_table.ts";

const READ_BUFFER_BYTES = 65_536;
/** A server that names no limit gets no more than this on one connection. */
const MAX_STREAMS = 256;
/** After a refused stream, a connection takes no other for so long. */
const REFUSED_REST_MS = 1_000;
/** How an answer in HTTP/1 begins, which no frame does: with its version, or in HTTP/0.9 with a page. */
const FIRST_OF_HTTP = 72;
const FIRST_OF_HTML = 60;

/** The server does not answer in HTTP/2. */
export class NotHttp2Error extends Error {
  override readonly name = "NotHttp2Error";
}

/** See the module. */
export class H2Connection implements Connection, FrameListener {
  readonly #stream: ByteStream;
  readonly #owner: ConnectionOwner;
  readonly #flow = new Flow();
  readonly #sender: Sender;
  readonly #reader: FrameReader = new FrameReader(this);
  readonly #liveness: Liveness;
  readonly #streams = new StreamTable();
  readonly #ready = Promise.withResolvers<void>();
  #settled = false;
  /** No new stream: after GOAWAY, at the end of the ids. */
  #draining = false;
  #restUntilMs = 0;
  #doubtTimer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;
  #maxStreams = MAX_STREAMS;
  /** The server has said something. */
  heard = false;
  idleSinceMs: number;
  readonly maxIdleMs = Infinity;
  readonly closed: Promise<void>;

  /**
   * @param stream connected, and agreed on HTTP/2
   * @param pingIntervalMs silence after which the server is asked whether it is there; 0 asks never
   */
  constructor(stream: ByteStream, owner: ConnectionOwner, pingIntervalMs: number) {
    this.#stream = stream;
    this.#owner = owner;
    this.idleSinceMs = performance.now();
    this.#liveness = new Liveness(pingIntervalMs, this.idleSinceMs);
    this.#sender = new Sender(stream, this.#flow, (cause) => this.#die("the connection broke", cause));
    this.#sender.begin();
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
    return this.#liveness.doubted || this.#restUntilMs > 0 ? 0 : this.#roomOnceTrusted;
  }

  /** The room that there will be if the server answers the PING that is under way. */
  get expectedRoom(): number {
    return this.#liveness.doubted ? this.#roomOnceTrusted : 0;
  }

  get #roomOnceTrusted(): number {
    return this.#draining || this.#closed ? 0 : Math.max(0, this.#maxStreams - this.#streams.size);
  }

  get active(): number {
    return this.#streams.size;
  }

  get maxStreams(): number {
    return this.#maxStreams;
  }

  /** Whether it can take a stream at once; after a long silence the server is asked for a sign of life first. */
  trusted(nowMs: number): boolean {
    if (!this.#liveness.doubts(nowMs)) return true;
    const waitMs = this.#liveness.doubt(nowMs);
    this.#doubtTimer = setTimeout(() => this.#die(`no answer to a ping within ${waitMs} ms`), waitMs);
    this.#sender.ping();
    return false;
  }

  start(exchange: Exchange): void {
    const { request } = exchange;
    if (request === null) throw new Error("an exchange that has its head cannot be started");
    const stream = this.#streams.open(exchange, request.body, this.#flow.initialSendBytes);
    if (this.#streams.spent) this.#draining = true;
    exchange.carrier = this;
    this.#sender.request(stream, request);
    this.#owner.changed(this);
  }

  drop(exchange: Exchange): void {
    const stream = this.#streams.of(exchange);
    if (stream !== undefined) this.#endStream(stream, h2.CANCEL);
  }

  resume(exchange: Exchange): void {
    const stream = this.#streams.of(exchange);
    if (stream !== undefined) this.#sender.credit(stream.id, this.#flow.creditOn(stream));
  }

  tick(nowMs: number): void {
    if (this.#restUntilMs > 0 && nowMs >= this.#restUntilMs) {
      this.#restUntilMs = 0;
      this.#owner.changed(this);
    }
    const verdict = this.#liveness.look(nowMs, this.#streams.size > 0);
    if (verdict === "ask") this.#sender.ping();
    else if (verdict === "dead") this.#die(`no answer to a ping within ${this.#liveness.waitMs} ms`);
  }

  close(error: BackendError): void {
    this.#end(error, h2.NO_ERROR);
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(READ_BUFFER_BYTES);
    let have = 0;
    try {
      while (!this.#closed) {
        const count = await this.#stream.read(have === 0 ? buffer : buffer.subarray(have));
        if (count === null) return this.#die("the server closed the connection");
        this.#liveness.heard(performance.now());
        this.heard = true;
        have += count;
        if (!this.#settled && (buffer[0] === FIRST_OF_HTTP || buffer[0] === FIRST_OF_HTML)) {
          return this.#isNotHttp2("the server answers in HTTP/1");
        }
        const taken = this.#reader.read(have === buffer.length ? buffer : buffer.subarray(0, have));
        if (taken < have) buffer.copyWithin(0, taken, have);
        have -= taken;
      }
    } catch (error) {
      if (error instanceof h2.ConnectionViolation) this.#end(malformed(error.message), error.code);
      else this.#die(error instanceof Error ? error.message : "the connection broke", error);
    } finally {
      await this.#sender.settled();
    }
  }

  onData(id: number, payload: Uint8Array, flowBytes: number, endStream: boolean): void {
    if (!this.#flow.receive(flowBytes)) {
      throw violation(h2.FLOW_CONTROL_ERROR, "more data than the connection's window lets through");
    }
    this.#sender.credit(0, this.#flow.credit());
    const stream = this.#running(id);
    if (stream === undefined) return;
    const { exchange } = stream;
    if (!exchange.headSeen) return this.#violated(stream, h2.PROTOCOL_ERROR, "data before the head");
    if (!this.#flow.receiveOn(stream, flowBytes)) {
      return this.#violated(stream, h2.FLOW_CONTROL_ERROR, "more data than the window lets through");
    }
    if (!takeData(stream, payload.length)) {
      return this.#violated(stream, h2.PROTOCOL_ERROR, "more data than its content length");
    }
    if (payload.length > 0) exchange.data(payload);
    if (!this.#streams.has(stream)) return;
    if (endStream) this.#finish(stream);
    else if (!exchange.paused) this.#sender.credit(stream.id, this.#flow.creditOn(stream));
  }

  onHead(id: number, block: Uint8Array | null, endStream: boolean): void {
    const stream = this.#running(id);
    // Without a dynamic table, the block of a stream that nobody listens to any more need not be decoded.
    if (stream === undefined) return;
    const { exchange } = stream;
    const read = readAnswerHead(stream, exchange.headSeen, block, endStream);
    if (read.kind === "wrong") return this.#violated(stream, read.code, read.what);
    if (read.kind === "interim") return;
    if (read.kind === "head") exchange.head(read.status, read.fields);
    if (endStream && this.#streams.has(stream)) this.#finish(stream);
  }

  onReset(id: number, code: number): void {
    const stream = this.#streams.known(id);
    if (stream === undefined) return;
    const { exchange } = stream;
    const why = `the server reset the stream (${h2.errorName(code)})`;
    if (code === h2.REFUSED_STREAM && !exchange.headSeen) {
      this.#restUntilMs = performance.now() + REFUSED_REST_MS;
      this.#endStream(stream, null);
      this.#owner.returned(exchange, new BackendError("unavailable", why));
    } else {
      this.#endStream(stream, null);
      exchange.broke(why);
    }
  }

  onSetting(setting: number, value: number): void {
    if (setting === h2.SETTINGS_MAX_CONCURRENT_STREAMS) this.#maxStreams = Math.min(value, MAX_STREAMS);
    else if (setting === h2.SETTINGS_MAX_FRAME_SIZE) this.#sender.maxFrameBytes = value;
    else if (setting === h2.SETTINGS_HEADER_TABLE_SIZE) this.#sender.tableBytes = value;
    else if (setting === h2.SETTINGS_INITIAL_WINDOW_SIZE) {
      if (!this.#flow.setInitial(value, this.#streams.all())) {
        throw violation(h2.FLOW_CONTROL_ERROR, "SETTINGS that make a window too large");
      }
    }
  }

  onSettingsEnd(): void {
    this.#sender.acknowledgeSettings();
    if (!this.#settled) {
      this.#settled = true;
      this.#ready.resolve();
      return;
    }
    this.#sender.bodies();
    this.#owner.changed(this);
  }

  onPing(payload: Uint8Array, ack: boolean): void {
    if (!ack) return this.#sender.answerPing(payload);
    this.#liveness.answered();
    if (this.#doubtTimer === null) return;
    clearTimeout(this.#doubtTimer);
    this.#doubtTimer = null;
    this.#owner.changed(this);
  }

  onGoaway(lastId: number, code: number, text: Uint8Array): void {
    // As the first frame, it is how a Kestrel of HTTP/1.1 answers.
    if (!this.#settled && code === h2.HTTP_1_1_REQUIRED) return this.#isNotHttp2("the server wants HTTP/1.1");
    this.#draining = true;
    // Some servers say more than the code: "too_many_pings".
    const more = String.fromCharCode(...text.subarray(0, 100)).replace(/[^ -~]+/g, " ").trim();
    const said = more === "" ? h2.errorName(code) : `${h2.errorName(code)}: ${more}`;
    const why = new BackendError("unavailable", `the server closes the connection (${said})`);
    for (const stream of this.#streams.all()) {
      const { exchange } = stream;
      // After an error, no answer begins any more (section 5.4.1).
      const isOver = stream.id > lastId || (code !== h2.NO_ERROR && !exchange.headSeen);
      if (!isOver) continue;
      this.#endStream(stream, null);
      if (exchange.headSeen || stream.id <= lastId) exchange.broke(why.message);
      else this.#owner.returned(exchange, why);
    }
    if (this.#streams.size === 0) this.#end(why, h2.NO_ERROR);
    else this.#owner.changed(this);
  }

  onWindow(id: number, increment: number): void {
    if (id === 0) {
      if (!this.#flow.grow(null, increment)) {
        throw violation(h2.FLOW_CONTROL_ERROR, "a window update beyond the bound");
      }
    } else {
      const stream = this.#streams.known(id);
      if (stream === undefined) return;
      if (!this.#flow.grow(stream, increment)) {
        return this.#violated(stream, h2.FLOW_CONTROL_ERROR, "a window update beyond the bound");
      }
    }
    this.#sender.bodies();
  }

  onStreamViolation(id: number, code: number, what: string): void {
    const stream = this.#streams.known(id);
    if (stream !== undefined) this.#violated(stream, code, what);
  }

  /** The stream of a frame that a server must not send once it has ended the stream. */
  #running(id: number): Stream | undefined {
    const stream = this.#streams.known(id);
    if (stream === undefined && this.#streams.takeEnded(id)) this.#sender.answerLate(id);
    return stream;
  }

  /** The server has said all. */
  #finish(stream: Stream): void {
    if (stream.leftBytes > 0) {
      return this.#violated(stream, h2.PROTOCOL_ERROR, "less data than its content length");
    }
    this.#streams.endedByServer(stream);
    this.#endStream(stream, stream.unsent === null ? null : h2.NO_ERROR);
    stream.exchange.end();
  }

  #violated(stream: Stream, code: number, what: string): void {
    this.#endStream(stream, code);
    stream.exchange.fail(malformed(what));
  }

  /** The one way in which a stream ends; its exchange is told afterwards. @param code of the reset; null: none */
  #endStream(stream: Stream, code: number | null): void {
    this.#streams.delete(stream);
    this.#sender.end(stream, code);
    if (this.#streams.size === 0) {
      this.idleSinceMs = performance.now();
      if (this.#draining) {
        return this.#end(new BackendError("unavailable", "the connection is closing"), h2.NO_ERROR);
      }
    }
    this.#owner.changed(this);
  }

  #isNotHttp2(why: string): void {
    this.#ready.reject(new NotHttp2Error(why));
    this.#die(why);
  }

  #die(why: string, cause?: unknown): void {
    this.#end(new BackendError("unavailable", why, { cause }), null);
  }

  /** The one way in which the connection ends. @param code of the GOAWAY; null: none */
  #end(error: BackendError, code: number | null): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reader.stop();
    if (this.#doubtTimer !== null) clearTimeout(this.#doubtTimer);
    if (code !== null) this.#sender.goaway(code);
    this.#ready.reject(error);
    this.#owner.gone(this);
    for (const { exchange } of this.#streams.takeAll()) {
      if (error.kind === "malformed") exchange.fail(error);
      else exchange.broke(error.message, error.cause);
    }
    // After the writer's microtask, so that a GOAWAY is tried at least once.
    queueMicrotask(() => queueMicrotask(() => this.#stream.close()));
  }
}

const violation = (code: number, what: string): h2.ConnectionViolation =>
  new h2.ConnectionViolation(code, what);
const malformed = (what: string): BackendError => new BackendError("malformed", `HTTP/2: ${what}`);

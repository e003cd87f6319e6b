/**
 * One HTTP/1.1 connection of a client (RFC 9112): one exchange at a time, kept for the next where the server allows.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { ByteStream } from "../byte_stream.ts";
import { ByteWriter, type WriteListener } from "../byte_writer.ts";
import type { Connection, ConnectionOwner, Exchange, UpstreamRequest } from "../exchange.ts";
import type { H1Head } from "./head.ts";
import { type H1Listener, H1Parser } from "./parser.ts";

/** Whatever waits holds its buffer, so it is small, and is larger only as long as each read fills it. */
const LEAST_BUFFER_BYTES = 2_048;
const MOST_BUFFER_BYTES = 65_536;

/** See the module. */
export class H1Connection implements Connection, H1Listener, WriteListener {
  readonly maxStreams = 1;
  readonly #stream: ByteStream;
  readonly #owner: ConnectionOwner;
  readonly #proxyHead: string | null;
  #writer: ByteWriter;
  #exchange: Exchange | null = null;
  #parser: H1Parser | null = null;
  /** What the present answer leaves of the connection. */
  #keep = true;
  #closed = false;
  #unpause: (() => void) | null = null;
  idleSinceMs: number;
  maxIdleMs = Infinity;
  /** Takes no exchange yet: see {@linkcode IdleStack}, which ends it. */
  resting = false;
  readonly closed: Promise<void>;

  /**
   * @param stream connected
   * @param proxyHead the other end is a proxy, which wants whole addresses and this line, or ""; null: it is not
   */
  constructor(stream: ByteStream, owner: ConnectionOwner, proxyHead: string | null) {
    this.#stream = stream;
    this.#owner = owner;
    this.#proxyHead = proxyHead;
    this.#writer = new ByteWriter(stream, this);
    this.idleSinceMs = performance.now();
    this.closed = this.#read();
  }

  get room(): number {
    return this.#closed || this.resting || this.#exchange !== null || this.#parser !== null ? 0 : 1;
  }

  get active(): number {
    return this.#exchange === null ? 0 : 1;
  }

  start(exchange: Exchange): void {
    const { request } = exchange;
    if (request === null) throw new Error("an exchange that has its head cannot be started");
    this.#exchange = exchange;
    this.#parser = new H1Parser(this);
    this.#writer.begun = false;
    exchange.carrier = this;
    this.#owner.changed(this);
    this.#writer.write(encodeRequest(request, this.#proxyHead));
  }

  /** HTTP/1.1 has no way to end one exchange but to end its connection. */
  drop(exchange: Exchange): void {
    if (this.#exchange !== exchange) return;
    this.#exchange = null;
    this.#end("the request was cancelled");
  }

  resume(): void {
    this.#unpause?.();
    this.#unpause = null;
  }

  /** TCP's keep-alive and the daemon's time-outs see to it: there is no ping. */
  tick(): void {}

  close(error: BackendError): void {
    this.#end(error.message);
  }

  drained(): void {}

  writeFailed(cause: unknown): void {
    this.#end("the connection broke", cause);
  }

  h1Head(head: H1Head): void {
    this.maxIdleMs = head.maxIdleMs;
    // A server that answers before it has the whole request may never read the rest.
    this.#keep = head.keepAlive && head.status !== 413 && this.#writer.pendingBytes === 0;
    this.#exchange?.head(head.status, head.fields);
  }

  h1Data(bytes: Uint8Array): void {
    this.#exchange?.data(bytes);
  }

  h1End(): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    exchange?.end();
  }

  async #read(): Promise<void> {
    let buffer = new Uint8Array(LEAST_BUFFER_BYTES);
    try {
      while (!this.#closed) {
        const count = await this.#stream.read(buffer);
        if (count === null) {
          this.#parser?.close();
          this.#end("the server closed the connection");
          break;
        }
        this.#take(buffer.subarray(0, count));
        const paused = this.#exchange?.paused === true && !this.#closed;
        if (count === buffer.length && !paused) {
          if (count < MOST_BUFFER_BYTES) buffer = new Uint8Array(2 * count);
        } else if (buffer.length > LEAST_BUFFER_BYTES) buffer = new Uint8Array(LEAST_BUFFER_BYTES);
        if (paused) await new Promise<void>((resolve) => this.#unpause = resolve);
      }
    } catch (error) {
      if (error instanceof BackendError) {
        const exchange = this.#exchange;
        this.#exchange = null;
        exchange?.fail(error);
      }
      this.#end(error instanceof Error ? error.message : "the connection broke", error);
    } finally {
      await this.#writer.settled();
    }
  }

  #take(bytes: Uint8Array): void {
    const parser = this.#parser;
    // The server has said something that is no answer: whatever it meant, the next request does not hear it.
    if (parser === null) return this.#end("the server sent bytes that belong to no answer");
    const taken = parser.push(bytes);
    if (this.#exchange !== null || this.#closed) return;
    if (taken < bytes.length || !this.#keep) return this.#end("the server closes the connection");
    this.#parser = null;
    this.idleSinceMs = performance.now();
    this.resting = true;
    this.#owner.changed(this);
  }

  #end(why: string, cause?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    this.resting = false;
    const exchange = this.#exchange;
    this.#exchange = null;
    this.#stream.close();
    this.resume();
    this.#owner.gone(this);
    if (exchange === null) return;
    // RFC 9110, section 9.2.2: a POST of which the server may have read a byte is not sent again by itself.
    if (this.#writer.begun) exchange.broke(why, cause);
    else this.#owner.returned(exchange, new BackendError("unavailable", why, { cause }));
  }
}

function encodeRequest(
  { head: { method, url, headers: shared }, headers, body }: UpstreamRequest,
  proxyHead: string | null,
): Uint8Array<ArrayBuffer> {
  const target = url.pathname + url.search;
  // RFC 9112, section 3.2.2: the absolute form, for proxies.
  let head = `${method} ${
    proxyHead === null ? target : url.origin + target
  } HTTP/1.1\r\nhost: ${url.host}\r\n`;
  head += proxyHead ?? "";
  for (const [name, value] of [...shared, ...headers]) head += `${name}: ${value}\r\n`;
  head += `content-length: ${body.length}\r\n\r\n`;
  const bytes = new Uint8Array(head.length + body.length);
  for (let i = 0; i < head.length; i++) bytes[i] = head.charCodeAt(i);
  bytes.set(body, head.length);
  return bytes;
}

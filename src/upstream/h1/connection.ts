/**
 * One HTTP/1.1 connection of a client (RFC 9112): one exchange at a time, kept for the next where the server allows.
 * @module
 */

import { BackendError } from "../../errors.ts";
import { ByteWriter } from "../byte_writer.ts";
import type { Connection, ConnectionOwner, Exchange } from "../exchange.ts";
import { type H1Listener, H1Parser } from "./parser.ts";
import type { Field } from "../h2/hpack.ts";
import type { ByteStream } from "../byte_stream.ts";

/** A read that waits holds its buffer, so it begins small and grows with what comes at once. */
const LEAST_BUFFER_BYTES = 2_048;
const MOST_BUFFER_BYTES = 65_536;

/** See the module. */
export class H1Connection implements Connection, H1Listener {
  readonly maxStreams = 1;
  readonly #stream: ByteStream;
  readonly #owner: ConnectionOwner;
  readonly #writer: ByteWriter;
  #exchange: Exchange | null = null;
  #parser: H1Parser | null = null;
  #used = false;
  #closed = false;
  #unpause: (() => void) | null = null;
  idleSinceMs: number;
  readonly closed: Promise<void>;

  /** @param stream connected */
  constructor(stream: ByteStream, owner: ConnectionOwner) {
    this.#stream = stream;
    this.#owner = owner;
    this.#writer = new ByteWriter(stream, (cause) => this.#end("the connection broke", cause));
    this.idleSinceMs = performance.now();
    this.closed = this.#read();
  }

  get room(): number {
    return this.#closed || this.#exchange !== null ? 0 : 1;
  }

  get active(): number {
    return this.#exchange === null ? 0 : 1;
  }

  start(exchange: Exchange): void {
    this.#exchange = exchange;
    this.#parser = new H1Parser(this);
    exchange.carrier = this;
    this.#owner.changed(this);
    this.#writer.write(encodeRequest(exchange));
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

  h1Head(status: number, headers: readonly Field[]): void {
    this.#exchange?.head(status, headers);
  }

  h1Data(bytes: Uint8Array): void {
    this.#exchange?.data(bytes);
  }

  h1End(reusable: boolean): void {
    const exchange = this.#exchange;
    this.#exchange = null;
    this.#parser = null;
    this.#used = true;
    this.idleSinceMs = performance.now();
    // A server that answered before it had read the request still waits for its rest.
    if (!reusable || this.#writer.pendingBytes > 0) this.#end("the server closes the connection");
    exchange?.end();
    if (!this.#closed) this.#owner.changed(this);
  }

  async #read(): Promise<void> {
    let buffer = new Uint8Array(LEAST_BUFFER_BYTES);
    try {
      while (!this.#closed) {
        const count = await this.#stream.read(buffer);
        if (count === null) {
          if (this.#parser?.close() !== true) this.#end("the server closed the connection");
          break;
        }
        const taken = this.#parser?.push(buffer.subarray(0, count)) ?? 0;
        if (taken < count) throw new BackendError("malformed", "HTTP/1.1: bytes that belong to no answer");
        if (this.#exchange?.paused === true && !this.#closed) {
          await new Promise<void>((resolve) => this.#unpause = resolve);
        }
        if (count === buffer.length && count < MOST_BUFFER_BYTES) buffer = new Uint8Array(2 * count);
      }
    } catch (error) {
      if (error instanceof BackendError) {
        const exchange = this.#exchange;
        this.#exchange = null;
        exchange?.fail(error);
      }
      this.#end(error instanceof Error ? error.message : "the connection broke", error);
    }
    await this.#writer.settled();
  }

  #end(why: string, cause?: unknown): void {
    if (this.#closed) return;
    this.#closed = true;
    const exchange = this.#exchange;
    const untouched = this.#used && this.#parser?.begun === false;
    this.#exchange = null;
    this.#stream.close();
    this.resume();
    this.#owner.gone(this);
    // A kept connection that the server closed as the request went out (RFC 9112, section 9.3.1): not looked at.
    if (untouched) {
      exchange && this.#owner.returned(exchange, new BackendError("unavailable", why, { cause }));
    } else exchange?.broke(why, cause);
  }
}

function encodeRequest(exchange: Exchange): Uint8Array<ArrayBuffer> {
  const { method, url, headers, body } = exchange.request;
  let head = `${method} ${url.pathname}${url.search} HTTP/1.1\r\nhost: ${url.host}\r\n`;
  for (const [name, value] of headers) head += `${name}: ${value}\r\n`;
  head += `content-length: ${body.length}\r\n\r\n`;
  const bytes = new Uint8Array(head.length + body.length);
  for (let i = 0; i < head.length; i++) bytes[i] = head.charCodeAt(i);
  bytes.set(body, head.length);
  return bytes;
}

/**
 * The `fetch` that is given to a provider's SDK. The SDK builds the request and makes its error types from an
 * answer that is none; the body of a good answer goes past it, straight from the connection to whoever asked,
 * since a web `Response` body costs more than all the rest (bench/upstream).
 * @module
 */

import { BackendError } from "../errors.ts";
import { type Exchange, type ExchangeListener, fieldOf } from "./exchange.ts";
import type { Field } from "./hpack.ts";
import type { Pool } from "./pool.ts";

/** Who gets the body of a 2xx answer. All is called synchronously, as the bytes come. */
export interface BodyConsumer {
  /** Nobody waits any more: do not even ask. */
  readonly wanted: boolean;
  /** The request is under way; `exchange` cancels it. Called once per try. */
  asked(exchange: Exchange): void;
  /** The provider said yes. */
  accepted(headers: readonly Field[]): void;
  /** @param bytes valid during the call only */
  data(bytes: Uint8Array): void;
  /** The last one, or else {@linkcode broke}. Neither comes without {@linkcode accepted}. */
  end(): void;
  broke(error: BackendError): void;
}

/** The SDK's `fetchOptions`, which it passes on in `init`. */
export interface UpstreamOptions {
  readonly consumer: BodyConsumer;
  /** A redirect is an answer like any other: a request with a key in it goes nowhere else. */
  readonly redirect: "manual";
}

/** What the SDK calls the `fetch` with. */
export type UpstreamInit = RequestInit & UpstreamOptions;

/** Of an error's body, so much is read. */
const MAX_ERROR_BODY_BYTES = 65_536;
/** Statuses whose `Response` takes no body (Fetch Standard, "null body status"). */
const NULL_BODY = new Set([204, 205, 304]);

/**
 * @returns a `fetch` over the pool for requests whose `init` is an {@linkcode UpstreamInit} with a string body. It
 *   ignores `init.signal`: its caller cancels the exchange. It rejects with `BackendError` where no answer came.
 */
export function upstreamFetch(pool: Pool): (url: string, init: UpstreamInit) => Promise<Response> {
  const encoder = new TextEncoder();
  return (url, init) => {
    if (!init.consumer.wanted) return Promise.reject(new BackendError("other", "the request was cancelled"));
    const fetching = new Fetching(pool, init.consumer);
    const headers: Field[] = [];
    new Headers(init.headers).forEach((value, name) => {
      if (name !== "content-length") headers.push([name, value]);
    });
    const body = typeof init.body === "string" ? encoder.encode(init.body) : new Uint8Array(0);
    const exchange = pool.request(
      { method: init.method ?? "GET", url: new URL(url), headers, body },
      fetching,
    );
    fetching.exchange = exchange;
    init.consumer.asked(exchange);
    return fetching.response;
  };
}

class Fetching implements ExchangeListener {
  readonly #pool: Pool;
  readonly #consumer: BodyConsumer;
  readonly #result = Promise.withResolvers<Response>();
  exchange: Exchange | null = null;
  #status = 0;
  #headers: readonly Field[] = [];
  #accepted = false;
  #text = "";
  #textBytes = 0;
  #decoder: TextDecoder | null = null;

  constructor(pool: Pool, consumer: BodyConsumer) {
    this.#pool = pool;
    this.#consumer = consumer;
  }

  get response(): Promise<Response> {
    return this.#result.promise;
  }

  head(status: number, headers: readonly Field[]): void {
    this.#status = status;
    if (status < 300) {
      this.#accepted = true;
      this.#consumer.accepted(headers);
      this.#result.resolve(new Response(null, { status }));
    } else this.#headers = headers;
  }

  data(bytes: Uint8Array): void {
    if (this.#accepted) return this.#consumer.data(bytes);
    this.#decoder ??= new TextDecoder();
    this.#textBytes += bytes.length;
    this.#text += this.#decoder.decode(bytes, { stream: true });
    if (this.#textBytes <= MAX_ERROR_BODY_BYTES) return;
    if (this.exchange !== null) this.#pool.leave(this.exchange);
    this.#respond();
  }

  end(): void {
    if (this.#accepted) this.#consumer.end();
    else this.#respond();
  }

  fail(error: BackendError): void {
    if (this.#accepted) this.#consumer.broke(error);
    else if (this.#status !== 0 && error.kind === "truncated") this.#respond();
    else this.#result.reject(error);
  }

  #respond(): void {
    const headers = new Headers();
    for (const name of ["content-type", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry"]) {
      const value = fieldOf(this.#headers, name);
      if (value !== null && /^[\x20-\x7e\t]*$/.test(value)) headers.set(name, value);
    }
    const body = NULL_BODY.has(this.#status) ? null : this.#text;
    this.#result.resolve(new Response(body, { status: this.#status, headers }));
  }
}

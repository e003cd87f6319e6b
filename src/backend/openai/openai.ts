/**
 * The backend for api.openai.com and all that speak its language: chat completions, streamed.
 *
 * `npm:openai` builds the request (once; what differs from one to the next is put in here) and gives the error
 * types; the body of a good answer goes from the pool's connection through the SSE parser into the events. A whole
 * round through the SDK for each request costs 210 µs and 10 KB of garbage more (bench/upstream).
 * @module
 */

import OpenAI, { APIError } from "openai";
import { BackendError, ConfigError } from "../../errors.ts";
import { type Exchange, type ExchangeListener, fieldOf } from "../../upstream/exchange.ts";
import type { Field } from "../../upstream/h2/hpack.ts";
import { Pool } from "../../upstream/pool.ts";
import { proxyFor, type ProxySettings } from "../../upstream/proxy.ts";
import type { BackendRequest, StreamEvent, UpstreamStats } from "../backend.ts";
import type { StreamSource } from "../from_streams.ts";
import { backendError, isRepeatable, loggable, pauseMs } from "./errors.ts";
import { type AnswerListener, AnswerReader } from "./events.ts";

/** Who is told what goes to the provider and comes from it, so that it can come in fewer turns. */
export interface Arrivals {
  requested(): void;
  received(): void;
}

/** The keys of `backend.openai` in the configuration, and what else it needs. Empty strings mean none. */
export interface OpenAiOptions {
  readonly apiKey: string;
  /** With its path, such as `https://api.openai.com/v1`. */
  readonly apiBase: string;
  /** A Unix socket in place of TCP, without TLS; the address's host goes into the requests only. */
  readonly apiSocket: string;
  /** By ALPN on https://; on http:// with prior knowledge, and HTTP/1.1 if the server does not understand that. */
  readonly http2: boolean;
  readonly insecureSsl: boolean;
  /** PEM file with certificates to trust besides the system's. */
  readonly caFile: string;
  readonly poolMaxIdlePerHost: number;
  readonly idleTimeoutMs: number;
  /** HTTP/2: silence before a ping, and the longest wait for its answer; 0: no pings. */
  readonly pingIntervalMs: number;
  readonly organization: string;
  readonly project: string;
  /** Further headers of each request. */
  readonly headers: Readonly<Record<string, string>>;
  /** Further fields of each request's body; the request's own win. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Ask for token counts; given up on the first server that refuses the question. */
  readonly includeUsage: boolean;
  /** Further tries after the first, before the head only. */
  readonly maxRetries: number;
  /** What the daemon waits for the head: no pause is begun that would not end before. */
  readonly headTimeoutMs: number;
  readonly proxy: ProxySettings;
  readonly arrivals: Arrivals;
}

/** A source of answers that has figures for the metrics. */
export type OpenAiBackend = StreamSource & { stats(): UpstreamStats };

/** From a connection's first packet to its use. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Of an error's body, so much is read. */
const MAX_ERROR_BODY_BYTES = 65_536;
/** What of an error's head the SDK's error types, and the pause before the next try, look at. */
const ERROR_HEADERS = ["x-request-id", "retry-after", "retry-after-ms", "x-should-retry"];

/**
 * Makes the backend. Nothing is connected before the first request.
 *
 * @throws ConfigError the address, the CA file, or the proxy's address cannot be used
 */
export function openaiBackend(options: OpenAiOptions): OpenAiBackend {
  const base = URL.parse(options.apiBase);
  if (base === null || !/^https?:$/.test(base.protocol)) {
    throw new ConfigError(
      `backend.openai.api_base is ${JSON.stringify(options.apiBase)}; expected http(s)://host/path`,
    );
  }
  if (options.apiSocket === "" && proxyFor(base, options.proxy) !== null && options.insecureSsl) {
    throw new ConfigError(
      "backend.openai.insecure_ssl cannot be used through a proxy; expected a ca_file, or NO_PROXY",
    );
  }
  for (const [name, value] of Object.entries(options.headers)) {
    if (!isHeader(name, value)) {
      throw new ConfigError(
        `backend.openai.headers has ${JSON.stringify(name)}, which cannot be sent as a header`,
      );
    }
  }
  return new OpenAiStreams(options);
}

/** RFC 9110, section 5.1 and 5.5. */
function isHeader(name: string, value: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9a-z-]+$/i.test(name) && /^[\x20-\x7e\x80-\xff\t]*$/.test(value);
}

class OpenAiStreams implements StreamSource, Shared {
  readonly name = "openai";
  readonly options: OpenAiOptions;
  readonly pool: Pool;
  readonly template: Promise<Template>;
  builtTemplate: Template | null = null;
  includeUsage: boolean;
  retries = 0;
  cancelled = 0;
  #live = 0;
  #idle: PromiseWithResolvers<void> | null = null;

  constructor(options: OpenAiOptions) {
    this.options = options;
    this.includeUsage = options.includeUsage;
    this.pool = new Pool({
      http2: options.http2,
      socketPath: options.apiSocket || null,
      insecure: options.insecureSsl,
      caCerts: options.caFile === "" ? [] : [readCaFile(options.caFile)],
      maxIdlePerHost: options.poolMaxIdlePerHost,
      idleTimeoutMs: options.idleTimeoutMs,
      pingIntervalMs: options.pingIntervalMs,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      proxy: options.proxy,
    });
    this.template = buildTemplate(options);
    this.template.then((template) => this.builtTemplate = template, () => {/* each stream tells it */});
  }

  stream(request: BackendRequest, signal: AbortSignal): ReadableStream<StreamEvent> {
    return new ReadableStream(new Answer(this, request, signal), { highWaterMark: 0 });
  }

  stats(): UpstreamStats {
    return { ...this.pool.stats(), retries: this.retries, cancelled: this.cancelled };
  }

  began(): void {
    this.#live++;
  }

  ended(): void {
    if (--this.#live === 0) this.#idle?.resolve();
  }

  async close(): Promise<void> {
    if (this.#live > 0) {
      this.#idle ??= Promise.withResolvers();
      await this.#idle.promise;
    }
    await this.pool.close();
  }
}

/** What all requests have in common, from the SDK. */
interface Template {
  readonly url: URL;
  readonly headers: readonly Field[];
}

async function buildTemplate(options: OpenAiOptions): Promise<Template> {
  const client = new OpenAI({
    // Every value is given, so that the SDK reads no environment.
    apiKey: options.apiKey || "none", // it takes no empty one, and its header is taken off below
    adminAPIKey: null,
    baseURL: options.apiBase,
    organization: options.organization || null,
    project: options.project || null,
    webhookSecret: null,
    logLevel: "off",
    defaultHeaders: { ...(options.apiKey === "" ? { Authorization: null } : {}), ...options.headers },
  });
  const { req, url } = await client.buildRequest({ method: "post", path: "/chat/completions", body: {} });
  const headers: Field[] = [];
  new Headers(req.headers).forEach((value, name) => {
    // These tell about the machine it runs on, and of time-outs and tries that are not the SDK's here.
    if (!name.startsWith("x-stainless-") && name !== "content-length") headers.push([name, value]);
  });
  return { url: new URL(url), headers };
}

/** What the answers of one backend share. */
interface Shared {
  readonly options: OpenAiOptions;
  readonly pool: Pool;
  readonly template: Promise<Template>;
  /** The same, once it is there: then a request goes out in the turn it comes in. */
  readonly builtTemplate: Template | null;
  includeUsage: boolean;
  retries: number;
  cancelled: number;
  /** One more answer is under way, */
  began(): void;
  /** and has ended. */
  ended(): void;
}

const ENCODER = new TextEncoder();

/** One answer, from the request on: the source of its stream. */
class Answer implements UnderlyingDefaultSource<StreamEvent>, ExchangeListener, AnswerListener {
  readonly #shared: Shared;
  readonly #signal: AbortSignal;
  readonly #startMs = performance.now();
  readonly #reader = new AnswerReader(this);
  /** Needed until the head only. */
  #request: BackendRequest | null;
  #controller: ReadableStreamDefaultController<StreamEvent> | null = null;
  #exchange: Exchange | null = null;
  #pause: ReturnType<typeof setTimeout> | null = null;
  #tries = 0;
  #askedUsage = false;
  /** The answer, if it is not a good one. */
  #refusal: Refusal | null = null;
  /** Comes after the events that are queued. */
  #failure: BackendError | null = null;
  #over = false;

  constructor(shared: Shared, request: BackendRequest, signal: AbortSignal) {
    this.#shared = shared;
    this.#request = request;
    this.#signal = signal;
  }

  start(controller: ReadableStreamDefaultController<StreamEvent>): void {
    this.#controller = controller;
    this.#shared.began();
    this.#signal.addEventListener("abort", this.#onAbort);
    if (this.#signal.aborted) this.#onAbort();
    else this.#ask();
  }

  /** The queue is empty and somebody reads. */
  pull(): void {
    if (this.#failure !== null) this.#controller?.error(this.#failure);
    else this.#exchange?.resume();
  }

  cancel(): void {
    if (this.#finish()) this.#giveUp();
  }

  head(status: number, headers: readonly Field[]): void {
    if (status >= 300) {
      this.#refusal = new Refusal(status, headers);
      return;
    }
    this.#request = null;
    const type = fieldOf(headers, "content-type") ?? "";
    if (/^(application\/json|text\/html)\b/i.test(type)) {
      this.#break(new BackendError("malformed", `the answer is ${type}; expected text/event-stream`));
    } else this.event({ kind: "open" });
  }

  data(bytes: Uint8Array): void {
    this.#shared.options.arrivals.received();
    if (this.#refusal !== null) {
      if (this.#refusal.add(bytes)) return;
      if (this.#exchange !== null) this.#shared.pool.leave(this.#exchange);
      return this.#onRefusal(this.#refusal.error());
    }
    this.#reader.push(bytes);
    // Less than nothing wanted: more is queued than is being read.
    const { desiredSize } = this.#controller ?? { desiredSize: 0 };
    if (this.#exchange !== null && desiredSize !== null && desiredSize < 0) this.#exchange.paused = true;
  }

  end(): void {
    if (this.#refusal !== null) this.#onRefusal(this.#refusal.error());
    else this.#reader.end();
  }

  fail(error: BackendError): void {
    if (this.#refusal !== null) this.#onRefusal(this.#refusal.error());
    else if (this.#request !== null) this.#onRefusal(error);
    else this.#fail(backendError(error, this.#shared.options.apiKey));
  }

  event(event: StreamEvent): void {
    if (!this.#over) this.#controller?.enqueue(event);
  }

  done(): void {
    const exchange = this.#exchange;
    if (!this.#finish()) return;
    if (exchange !== null) this.#shared.pool.leave(exchange);
    this.#controller?.close();
  }

  failed(error: BackendError): void {
    this.#break(
      new BackendError(error.kind, loggable(error.message, this.#shared.options.apiKey), {
        cause: error.cause,
      }),
    );
  }

  readonly #onAbort = (): void => {
    const { reason } = this.#signal;
    if (!this.#finish()) return;
    this.#giveUp();
    this.#controller?.error(
      reason instanceof BackendError
        ? reason
        : new BackendError("other", "the request was aborted", { cause: reason }),
    );
  };

  async #askFirst(): Promise<void> {
    try {
      await this.#shared.template;
    } catch (error) {
      return this.#fail(backendError(error, this.#shared.options.apiKey));
    }
    this.#ask();
  }

  #ask(): void {
    const { pool, builtTemplate: template, includeUsage } = this.#shared;
    const request = this.#request;
    if (request === null) return;
    if (template === null) return void this.#askFirst();
    const headers: Field[] = [...template.headers, ["x-request-id", request.requestId]];
    if (request.testPattern !== undefined) {
      if (!isHeader("x-test-pattern", request.testPattern)) {
        return this.#fail(new BackendError("bad_request", "test_pattern cannot be sent as a header"));
      }
      headers.push(["x-test-pattern", request.testPattern.trim()]);
    }
    this.#shared.options.arrivals.requested();
    this.#tries++;
    this.#askedUsage = includeUsage;
    this.#refusal = null;
    const body = ENCODER.encode(JSON.stringify(completion(request, this.#shared)));
    this.#exchange = pool.request({ method: "POST", url: template.url, headers, body }, this);
  }

  /** No good answer to this try: repeats it, or gives up. */
  #onRefusal(error: unknown): void {
    if (this.#over) return;
    this.#exchange = null;
    const { options } = this.#shared;
    const failure = backendError(error, options.apiKey);
    if (this.#askedUsage && failure.kind === "bad_request" && failure.message.includes("stream_options")) {
      this.#shared.includeUsage = false;
      this.#tries--;
      return this.#ask();
    }
    const waitMs = pauseMs(error, this.#tries, Date.now(), Math.random());
    const spentMs = performance.now() - this.#startMs;
    if (
      this.#tries > options.maxRetries || !isRepeatable(error, failure) ||
      spentMs + waitMs >= options.headTimeoutMs
    ) {
      return this.#fail(failure);
    }
    this.#shared.retries++;
    this.#pause = setTimeout(() => this.#ask(), waitMs);
  }

  /** Ends the stream with a failure that the provider does not know of. */
  #break(error: BackendError): void {
    const exchange = this.#exchange;
    this.#fail(error);
    exchange?.cancel();
  }

  #fail(error: BackendError): void {
    if (!this.#finish()) return;
    const { desiredSize } = this.#controller ?? { desiredSize: null };
    // An error would throw away what is queued: it waits until that is read.
    if (desiredSize !== null && desiredSize < 0) this.#failure = error;
    else this.#controller?.error(error);
  }

  /** Lets go of all but the exchange. @returns whether this was still to do */
  #finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#shared.ended();
    this.#request = null;
    this.#signal.removeEventListener("abort", this.#onAbort);
    if (this.#pause !== null) clearTimeout(this.#pause);
    return true;
  }

  #giveUp(): void {
    this.#shared.cancelled++;
    this.#exchange?.cancel();
    this.#exchange = null;
  }
}

/** An answer with a status that is no success. */
class Refusal {
  readonly #status: number;
  readonly #headers: readonly Field[];
  readonly #decoder = new TextDecoder();
  #text = "";
  #bytes = 0;

  constructor(status: number, headers: readonly Field[]) {
    this.#status = status;
    this.#headers = headers;
  }

  /** @returns whether more is wanted */
  add(bytes: Uint8Array): boolean {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    this.#bytes += bytes.length;
    return this.#bytes < MAX_ERROR_BODY_BYTES;
  }

  /** @returns the SDK's error for it */
  error(): APIError {
    const headers = new Headers();
    for (const name of ERROR_HEADERS) {
      const value = fieldOf(this.#headers, name);
      if (value !== null && isHeader(name, value)) headers.set(name, value);
    }
    let body: object | undefined;
    try {
      body = Object(JSON.parse(this.#text));
    } catch {
      // Not JSON: the text itself says it.
    }
    return APIError.generate(this.#status, body, body === undefined ? this.#text : undefined, headers);
  }
}

/** The body of a request. */
function completion(
  request: BackendRequest,
  shared: Shared,
): OpenAI.Chat.ChatCompletionCreateParamsStreaming {
  return {
    ...shared.options.body,
    model: request.model,
    // Roles and parts are passed on as they came: which ones it takes is the provider's affair.
    messages: request.messages as unknown as OpenAI.Chat.ChatCompletionMessageParam[],
    stream: true,
    ...(shared.includeUsage ? { stream_options: { include_usage: true } } : {}),
    ...(request.maxTokens === undefined ? {} : { max_tokens: request.maxTokens }),
    ...(request.temperature === undefined ? {} : { temperature: request.temperature }),
  };
}

function readCaFile(path: string): string {
  try {
    const text = Deno.readTextFileSync(path);
    if (text.includes("-----BEGIN CERTIFICATE-----")) return text;
  } catch (cause) {
    throw new ConfigError(`backend.openai.ca_file ${path} cannot be read: ${String(cause)}`, { cause });
  }
  throw new ConfigError(`backend.openai.ca_file ${path} has no certificate; expected PEM`);
}

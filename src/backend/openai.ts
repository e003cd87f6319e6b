/**
 * The backend for api.openai.com and all that speak its language: chat completions, streamed.
 *
 * `npm:openai` builds the request and its error types; the pool in `upstream/` is its `fetch`; the body of a good
 * answer goes from the connection through the SSE parser into the events without touching the SDK again.
 * @module
 */

import OpenAI from "openai";
import { BackendError, ConfigError } from "../errors.ts";
import { type Exchange, fieldOf } from "../upstream/exchange.ts";
import {
  type BodyConsumer,
  upstreamFetch,
  type UpstreamInit,
  type UpstreamOptions,
} from "../upstream/fetch.ts";
import type { Field } from "../upstream/hpack.ts";
import { Pool, type PoolStats } from "../upstream/pool.ts";
import { proxyFor, type ProxySettings } from "../upstream/proxy.ts";
import type { Backend, BackendRequest, StreamEvent } from "./backend.ts";
import { backendError, isRepeatable, loggable, pauseMs } from "./openai_errors.ts";
import { type AnswerListener, AnswerReader } from "./openai_events.ts";

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
  readonly poolIdleTimeoutMs: number;
  /** HTTP/2: silence before a ping, and the longest wait for its answer. */
  readonly pingIntervalMs: number;
  readonly connectTimeoutMs: number;
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
}

/** What the backend counts. */
export interface OpenAiStats extends PoolStats {
  /** Counter: tries after the first. */
  readonly retries: number;
  /** Counter: requests that were given up from this side, before their end. */
  readonly cancelled: number;
}

/** A {@linkcode Backend} with figures for the metrics. */
export interface OpenAiBackend extends Backend {
  stats(): OpenAiStats;
}

/** The SDK's own time-out cannot be switched off; this is the longest timer. */
const NEVER_MS = 0x7fffffff;

/** Headers in which the SDK tells about the machine it runs on. */
const UNSENT = Object.fromEntries(
  ["Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Retry-Count", "Timeout"]
    .map((name) => [`X-Stainless-${name}`, null]),
);

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
  return new OpenAiStreams(options);
}

class OpenAiStreams implements OpenAiBackend, Shared {
  readonly name = "openai";
  readonly options: OpenAiOptions;
  readonly client: OpenAI;
  readonly pool: Pool;
  includeUsage: boolean;
  retries = 0;
  cancelled = 0;

  constructor(options: OpenAiOptions) {
    this.options = options;
    this.includeUsage = options.includeUsage;
    this.pool = new Pool({
      http2: options.http2,
      socketPath: options.apiSocket || null,
      insecure: options.insecureSsl,
      caCerts: options.caFile === "" ? [] : [readCaFile(options.caFile)],
      maxIdlePerHost: options.poolMaxIdlePerHost,
      idleTimeoutMs: options.poolIdleTimeoutMs,
      pingIntervalMs: options.pingIntervalMs,
      connectTimeoutMs: options.connectTimeoutMs,
      proxy: options.proxy,
    });
    const send = upstreamFetch(this.pool);
    this.client = new OpenAI({
      // Every value is given, so that the SDK reads no environment.
      apiKey: options.apiKey || null,
      adminAPIKey: null,
      baseURL: options.apiBase,
      organization: options.organization || null,
      project: options.project || null,
      webhookSecret: null,
      logLevel: "off",
      maxRetries: 0,
      timeout: NEVER_MS,
      defaultHeaders: {
        ...UNSENT,
        ...(options.apiKey === "" ? { Authorization: null } : {}),
        ...options.headers,
      },
      fetch: (url, init) => send(String(url), init as UpstreamInit),
    });
  }

  stream(request: BackendRequest, signal: AbortSignal): ReadableStream<StreamEvent> {
    return new ReadableStream(new Answer(this, request, signal), { highWaterMark: 0 });
  }

  stats(): OpenAiStats {
    return { ...this.pool.stats(), retries: this.retries, cancelled: this.cancelled };
  }

  close(): Promise<void> {
    return this.pool.close();
  }
}

/** What the answers of one backend share. */
interface Shared {
  readonly options: OpenAiOptions;
  readonly client: OpenAI;
  readonly pool: Pool;
  includeUsage: boolean;
  retries: number;
  cancelled: number;
}

/** One answer, from the request on: the source of its stream. */
class Answer implements UnderlyingDefaultSource<StreamEvent>, BodyConsumer, AnswerListener {
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

  get wanted(): boolean {
    return !this.#over;
  }

  asked(exchange: Exchange): void {
    this.#exchange = exchange;
  }

  accepted(headers: readonly Field[]): void {
    this.#request = null;
    const type = fieldOf(headers, "content-type") ?? "";
    if (/^(application\/json|text\/html)\b/i.test(type)) {
      return this.#break(new BackendError("malformed", `the answer is ${type}; expected text/event-stream`));
    }
    this.event({ kind: "open" });
  }

  data(bytes: Uint8Array): void {
    this.#reader.push(bytes);
    // Less than nothing wanted: more is queued than is being read.
    const { desiredSize } = this.#controller ?? { desiredSize: 0 };
    if (this.#exchange !== null && desiredSize !== null && desiredSize < 0) this.#exchange.paused = true;
  }

  end(): void {
    this.#reader.end();
  }

  broke(error: BackendError): void {
    this.#fail(backendError(error, this.#shared.options.apiKey));
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

  #ask(): void {
    const { client, includeUsage } = this.#shared;
    const request = this.#request;
    if (request === null) return;
    this.#tries++;
    const fetchOptions: UpstreamOptions = { consumer: this, redirect: "manual" };
    client.chat.completions.create(completion(request, this.#shared), {
      headers: {
        "X-Request-ID": request.requestId,
        ...(request.testPattern === undefined ? {} : { "X-Test-Pattern": request.testPattern }),
      },
      fetchOptions,
    }).asResponse().catch((error: unknown) => this.#onRefusal(error, includeUsage));
  }

  #onRefusal(error: unknown, withUsage: boolean): void {
    if (this.#over) return;
    this.#exchange = null;
    const { options } = this.#shared;
    const failure = backendError(error, options.apiKey);
    if (withUsage && failure.kind === "bad_request" && failure.message.includes("stream_options")) {
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

/**
 * The backend for api.openai.com and all that speak its language: chat completions, streamed.
 *
 * `npm:openai` makes the head of the requests, once for all workers (`template.ts`); the body of a good answer goes
 * from the pool's connection through the SSE parser into the backend's one stream of events. A round through the SDK
 * for each request costs 210 µs and 10 KB of garbage more (bench/upstream).
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import { Pool } from "../../upstream/pool.ts";
import type { Answer, Backend, BackendRequest, EventBatch, Recipient, UpstreamStats } from "../backend.ts";
import { EventQueue } from "../event_queue.ts";
import { LiveAnswers } from "../live_answers.ts";
import { type Arrivals, OpenAiAnswer, type Shared } from "./answer.ts";
import { checkOptions, type OpenAiOptions, readCaFile } from "./options.ts";
import { type BodyOptions, Models } from "./request.ts";
import type { RequestTemplate } from "./template.ts";

/** From a connection's first packet to its use. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Whose chunks are padded unless it is asked not to. */
const PADDING_HOST = "api.openai.com";

/** See the module. */
export class OpenAiBackend implements Backend, Shared {
  readonly name = "openai";
  readonly options: OpenAiOptions;
  readonly body: BodyOptions;
  readonly arrivals: Arrivals;
  readonly queue = new EventQueue();
  readonly pool: Pool;
  readonly head: RequestHead;
  readonly models = new Models();
  readonly live = new LiveAnswers();
  retries = 0;
  cancelled = 0;
  #closing: Promise<void> | null = null;

  /**
   * Nothing is connected before the first request.
   *
   * @param template made of the same options
   * @throws ConfigError the address, a header, the CA file, or the proxy cannot be used
   */
  constructor(options: OpenAiOptions, template: RequestTemplate, arrivals: Arrivals) {
    const base = checkOptions(options);
    this.options = options;
    this.body = {
      body: options.body,
      includeUsage: options.includeUsage,
      padsChunks: base.hostname === PADDING_HOST,
    };
    this.arrivals = arrivals;
    this.head = { method: "POST", url: new URL(template.url), headers: template.headers };
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
  }

  get events(): ReadableStream<EventBatch> {
    return this.queue.events;
  }

  get url(): URL {
    return this.head.url;
  }

  ask(request: BackendRequest, recipient: Recipient): Answer {
    this.live.began();
    const answer = new OpenAiAnswer(this, request, recipient);
    answer.ask();
    return answer;
  }

  stats(): UpstreamStats {
    return { ...this.pool.stats(), retries: this.retries, cancelled: this.cancelled };
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #close(): Promise<void> {
    await this.live.none();
    await this.pool.close();
    this.queue.close();
  }
}

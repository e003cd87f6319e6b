/**
 * The backend for a provider that is asked over HTTP and answers in Server-Sent Events. What is the provider's own is in
 * its dialect; the body of a good answer goes from the pool's connection through a parser into the backend's one stream
 * of events.
 * @module
 */

import { Pool } from "../../upstream/pool.ts";
import type { Answer, Backend, BackendRequest, EventBatch, Recipient, UpstreamStats } from "../backend.ts";
import { EventQueue } from "../event_queue.ts";
import { LiveAnswers } from "../live_answers.ts";
import { type Hooks, HttpAnswer, type Shared } from "./answer.ts";
import type { Dialect } from "./dialect.ts";
import { type HttpOptions, secretsOf } from "./options.ts";

/** From a connection's first packet to its use. */
const CONNECT_TIMEOUT_MS = 10_000;

/** See the module. */
export class HttpBackend implements Backend, Shared {
  readonly dialect: Dialect;
  readonly options: HttpOptions;
  readonly secrets: readonly string[];
  readonly hooks: Hooks;
  readonly queue = new EventQueue();
  readonly pool: Pool;
  readonly live = new LiveAnswers();
  retries = 0;
  cancelled = 0;
  #closing: Promise<void> | null = null;

  /**
   * Nothing is connected before the first request.
   *
   * @param options which `checkOptions` has looked through
   * @param caCerts PEM, what is in `options.caFile`: it is read once for all workers, and may be gone by now
   */
  constructor(dialect: Dialect, options: HttpOptions, caCerts: readonly string[], hooks: Hooks) {
    this.dialect = dialect;
    this.options = options;
    this.secrets = secretsOf(options);
    this.hooks = hooks;
    this.pool = new Pool({
      http2: options.http2,
      socketPath: options.apiSocket || null,
      insecure: options.insecureSsl,
      caCerts,
      maxIdlePerHost: options.poolMaxIdlePerHost,
      idleTimeoutMs: options.idleTimeoutMs,
      pingIntervalMs: options.pingIntervalMs,
      connectTimeoutMs: CONNECT_TIMEOUT_MS,
      proxy: options.proxy,
    });
  }

  get name(): string {
    return this.dialect.name;
  }

  get events(): ReadableStream<EventBatch> {
    return this.queue.events;
  }

  get url(): URL {
    return this.dialect.url;
  }

  ask(request: BackendRequest, recipient: Recipient): Answer {
    this.live.began();
    const answer = new HttpAnswer(this, request, recipient);
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

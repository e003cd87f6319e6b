/**
 * The pool of connections to providers: each host has its own, so that one's trouble is nobody else's.
 * @module
 */

import { BackendError } from "../errors.ts";
import { Exchange, type ExchangeListener, type RequestHead, type UpstreamRequest } from "./exchange.ts";
import { HostPool, type PoolLimits } from "./host_pool.ts";
import { proxyFor, type ProxySettings } from "./proxy.ts";

/** How providers are reached. */
export interface PoolOptions extends PoolLimits {
  /** HTTP/2 by ALPN on https://, with prior knowledge on http:// and over a Unix socket; else HTTP/1.1. */
  readonly http2: boolean;
  /** A Unix socket in place of TCP, for every host, without TLS; null for none. */
  readonly socketPath: string | null;
  /** No verification of certificates. */
  readonly insecure: boolean;
  /** PEM certificates that are trusted besides the system's. */
  readonly caCerts: readonly string[];
  readonly proxy: ProxySettings;
}

/** What the pool counts; gauges unless the comment says otherwise. */
export interface PoolStats {
  readonly connections: number;
  readonly streams: number;
  /** Requests without a connection yet. */
  readonly waiting: number;
  /** Counter: connections opened. */
  readonly opened: number;
  /** Counter: attempts to connect that failed. */
  readonly failedDials: number;
}

const TICK_MS = 1_000;

/** See the module. */
export class Pool {
  readonly #options: PoolOptions;
  readonly #hosts = new Map<string, HostPool>();
  /** The host's key in {@linkcode #hosts}: to ask a URL for its parts costs more than all else here. */
  readonly #keys = new WeakMap<RequestHead, string>();
  #timer: ReturnType<typeof setInterval> | null = null;
  /** Exchanges whose consumers have left, in this and in the last tick. */
  #leaving = new Set<Exchange>();
  #leftEarlier = new Set<Exchange>();
  #openedBefore = 0;
  #failedBefore = 0;
  #closed = false;

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /**
   * Sends a request; its listener hears of all that follows, failures too.
   *
   * @throws ConfigError the proxy's address is none
   */
  request(request: UpstreamRequest, listener: ExchangeListener): Exchange {
    const exchange = new Exchange(request, listener);
    if (this.#closed) exchange.fail(CLOSED);
    else this.#host(request.head).submit(exchange);
    return exchange;
  }

  /** The consumer wants no more, but expects the end at once: if it does not come, the server hears a reset. */
  leave(exchange: Exchange): void {
    this.#leaving.add(exchange);
    exchange.leave(this.#onLeft);
  }

  /** @returns the present figures */
  stats(): PoolStats {
    let [connections, streams, waiting] = [0, 0, 0];
    let [opened, failedDials] = [this.#openedBefore, this.#failedBefore];
    for (const host of this.#hosts.values()) {
      connections += host.connections;
      streams += host.active;
      waiting += host.waiting;
      opened += host.opened;
      failedDials += host.failedDials;
    }
    return { connections, streams, waiting, opened, failedDials };
  }

  /** Ends everything; settles when every socket is closed. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
    await Promise.all([...this.#hosts.values()].map((host) => host.close(CLOSED)));
  }

  readonly #onLeft = (exchange: Exchange): void => {
    if (!this.#leaving.delete(exchange)) this.#leftEarlier.delete(exchange);
  };

  #host(head: RequestHead): HostPool {
    const { url } = head;
    let key = this.#keys.get(head);
    if (key === undefined) this.#keys.set(head, key = `${url.protocol}//${url.host}`);
    const known = this.#hosts.get(key);
    if (known !== undefined) return known;
    const { http2, socketPath, insecure, caCerts } = this.#options;
    const secure = url.protocol === "https:" && socketPath === null;
    const host = new HostPool(
      {
        secure,
        hostname: url.hostname.replace(/^\[|\]$/g, ""),
        port: Number(url.port || (url.protocol === "https:" ? 443 : 80)),
        socketPath,
        proxy: socketPath === null ? proxyFor(url, this.#options.proxy) : null,
        insecure,
        caCerts,
      },
      http2,
      this.#options,
    );
    this.#hosts.set(key, host);
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS);
    return host;
  }

  #tick(): void {
    for (const exchange of this.#leftEarlier) exchange.cancel();
    [this.#leftEarlier, this.#leaving] = [this.#leaving, this.#leftEarlier];
    const nowMs = performance.now();
    for (const [key, host] of this.#hosts) {
      host.tick(nowMs);
      if (!host.unused) continue;
      this.#openedBefore += host.opened;
      this.#failedBefore += host.failedDials;
      this.#hosts.delete(key);
    }
    if (this.#hosts.size > 0 || this.#timer === null) return;
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

const CLOSED = new BackendError("unavailable", "the pool is closed");

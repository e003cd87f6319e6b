/**
 * One worker: a reactor, its connections, and the pipelines that carry the events of its backends to the clients.
 * @module
 */
import { EventQueue } from "../backend/event_queue.ts";
import type { BackendParts } from "../backend/mod.ts";
import { allBackends, type Config } from "../config/config.ts";
import { type ClientEvents, type Handoff, type HandoffTaker, Reactor } from "../native/reactor.ts";
import type { Log } from "../ops/log/log.ts";
import { Totals } from "../ops/metrics/metrics.ts";
import type { MetricsSnapshot } from "../ops/metrics/snapshot.ts";
import { StreamGauge } from "../ops/metrics/stream_gauge.ts";
import { WorkerMetrics } from "../ops/metrics/worker_metrics.ts";
import { RequestIds } from "../ops/request_ids.ts";
import { openTracing } from "../ops/tracing.ts";
import { SseEncoderStream } from "../protocol/sse.ts";
import type { EventBatch } from "../protocol/stream_event.ts";
import { ReadCoalescer } from "../timing/read_coalescer.ts";
import { TimerWheel } from "../timing/timer_wheel.ts";
import { backendChoices, Backends } from "./backends.ts";
import { Clients } from "./clients.ts";
import { Connection, type ConnectionParts } from "./connection.ts";
import { ConnectionSet } from "./connection_set.ts";
import { Homes } from "./homes.ts";
import { LoadShedding } from "./load_shedding.ts";
import { type KeepLimits, SharedStreams } from "./shared_streams.ts";
import { StreamLimit } from "./stream_limit.ts";

/** What a worker is started with: plain data, so that it can be sent to another isolate. */
export interface WorkerInit {
  readonly index: number;
  /** How many there are. */
  readonly workers: number;
  readonly config: Config;
  /** Handle of its reactor, which whoever starts it closes if it dies. */
  readonly reactor: number;
  /** Memory of the {@linkcode StreamGauge}. */
  readonly streams: SharedArrayBuffer;
  /** Memory of the {@linkcode Homes}, in which it is entered. */
  readonly homes: SharedArrayBuffer;
  /** Whether to count totals only. */
  readonly benchmark: boolean;
}

// A write or backend time-out of seconds may well be this much late.
const TIMEOUT_RESOLUTION_MS = 50;
// The pace of the mock backend's pieces.
const PAUSE_RESOLUTION_MS = 2;
// How often a worker looks at its heap.
const LOOK_MS = 1000;
// For last words to the clients that a drain did not wait for.
const LAST_WORDS_MS = 1000;

/** The worker of this isolate. */
export class Worker implements HandoffTaker {
  /** Resolves after a drain; rejects when the worker fails, which nothing outside the daemon can bring about. */
  readonly ended: Promise<void>;
  readonly #reactor: Reactor;
  readonly #clients: Clients;
  readonly #connections = new ConnectionSet();
  readonly #limit = new StreamLimit(this.#connections);
  readonly #own = new EventQueue();
  readonly #metrics: Totals | WorkerMetrics;
  readonly #log: Log;
  readonly #backends: Backends;
  readonly #ownPiped: Promise<void>;
  readonly #failed = Promise.withResolvers<never>();
  readonly #looking: ReturnType<typeof setInterval>;
  readonly #ids: RequestIds;
  readonly #homes: Homes;
  readonly #streams: SharedStreams;
  #config: Config;
  #parts: ConnectionParts;
  #stopping = false;

  /**
   * Starts to take handoffs at once.
   *
   * @throws {ConfigError} if a backend cannot be made
   * @throws {ShimError} if the shim cannot be opened
   */
  constructor({ index, workers, config, reactor, streams, homes, benchmark }: WorkerInit, log: Log) {
    const models = () => [
      ...allBackends(this.#config).map(([, { defaultModel }]) => defaultModel),
      ...this.#config.metrics.models,
    ];
    this.#metrics = benchmark ? new Totals() : new WorkerMetrics({
      streams: new StreamGauge(index, streams),
      models,
      oldestSecs: () => {
        const startedMs = this.#connections.oldestStartedMs;
        return startedMs === undefined ? 0 : (performance.now() - startedMs) / 1000;
      },
      upstream: () => this.#backends.stats(),
      backends: () => this.#backends.states(),
      resumable: () => this.#streams.stats,
    });
    this.#log = log;
    this.#ids = new RequestIds(String(index));
    this.#homes = new Homes(homes);
    const { store, redisUrl, redisCaFile } = config.resume;
    this.#streams = new SharedStreams(
      this.#keepLimits(config),
      log.child("stream"),
      store === "redis" ? { url: redisUrl, caFile: redisCaFile } : undefined,
    );
    this.#config = config;
    const backendParts: BackendParts = {
      wheel: new TimerWheel(PAUSE_RESOLUTION_MS),
      arrivals: new ReadCoalescer({ rest: (ms) => this.#reactor.rest(ms) }),
      log: log.child("backend"),
    };
    this.#backends = new Backends(config, backendParts, { index, workers });
    this.#reactor = new Reactor(reactor);
    this.#clients = new Clients(this.#reactor, this.#metrics);
    this.#ownPiped = this.#pipe(this.#own.events);
    const shedding = new LoadShedding(this.#reactor, log);
    this.#looking = setInterval(() => shedding.look(), LOOK_MS);
    this.#parts = {
      clients: this.#clients,
      sockets: this.#reactor,
      wheel: new TimerWheel(TIMEOUT_RESOLUTION_MS),
      connections: this.#connections,
      streams: this.#streams,
      homeOf: (streamId) => this.#homes.of(streamId),
      reactor,
      shedding,
      own: this.#own,
      metrics: this.#metrics,
      tracing: openTracing(models),
      log: log.child("stream"),
      backends: this.#backends,
      ...this.#settings(config),
    };
    this.#backends.carryBy((events) => void this.#pipe(events));
    this.#limit.set(config.server.maxStreamMs);
    const run = this.#reactor.run(this);
    this.ended = this.#untilEnd(Promise.all([run, this.#ownPiped]));
  }

  /** The pipeline of one source of events, into the clients that all of them share. */
  #pipe(events: ReadableStream<EventBatch>): Promise<void> {
    const piped = events.pipeThrough(new SseEncoderStream()).pipeTo(this.#clients.writable);
    piped.catch((error) => this.#failed.reject(error));
    return piped;
  }

  async #untilEnd(inOrder: Promise<unknown>): Promise<void> {
    try {
      await Promise.race([inOrder, this.#failed.promise]);
    } finally {
      clearInterval(this.#looking);
      this.#limit.set(0);
      this.#reactor.shutDown();
    }
  }

  /** What connections take over of a configuration, the backends aside. */
  #settings(
    config: Config,
  ): Pick<ConnectionParts, "rules" | "heartbeatMs" | "writeTimeoutMs"> {
    const choices = backendChoices(config);
    return {
      rules: {
        model: config.backend.defaultModel,
        members: config.backend.requestMembers,
        ...(choices === undefined ? {} : { backends: choices }),
        format: config.response.format,
        include: config.response.include,
        makeRequestId: () => this.#ids.next(),
      },
      heartbeatMs: config.server.heartbeatMs,
      writeTimeoutMs: config.server.writeTimeoutMs,
    };
  }

  #keepLimits({ resume: { keepMs, maxStreamBytes, maxTotalBytes } }: Config): KeepLimits {
    return { keepMs, maxStreamBytes, maxTotalBytes: Math.floor(maxTotalBytes / this.#homes.workers) };
  }

  handoff(handoff: Handoff): ClientEvents | undefined {
    if (handoff.refusal === undefined && !handoff.moved) this.#metrics.handoffReceived(handoff.durationSecs);
    const connection = new Connection(this.#parts, handoff, this.#stopping);
    return connection.ended ? undefined : connection;
  }

  /**
   * Takes over what a new configuration changes, for connections from now on.
   *
   * @throws {ConfigError} if a backend cannot be made; all stays as it was
   */
  reload(config: Config): void {
    this.#backends.reload(config);
    this.#parts = { ...this.#parts, ...this.#settings(config) };
    this.#limit.set(config.server.maxStreamMs);
    this.#streams.configure(this.#keepLimits(config));
    this.#config = config;
  }

  /** Closes every client at once, and what the isolate has of the shim: the last resort of one that dies. */
  close(): void {
    this.#reactor.shutDown();
  }

  /** What it has counted; empty if it counts nothing. */
  metrics(): MetricsSnapshot {
    return this.#metrics.snapshot();
  }

  /**
   * Waits for the streams to end, tells those that have not, closes all. The acceptor has drained by then, or is told to.
   * Who comes while the last ones are told is told as well.
   *
   * @param timeoutMs how long the streams may take
   * @param now ends the wait early
   */
  async drain(timeoutMs: number, now: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([now, AbortSignal.timeout(timeoutMs)]);
    await this.#reactor.caughtUp();
    this.#streams.end();
    if (!await this.#connections.untilEmpty(signal)) {
      this.#log.warning("Streams left at the end of the drain are told so", {
        streams: this.#connections.size,
      });
    }
    this.#stopping = true;
    this.#connections.shutDown();
    await this.#reactor.caughtUp();
    if (!await this.#connections.untilEmpty(AbortSignal.timeout(LAST_WORDS_MS))) {
      this.#log.warning("Clients that did not take their last words are closed", {
        streams: this.#connections.size,
      });
      this.#connections.close();
    }
    await this.#streams.close();
    await this.#backends.close();
    this.#own.close();
    await this.#ownPiped.catch(() => {}); // if it fails, so does the worker
    this.#reactor.shutDown();
    await this.ended;
  }
}

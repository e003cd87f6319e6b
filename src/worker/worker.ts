/**
 * One worker: a reactor, its connections, and the pipeline that carries their frames to the clients.
 * @module
 */
import type { Backend } from "../backend/backend.ts";
import { type BackendParts, makeBackend } from "../backend/mod.ts";
import { type Client, ClientSink } from "./client_sink.ts";
import { Coalescing } from "../timing/read_coalescer.ts";
import type { Config } from "../config/load.ts";
import { Connection, type ConnectionParts } from "./connection.ts";
import { Deadlines } from "../timing/timer_wheel.ts";
import { Drain, raceAbort } from "./connection_set.ts";
import type { Log } from "../ops/log/log.ts";
import { type MetricsSnapshot, StreamGauge, Totals, WorkerMetrics } from "../ops/metrics/metrics.ts";
import { type Handoff, Reactor, type ReactorEvents, type RefusedHandoff } from "../native/reactor.ts";
import { Outbox } from "./outbox.ts";
import { SseEncoderStream } from "../protocol/sse.ts";

/** What a worker is started with: plain data, so that it can be sent to another isolate. */
export interface WorkerInit {
  readonly index: number;
  readonly config: Config;
  /** Handle of the daemon's intake. */
  readonly intake: number;
  /** Memory of the {@linkcode StreamGauge}. */
  readonly streams: SharedArrayBuffer;
  /** Whether to count totals only. */
  readonly benchmark: boolean;
}

/** A worker as the daemon sees it, in this isolate or another. */
export interface WorkerHandle {
  /** Takes over what a new configuration changes, for connections from now on. */
  reload(config: Config): void;
  /** What it has counted; empty if it counts nothing. */
  metrics(): Promise<MetricsSnapshot>;
  /**
   * Serves what is left of the intake's backlog, waits for the streams to end, tells those that have not, closes all.
   *
   * @param timeoutMs how long the streams may take
   * @param now ends the wait early
   */
  drain(timeoutMs: number, now: AbortSignal): Promise<void>;
  /** Resolves after a drain; rejects when the worker fails, which nothing outside the daemon can bring about. */
  readonly ended: Promise<void>;
}

// A write, handoff or backend time-out of seconds may well be this much late.
const DEADLINE_RESOLUTION_MS = 50;
// The pace of the mock backend's pieces.
const PAUSE_RESOLUTION_MS = 3;
// For last words to the clients that a drain did not wait for.
const LAST_WORDS_MS = 1000;

/** The worker of this isolate. */
export class Worker implements WorkerHandle, ReactorEvents {
  readonly ended: Promise<void>;
  readonly #reactor: Reactor;
  readonly #metrics: Totals | WorkerMetrics;
  readonly #log: Log;
  readonly #outbox = new Outbox<Client>();
  readonly #drain = new Drain();
  readonly #intakeDrained = Promise.withResolvers<void>();
  readonly #backendParts: BackendParts = {
    pauses: new Deadlines(PAUSE_RESOLUTION_MS),
    arrivals: new Coalescing({ rest: (ms) => this.#reactor.rest(ms) }),
  };
  readonly #index: number;
  #config: Config;
  #parts: ConnectionParts;
  #ids = 0;

  /**
   * Starts to take handoffs at once.
   *
   * @throws {ShimError} if the shim cannot be opened
   */
  constructor({ index, config, intake, streams, benchmark }: WorkerInit, log: Log) {
    this.#metrics = benchmark
      ? new Totals()
      : new WorkerMetrics(new StreamGauge(index, streams), () => this.#parts.backend.stats?.());
    this.#log = log;
    this.#index = index;
    this.#config = config;
    this.#reactor = new Reactor(intake);
    const deadlines = new Deadlines(DEADLINE_RESOLUTION_MS);
    const sink = new ClientSink({
      sender: this.#reactor,
      deadlines,
      traffic: this.#metrics,
      writeTimeoutMs: () => this.#config.server.writeTimeoutMs,
    });
    this.#parts = {
      outbox: this.#outbox,
      sink,
      deadlines,
      drain: this.#drain,
      metrics: this.#metrics,
      log: log.child("connection"),
      ...this.#configured(config),
    };
    const pipeline = this.#outbox.readable
      .pipeThrough(new SseEncoderStream<Client>())
      .pipeTo(sink.writable());
    const reactor = this.#reactor.run(this);
    this.ended = this.#untilEnd(reactor, pipeline);
  }

  // Either's failure is the worker's.
  async #untilEnd(reactor: Promise<void>, pipeline: Promise<void>): Promise<void> {
    try {
      await Promise.all([reactor, pipeline]);
    } finally {
      this.#reactor.close();
    }
  }

  #configured(config: Config): Pick<ConnectionParts, "backend" | "defaults" | "backendTimeoutMs"> {
    return {
      backend: makeBackend(config.backend, this.#backendParts),
      defaults: { model: config.backend.defaultModel, makeRequestId: () => this.#makeRequestId() },
      backendTimeoutMs: config.backend.timeoutMs,
    };
  }

  // Unique over restarts by chance, and cheap: random bytes for the worker, then a count.
  readonly #idPrefix = crypto.randomUUID().slice(0, 8);
  #makeRequestId(): string {
    return `${this.#idPrefix}-${this.#index}-${(++this.#ids).toString(36)}`;
  }

  /** The reactor's handle, with which the daemon closes it if this isolate dies. */
  get reactorHandle(): number {
    return this.#reactor.handle;
  }

  handoff({ socket, payload, overLimit, durationSecs }: Handoff): void {
    this.#metrics.handoffReceived(durationSecs);
    new Connection(this.#parts, socket).begin({ payload, overLimit });
  }

  refused({ reason, receivedBytes, durationSecs, detail }: RefusedHandoff): void {
    this.#metrics.handoffFailed(reason);
    this.#log.warning("Handoff refused", {
      reason,
      detail,
      received_bytes: receivedBytes,
      duration_ms: Math.round(durationSecs * 1000),
    });
  }

  drained(): void {
    this.#intakeDrained.resolve();
  }

  acceptFailed(errno: number): void {
    this.#log.error("Cannot accept handoffs for a moment", { errno });
  }

  reload(config: Config): void {
    const { backend } = this.#parts;
    const sameBackend = JSON.stringify(config.backend) === JSON.stringify(this.#config.backend);
    this.#config = config;
    if (sameBackend) return;
    this.#parts = { ...this.#parts, ...this.#configured(config) };
    this.#closeBackend(backend);
  }

  #closeBackend(backend: Backend): Promise<void> {
    return backend.close().catch((error) =>
      this.#log.warning("Cannot close a backend", { backend: backend.name, error })
    );
  }

  metrics(): Promise<MetricsSnapshot> {
    return this.#metrics.snapshot();
  }

  async drain(timeoutMs: number, now: AbortSignal): Promise<void> {
    const signal = AbortSignal.any([now, AbortSignal.timeout(timeoutMs)]);
    await raceAbort(this.#intakeDrained.promise, signal);
    if (!await this.#drain.wait(signal)) {
      this.#log.warning("Streams left at the end of the drain are told so", { streams: this.#drain.live });
      this.#drain.shutDown();
      if (!await this.#drain.wait(AbortSignal.timeout(LAST_WORDS_MS))) {
        this.#log.warning("Clients that did not take their last words are closed", {
          streams: this.#drain.live,
        });
      }
    }
    await this.#closeBackend(this.#parts.backend);
    this.#reactor.close();
    this.#outbox.close();
    await this.ended;
  }
}

/**
 * The daemon's workers: one in this isolate, or several in isolates of their own, each replaced if it dies.
 * @module
 */
import type { Config } from "../config/load.ts";
import type { Log } from "../ops/log/log.ts";
import { countersOf, type MetricsSnapshot, StreamGauge, sumSnapshots } from "../ops/metrics/metrics.ts";
import { closeReactor } from "../native/reactor.ts";
import { IsolatedWorker } from "./worker_proxy.ts";
import { Worker as LocalWorker, type WorkerHandle, type WorkerInit } from "../worker/worker.ts";

/** What the pool needs. */
export interface WorkerPoolOptions {
  readonly config: Config;
  /** How many; one has no isolate of its own. */
  readonly workers: number;
  readonly acceptor: number;
  readonly streams: SharedArrayBuffer;
  /** Whether to count totals only. */
  readonly benchmark: boolean;
  readonly log: Log;
  /** Called for each worker that died and is replaced. */
  restarted(): void;
}

// A scrape does not wait longer than this for a worker that is busy.
const METRICS_TIMEOUT_MS = 2000;
// A worker that dies again and again is not started without end.
const RESTART_DELAY_MS = 100;
const MAX_RESTARTS_PER_MINUTE = 20;

/** All workers as one. */
export class WorkerPool {
  /** Resolves after a drain; rejects if the workers cannot be kept alive. */
  readonly ended: Promise<void>;
  readonly #options: WorkerPoolOptions;
  readonly #drained = Promise.withResolvers<void>();
  readonly #failed = Promise.withResolvers<never>();
  readonly #workers: (WorkerHandle | undefined)[] = [];
  // Those that take the place of dead ones and have not started yet.
  readonly #starting = new Set<Promise<void>>();
  // What workers that died had counted when they were last asked, added up: counters must not go back.
  #retired: Promise<MetricsSnapshot[]> = Promise.resolve([]);
  readonly #lastSnapshots: MetricsSnapshot[] = [];
  readonly #restartTimes: number[] = [];
  readonly #restarts = new Set<ReturnType<typeof setTimeout>>();
  #config: Config;
  #draining = false;

  private constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#config = options.config;
    this.ended = Promise.race([this.#drained.promise, this.#failed.promise]);
  }

  /**
   * Starts the workers and waits until all take handoffs.
   *
   * @throws {Error} if one dies before it does
   */
  static async start(options: WorkerPoolOptions): Promise<WorkerPool> {
    const pool = new WorkerPool(options);
    if (options.workers === 1) {
      const worker = new LocalWorker(pool.#init(0), options.log);
      pool.#workers.push(worker);
      worker.ended.catch((error) => pool.#failed.reject(error));
    } else {
      await Promise.all(Array.from({ length: options.workers }, (_, index) => pool.#spawn(index)));
    }
    return pool;
  }

  #init(index: number): WorkerInit {
    const { acceptor, streams, benchmark } = this.#options;
    return { index, config: this.#config, acceptor, streams, benchmark };
  }

  async #spawn(index: number): Promise<void> {
    const init = this.#init(index);
    const worker = await IsolatedWorker.start(init);
    this.#workers[index] = worker;
    worker.ended.catch((error) => this.#died(index, worker, error));
    if (this.#config !== init.config) worker.reload(this.#config); // it came in between
  }

  #respawn(index: number): void {
    if (this.#draining) return;
    const started = this.#spawn(index)
      .catch((error) => this.#failed.reject(error))
      .finally(() => this.#starting.delete(started));
    this.#starting.add(started);
  }

  #died(index: number, worker: IsolatedWorker, error: unknown): void {
    const { log, streams, restarted } = this.#options;
    this.#workers[index] = undefined;
    closeReactor(worker.reactor); // closes its clients' sockets
    new StreamGauge(index, streams).clear();
    const counted = this.#lastSnapshots[index];
    if (counted !== undefined) {
      const lasting = countersOf(counted);
      this.#retired = this.#retired.then(async (retired) => [await sumSnapshots([...retired, lasting])]);
    }
    delete this.#lastSnapshots[index];
    log.error("Worker died", { worker: index, error });
    if (this.#draining) return;
    const now = performance.now();
    while ((this.#restartTimes[0] ?? now) < now - 60_000) this.#restartTimes.shift();
    if (this.#restartTimes.push(now) > MAX_RESTARTS_PER_MINUTE) {
      return this.#failed.reject(new Error(`Workers died ${MAX_RESTARTS_PER_MINUTE} times in a minute`));
    }
    restarted();
    const timer = setTimeout(() => {
      this.#restarts.delete(timer);
      this.#respawn(index);
    }, RESTART_DELAY_MS);
    this.#restarts.add(timer);
  }

  /** Passes a new configuration on to all. */
  reload(config: Config): void {
    this.#config = config;
    for (const worker of this.#workers) worker?.reload(config);
  }

  /** One snapshot per worker. A worker that does not answer in time is represented by its last one. */
  async snapshots(): Promise<MetricsSnapshot[]> {
    const ask = async (worker: WorkerHandle | undefined, index: number): Promise<void> => {
      if (worker === undefined) return;
      const { promise, resolve } = Promise.withResolvers<undefined>();
      const timer = setTimeout(() => resolve(undefined), METRICS_TIMEOUT_MS);
      const snapshot = await Promise.race([
        worker.metrics(),
        worker.ended.then(() => undefined, () => undefined),
        promise,
      ]);
      clearTimeout(timer);
      if (snapshot !== undefined && this.#workers[index] === worker) this.#lastSnapshots[index] = snapshot;
    };
    await Promise.all(this.#workers.map(ask));
    return [...await this.#retired, ...this.#lastSnapshots.filter((each) => each !== undefined)];
  }

  /** Drains all, as {@linkcode WorkerHandle.drain} does one. */
  async drain(timeoutMs: number, now: AbortSignal): Promise<void> {
    this.#draining = true;
    for (const timer of this.#restarts) clearTimeout(timer);
    await Promise.all(this.#starting);
    // One that dies now is logged by #died; its clients are closed, which is what a drain comes to.
    await Promise.allSettled(this.#workers.map((worker) => worker?.drain(timeoutMs, now)));
    this.#drained.resolve();
  }
}

/**
 * The daemon's workers, each in an isolate of its own and replaced if it dies.
 * @module
 */
import type { Config } from "../config/load.ts";
import type { Log } from "../ops/log/log.ts";
import { countersOf, type MetricsSnapshot } from "../ops/metrics/snapshot.ts";
import { sumSnapshots } from "../ops/metrics/sum_snapshots.ts";
import { makeReactor } from "../native/reactor.ts";
import { oldestSecs, type WorkerStatus } from "../ops/status.ts";
import { StreamGauge } from "../ops/metrics/stream_gauge.ts";
import { Homes } from "../worker/homes.ts";
import type { WorkerInit } from "../worker/worker.ts";
import { DEADLINES, type WorkerDeadlines, WorkerProxy } from "./worker_proxy.ts";

/** What the pool needs. */
export interface WorkerPoolOptions {
  readonly config: Config;
  readonly workers: number;
  readonly acceptor: number;
  readonly streams: SharedArrayBuffer;
  /** Whether to count totals only. */
  readonly benchmark: boolean;
  readonly log: Log;
  /** Called for each worker that died, with the number of streams that it took along. */
  died(lostStreams: number): void;
  /** Called for each ping that a worker answered. */
  pinged(delaySecs: number): void;
  /** For tests. */
  readonly deadlines?: WorkerDeadlines;
}

// A worker that dies again and again is not started without end.
const RESTART_DELAY_MS = 100;
const MAX_DEATHS_PER_MINUTE = 20;

/** All workers as one. */
export class WorkerPool {
  /** Resolves after a drain; rejects if the workers cannot be kept alive. */
  readonly ended: Promise<void>;
  readonly #options: WorkerPoolOptions;
  readonly #end = Promise.withResolvers<void>();
  readonly #slots: Slot[];
  readonly #homes: SharedArrayBuffer;
  // What workers that died had counted when they were last asked, added up: counters must not go back.
  #retired: Promise<MetricsSnapshot[]> = Promise.resolve([]);
  readonly #deathTimes: number[] = [];
  #config: Config;
  #draining = false;

  private constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#config = options.config;
    this.ended = this.#end.promise;
    this.#homes = Homes.allocate(options.workers);
    this.#slots = Array.from({ length: options.workers }, (_, index) => new Slot(index));
  }

  /**
   * Starts the workers and waits until all take handoffs.
   *
   * @throws {Error} if one dies before it does; the others are given up then
   */
  static async start(options: WorkerPoolOptions): Promise<WorkerPool> {
    const pool = new WorkerPool(options);
    const started = await Promise.allSettled(pool.#slots.map((slot) => pool.#spawn(slot)));
    const failed = started.find((each) => each.status === "rejected");
    if (failed !== undefined) {
      for (const { worker } of pool.#slots) {
        worker?.terminate("is not needed, since another one did not start");
      }
      throw failed.reason;
    }
    for (const slot of pool.#slots) pool.#watch(slot);
    return pool;
  }

  /** Whether every worker is there and answers. In a drain one that has died is not missed: nobody comes after it. */
  get answers(): boolean {
    return this.#slots.every(({ worker }) => worker?.answers ?? this.#draining);
  }

  // Resolves when the worker takes handoffs.
  async #spawn(slot: Slot): Promise<void> {
    const { acceptor, streams, benchmark, pinged, deadlines = DEADLINES } = this.#options;
    const reactor = makeReactor(acceptor);
    const init: WorkerInit = {
      index: slot.index,
      workers: this.#slots.length,
      config: this.#config,
      reactor,
      streams,
      homes: this.#homes,
      benchmark,
    };
    new Homes(this.#homes).set(slot.index, reactor);
    const worker = new WorkerProxy(init, pinged, deadlines);
    slot.worker = worker;
    worker.ended.catch(() => {}); // until #watch; what happened before is the error of its start
    await worker.started; // a reload that comes meanwhile waits for it in the isolate
  }

  #watch(slot: Slot): void {
    slot.worker?.ended.catch((error) => this.#died(slot, error));
  }

  // A failure to start is one more death.
  async #respawn(slot: Slot): Promise<void> {
    try {
      await this.#spawn(slot);
    } catch (error) {
      return this.#died(slot, error);
    }
    this.#watch(slot);
  }

  #died(slot: Slot, error: unknown): void {
    const { log, streams, died } = this.#options;
    const lostStreams = new StreamGauge(slot.index, streams).clear();
    if (slot.lastSnapshot !== undefined) {
      const lasting = countersOf(slot.lastSnapshot);
      this.#retired = this.#retired.then(async (retired) => [await sumSnapshots([...retired, lasting])]);
    }
    slot.worker = undefined;
    slot.lastSnapshot = undefined;
    died(lostStreams);
    log.error("Worker died", { worker: slot.index, lost_streams: lostStreams, error });
    if (this.#draining) return;
    const now = performance.now();
    while ((this.#deathTimes[0] ?? now) < now - 60_000) this.#deathTimes.shift();
    if (this.#deathTimes.push(now) > MAX_DEATHS_PER_MINUTE) {
      return this.#end.reject(new Error(`Workers died ${MAX_DEATHS_PER_MINUTE} times in a minute`));
    }
    slot.restart = setTimeout(() => {
      slot.restart = undefined;
      slot.starting = this.#respawn(slot).finally(() => slot.starting = undefined);
    }, RESTART_DELAY_MS);
  }

  /** Passes a new configuration on to all. Resolves when it holds for each; one that dies hands that to its successor. */
  async reload(config: Config): Promise<void> {
    this.#config = config;
    await Promise.all(this.#slots.map(({ worker }) => worker?.reload(config)));
  }

  /** One snapshot per worker. A worker that does not answer in time is represented by its last one. */
  async snapshots(): Promise<MetricsSnapshot[]> {
    await Promise.all(this.#slots.map(async (slot) => {
      const { worker } = slot;
      const snapshot = await worker?.metrics();
      if (snapshot !== undefined && slot.worker === worker) slot.lastSnapshot = snapshot;
    }));
    const live = this.#slots.flatMap(({ lastSnapshot }) => lastSnapshot === undefined ? [] : [lastSnapshot]);
    return [...await this.#retired, ...live];
  }

  /** What each worker is doing, as far as it has said with its last snapshot. */
  status(): WorkerStatus[] {
    return this.#slots.map(({ index, worker, lastSnapshot }) => ({
      index,
      answers: worker?.answers ?? false,
      streams: new StreamGauge(index, this.#options.streams).own,
      oldest_secs: oldestSecs(lastSnapshot),
    }));
  }

  /**
   * Drains all: each serves what is left of the backlog, waits for its streams to end, tells those that have not.
   *
   * @param timeoutMs how long the streams may take
   * @param now ends the wait early
   */
  async drain(timeoutMs: number, now: AbortSignal): Promise<void> {
    this.#draining = true;
    const { stopMs } = this.#options.deadlines ?? DEADLINES;
    await Promise.all(this.#slots.map(async (slot) => {
      clearTimeout(slot.restart);
      if (slot.starting !== undefined) {
        const late = AbortSignal.timeout(timeoutMs + stopMs); // as long as one that is there may take to stop
        await untilStarted(slot, slot.starting, AbortSignal.any([now, late]));
      }
      const { worker } = slot;
      worker?.drain(timeoutMs, now);
      // One that dies now is logged by #died; its clients are closed, which is what a drain comes to.
      await worker?.ended.catch(() => {});
    }));
    this.#end.resolve();
  }
}

/** The place of one worker, and of its successors. */
class Slot {
  readonly index: number;
  worker: WorkerProxy | undefined;
  lastSnapshot: MetricsSnapshot | undefined;
  /** Set while a dead worker waits for its successor. */
  restart: ReturnType<typeof setTimeout> | undefined;
  /** Set while the successor starts; never rejects. */
  starting: Promise<void> | undefined;

  constructor(index: number) {
    this.index = index;
  }
}

/** Waits for a successor that is about to start, and gives it up if there is no time left. Never rejects. */
async function untilStarted({ worker }: Slot, starting: Promise<void>, now: AbortSignal): Promise<void> {
  const giveUp = () => worker?.terminate("had not started when the daemon stopped");
  if (now.aborted) giveUp();
  now.addEventListener("abort", giveUp, { once: true });
  await starting;
  now.removeEventListener("abort", giveUp);
}

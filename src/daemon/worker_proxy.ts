/**
 * A worker in an isolate of its own, as the daemon's isolate sees it.
 * @module
 */
import type { Config } from "../config/load.ts";
import type { MetricsSnapshot } from "../ops/metrics/metrics.ts";
import type { WorkerHandle, WorkerInit } from "../worker/worker.ts";
import type { Command, Report } from "./worker_thread.ts";

/** Speaks to `worker_isolate.ts`. */
export class IsolatedWorker implements WorkerHandle {
  readonly ended: Promise<void>;
  readonly #isolate: Worker;
  readonly #started = Promise.withResolvers<void>();
  readonly #end = Promise.withResolvers<void>();
  readonly #asked = new Map<number, (snapshot: MetricsSnapshot) => void>();
  #questions = 0;
  #reactor: number | undefined;
  #lastSnapshot: MetricsSnapshot | undefined;

  private constructor(init: WorkerInit) {
    this.ended = this.#end.promise;
    this.#isolate = new Worker(new URL("./worker_thread.ts", import.meta.url), {
      type: "module",
      name: `worker-${init.index}`,
    });
    this.#isolate.onmessage = (event: MessageEvent<Report>) => this.#hear(event.data);
    this.#isolate.onerror = (event) => {
      event.preventDefault();
      this.#died(new Error(event.message));
    };
    this.#isolate.onmessageerror = () => this.#died(new Error("A worker sent what cannot be read"));
    this.#say({ type: "start", init });
  }

  /**
   * Starts an isolate and waits until its worker takes handoffs.
   *
   * @throws {Error} if it dies before
   */
  static async start(init: WorkerInit): Promise<IsolatedWorker> {
    const worker = new IsolatedWorker(init);
    await worker.#started.promise;
    return worker;
  }

  /** The handle of its reactor. */
  get reactor(): number {
    return this.#reactor as number; // since its start, before which nobody has this object
  }

  reload(config: Config): void {
    this.#say({ type: "reload", config });
  }

  metrics(): Promise<MetricsSnapshot> {
    if (this.#lastSnapshot !== undefined) return Promise.resolve(this.#lastSnapshot);
    const id = ++this.#questions;
    return new Promise((resolve) => {
      this.#asked.set(id, resolve);
      this.#say({ type: "metrics", id });
    });
  }

  async drain(timeoutMs: number, now: AbortSignal): Promise<void> {
    const stop = () => this.#say({ type: "stop" });
    if (now.aborted) stop();
    now.addEventListener("abort", stop, { once: true });
    this.#say({ type: "drain", timeoutMs });
    try {
      await this.ended;
    } finally {
      now.removeEventListener("abort", stop);
    }
  }

  #say(command: Command): void {
    this.#isolate.postMessage(command);
  }

  #hear(report: Report): void {
    if (report.type === "started") {
      this.#reactor = report.reactor;
      this.#started.resolve();
    } else if (report.type === "ended") {
      this.#lastSnapshot = report.snapshot;
      this.#end.resolve();
    } else {
      this.#asked.get(report.id)?.(report.snapshot);
      this.#asked.delete(report.id);
    }
  }

  #died(error: Error): void {
    this.#isolate.terminate();
    this.#asked.clear();
    if (this.#reactor === undefined) this.#started.reject(error);
    else this.#end.reject(error);
  }
}

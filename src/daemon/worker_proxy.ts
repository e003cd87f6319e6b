/**
 * A worker in an isolate of its own, as the daemon's isolate sees it. Whatever the worker does, every wait for it ends:
 * it has so long to start, to answer and to stop, and past that it is given up.
 * @module
 */
import { pathToFileURL } from "node:url";
import type { Config } from "../config/load.ts";
import { closeReactor } from "../native/reactor.ts";
import type { MetricsSnapshot } from "../ops/metrics/snapshot.ts";
import { WORKER_MODULE } from "../places.ts";
import type { WorkerInit } from "../worker/worker.ts";
import type { Command, Question, Report } from "./worker_thread.ts";

/** How long a worker may take, in milliseconds. */
export interface WorkerDeadlines {
  /** From the making of its isolate until it takes handoffs. */
  readonly startMs: number;
  /** From one ping to the next. A worker that has not answered for {@linkcode PINGS} of them is given up. */
  readonly pingMs: number;
  /**
   * To end once a drain's own time is over, or once it is told to stop. Within it are its last words, the store's two
   * waits, the backends' end and the log's, which are bounded to a second each.
   */
  readonly stopMs: number;
  /** To answer with its metrics. */
  readonly metricsMs: number;
}

/** A turn of a worker's event loop takes milliseconds, a full collection of a large heap a second or two. */
export const DEADLINES: WorkerDeadlines = { startMs: 20_000, pingMs: 2000, stopMs: 5000, metricsMs: 1000 };

/** So many moments of asking without an answer. Not one long time-out: the whole process may have been stopped. */
const PINGS = 4;

interface Asked {
  readonly resolve: (answer: MetricsSnapshot | undefined) => void;
  readonly timer: ReturnType<typeof setTimeout> | undefined;
}

/** Speaks to `worker_thread.ts`. */
export class WorkerProxy {
  /** Resolves when it takes handoffs; rejects if it dies before. */
  readonly started: Promise<void>;
  /** Resolves after a drain; rejects when the worker has died. Its clients are closed by then. */
  readonly ended: Promise<void>;
  readonly #pinged: (delaySecs: number) => void;
  readonly #deadlines: WorkerDeadlines;
  readonly #isolate: Worker;
  readonly #reactor: number;
  readonly #start = Promise.withResolvers<void>();
  readonly #end = Promise.withResolvers<void>();
  readonly #asked = new Map<number, Asked>();
  readonly #startTimer: ReturnType<typeof setTimeout>;
  #pingTimer: ReturnType<typeof setInterval> | undefined;
  #stopTimer: ReturnType<typeof setTimeout> | undefined;
  #questions = 0;
  #unanswered = 0;
  #lastSnapshot: MetricsSnapshot | undefined;
  #over = false;

  /**
   * Makes the isolate. {@linkcode WorkerProxy.started} and {@linkcode WorkerProxy.ended} tell what becomes of it.
   *
   * @param pinged is told how long each ping waited for its answer
   */
  constructor(init: WorkerInit, pinged: (delaySecs: number) => void, deadlines: WorkerDeadlines) {
    this.#pinged = pinged;
    this.#deadlines = deadlines;
    this.#reactor = init.reactor;
    this.started = this.#start.promise;
    this.ended = this.#end.promise;
    this.#isolate = new Worker(pathToFileURL(WORKER_MODULE), {
      type: "module",
      name: `worker-${init.index}`,
    });
    this.#isolate.onmessage = (event: MessageEvent<Report>) => this.#hear(event.data);
    this.#isolate.onerror = (event) => {
      event.preventDefault();
      this.#die(new Error(event.message));
    };
    this.#isolate.onmessageerror = () => this.#die(new Error("A worker sent what cannot be read"));
    const { startMs } = deadlines;
    this.#startTimer = setTimeout(
      () => this.terminate(`did not start within ${startMs} ms`),
      startMs,
    );
    this.#say({ type: "start", init });
  }

  /** Whether it has started, and has answered the last ping but one, or was not asked yet. */
  get answers(): boolean {
    return this.#pingTimer !== undefined && this.#unanswered < 2;
  }

  /** Passes a new configuration on. Resolves when it holds, or the worker is gone. */
  async reload(config: Config): Promise<void> {
    await this.#ask({ type: "reload", config });
  }

  /** What it has counted; `undefined` if it does not say so in time. */
  metrics(): Promise<MetricsSnapshot | undefined> {
    if (this.#lastSnapshot !== undefined) return Promise.resolve(this.#lastSnapshot);
    if (!this.answers) return Promise.resolve(undefined);
    return this.#ask({ type: "metrics" }, this.#deadlines.metricsMs);
  }

  /**
   * Lets the worker end in order, as its `drain` says. Follow it by {@linkcode WorkerProxy.ended}.
   *
   * @param timeoutMs how long the streams may take
   * @param now ends the wait early
   */
  drain(timeoutMs: number, now: AbortSignal): void {
    this.#say({ type: "drain", timeoutMs });
    this.#stopWithin(timeoutMs + this.#deadlines.stopMs);
    const stop = () => {
      this.#say({ type: "stop" });
      this.#stopWithin(this.#deadlines.stopMs);
    };
    if (now.aborted) return stop();
    now.addEventListener("abort", stop, { once: true });
    const forget = () => now.removeEventListener("abort", stop);
    this.ended.then(forget, forget);
  }

  /**
   * Gives the worker up at once: its clients are closed and it is dead. An endless loop in it goes on until the process
   * ends: nothing in Deno 2.9.6 stops one (denoland/deno#35657).
   */
  terminate(why: string): void {
    this.#die(new Error(`The worker ${why}`));
  }

  #stopWithin(ms: number): void {
    clearTimeout(this.#stopTimer);
    if (this.#over) return;
    this.#stopTimer = setTimeout(() => this.terminate("did not stop in time"), ms);
  }

  #ask(question: Question, timeoutMs?: number): Promise<MetricsSnapshot | undefined> {
    if (this.#over) return Promise.resolve(undefined);
    const id = ++this.#questions;
    return new Promise((resolve) => {
      const timer = timeoutMs === undefined
        ? undefined
        : setTimeout(() => this.#answer(id, undefined), timeoutMs);
      this.#asked.set(id, { resolve, timer });
      this.#say({ type: "question", id, question });
    });
  }

  #answer(id: number, snapshot: MetricsSnapshot | undefined): void {
    const asked = this.#asked.get(id);
    this.#asked.delete(id);
    clearTimeout(asked?.timer);
    asked?.resolve(snapshot);
  }

  readonly #ping = (): void => {
    if (this.#unanswered === PINGS) {
      return this.terminate(`did not answer for ${PINGS * this.#deadlines.pingMs} ms`);
    }
    if (this.#unanswered++ > 0) return;
    const askedAt = performance.now();
    void this.#ask({ type: "ping" }).then(() => {
      if (this.#over) return;
      this.#unanswered = 0;
      this.#pinged((performance.now() - askedAt) / 1000);
    });
  };

  #say(command: Command): void {
    this.#isolate.postMessage(command);
  }

  #hear(report: Report): void {
    if (report.type === "answer") this.#answer(report.id, report.snapshot);
    else if (report.type === "started") {
      clearTimeout(this.#startTimer);
      this.#pingTimer = setInterval(this.#ping, this.#deadlines.pingMs);
      this.#start.resolve();
    } else {
      this.#lastSnapshot = report.snapshot;
      this.#finish();
      this.#end.resolve();
    }
  }

  #die(error: Error): void {
    if (this.#over) return;
    this.#isolate.terminate();
    closeReactor(this.#reactor);
    this.#finish();
    this.#start.reject(error);
    this.#end.reject(error);
  }

  #finish(): void {
    this.#over = true;
    clearTimeout(this.#startTimer);
    clearInterval(this.#pingTimer);
    clearTimeout(this.#stopTimer);
    for (const id of [...this.#asked.keys()]) this.#answer(id, undefined);
  }
}

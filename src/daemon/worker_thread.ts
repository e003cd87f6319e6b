/**
 * The entry of a worker's isolate, and what it and the daemon say to each other. Importing it in a Worker starts it.
 * @module
 */
import type { Config } from "../config/load.ts";
import { heapGuard } from "../worker/heap_guard.ts";
import { type OpenLog, openLog, stderrOutput } from "../ops/log/log.ts";
import type { MetricsSnapshot } from "../ops/metrics/metrics.ts";
import { Worker, type WorkerInit } from "../worker/worker.ts";

/** From the daemon. */
export type Command =
  | { readonly type: "start"; readonly init: WorkerInit }
  | { readonly type: "reload"; readonly config: Config }
  | { readonly type: "metrics"; readonly id: number }
  | { readonly type: "drain"; readonly timeoutMs: number }
  /** Ends a drain early. */
  | { readonly type: "stop" };

/** From the worker. */
export type Report =
  | { readonly type: "started"; readonly reactor: number }
  | { readonly type: "metrics"; readonly id: number; readonly snapshot: MetricsSnapshot }
  /** With its last word on what it has counted. */
  | { readonly type: "ended"; readonly snapshot: MetricsSnapshot };

/** The part of a Worker's global scope that is used here. */
interface Scope {
  onmessage: ((event: MessageEvent<Command>) => void) | null;
  postMessage(report: Report): void;
  close(): void;
}

const LOG_CLOSE_MS = 1000;
const HEAP_LOOK_MS = 250;

function serve(scope: Scope): void {
  const stop = new AbortController();
  let worker: Worker | undefined;
  let opened: OpenLog | undefined;
  const obey = async (command: Command): Promise<void> => {
    if (command.type === "start") {
      const { logging } = command.init.config;
      opened = openLog(logging, stderrOutput(logging.format, (name) => Deno.env.get(name)));
      worker = new Worker(command.init, opened.log);
      scope.postMessage({ type: "started", reactor: worker.reactorHandle });
      // A failure is this isolate's: it is not caught, here or in a timer, and the daemon replaces the worker.
      setInterval(heapGuard(), HEAP_LOOK_MS);
      await worker.ended;
    } else if (worker === undefined) throw new Error(`Command "${command.type}" before "start"`);
    else if (command.type === "reload") {
      opened?.setLevels(command.config.logging);
      worker.reload(command.config);
    } else if (command.type === "metrics") {
      scope.postMessage({ type: "metrics", id: command.id, snapshot: await worker.metrics() });
    } else if (command.type === "stop") stop.abort();
    else {
      await worker.drain(command.timeoutMs, stop.signal);
      await opened?.close(LOG_CLOSE_MS);
      scope.postMessage({ type: "ended", snapshot: await worker.metrics() });
      scope.close();
    }
  };
  scope.onmessage = (event) => void obey(event.data);
}

serve(globalThis as unknown as Scope);

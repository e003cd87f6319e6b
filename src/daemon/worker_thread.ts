/**
 * The entry of a worker's isolate, and what it and the daemon say to each other. Importing it in a Worker starts it.
 * @module
 */
import type { Config } from "../config/load.ts";
import { type OpenLog, openLog, stderrOutput } from "../ops/log/log.ts";
import type { MetricsSnapshot } from "../ops/metrics/snapshot.ts";
import { Worker, type WorkerInit } from "../worker/worker.ts";

/** What is answered by a {@linkcode Report} of the type `answer` and the same id. */
export type Question =
  /** Whether it lives. */
  | { readonly type: "ping" }
  /** Answered once the new configuration holds. */
  | { readonly type: "reload"; readonly config: Config }
  /** Answered with a snapshot. */
  | { readonly type: "metrics" };

/** From the daemon. */
export type Command =
  | { readonly type: "start"; readonly init: WorkerInit }
  | { readonly type: "question"; readonly id: number; readonly question: Question }
  | { readonly type: "drain"; readonly timeoutMs: number }
  /** Ends a drain early. */
  | { readonly type: "stop" };

/** From the worker. */
export type Report =
  | { readonly type: "started" }
  | { readonly type: "answer"; readonly id: number; readonly snapshot: MetricsSnapshot | undefined }
  /** With its last word on what it has counted. */
  | { readonly type: "ended"; readonly snapshot: MetricsSnapshot };

/** The part of a Worker's global scope that is used here. */
interface Scope {
  onmessage: ((event: MessageEvent<Command>) => void) | null;
  postMessage(report: Report): void;
  addEventListener(type: string, listener: () => void): void;
  close(): void;
}

const LOG_CLOSE_MS = 1000;

function serve(scope: Scope): void {
  const stop = new AbortController();
  let worker: Worker | undefined;
  let opened: OpenLog | undefined;

  // A failure is this isolate's: it is not caught, and the daemon replaces the worker.
  const answer = (worker: Worker, question: Question): MetricsSnapshot | undefined => {
    if (question.type === "metrics") return worker.metrics();
    if (question.type === "reload") {
      opened?.setLevels(question.config.logging);
      worker.reload(question.config);
    }
    return undefined;
  };
  const obey = async (command: Command): Promise<void> => {
    if (command.type === "start") {
      const { logging } = command.init.config;
      opened = openLog(logging, stderrOutput(logging.format, (name) => Deno.env.get(name)));
      worker = new Worker(command.init, opened.log);
      scope.postMessage({ type: "started" });
      await worker.ended;
    } else if (worker === undefined) throw new Error(`Command "${command.type}" before "start"`);
    else if (command.type === "question") {
      scope.postMessage({ type: "answer", id: command.id, snapshot: answer(worker, command.question) });
    } else if (command.type === "stop") stop.abort();
    else {
      await worker.drain(command.timeoutMs, stop.signal);
      await opened?.close(LOG_CLOSE_MS);
      scope.postMessage({ type: "ended", snapshot: worker.metrics() });
      scope.close();
    }
  };
  scope.onmessage = (event) => void obey(event.data);
  // Deno 2.9.6 leaves the sockets of an isolate open that dies, its bell's end being one.
  for (const type of ["error", "unhandledrejection"]) {
    scope.addEventListener(type, () => worker?.close());
  }
}

serve(globalThis as unknown as Scope);

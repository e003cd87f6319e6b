/**
 * Connections over fake sockets, with a backend that a test speaks for, and their metrics and log as lists.
 * @module
 */
import type { Backend, BackendRequest, StreamEvent } from "../../src/backend/backend.ts";
import type { Client } from "../../src/worker/client_sink.ts";
import { Connection, type ConnectionParts } from "../../src/worker/connection.ts";
import { Drain } from "../../src/worker/connection_set.ts";
import type { Log, LogFields } from "../../src/ops/log/log.ts";
import type { Metrics } from "../../src/ops/metrics/metrics.ts";
import { Outbox } from "../../src/worker/outbox.ts";
import { SseEncoderStream } from "../../src/protocol/sse.ts";
import { fakeClients, type FakeSocket } from "./fake_clients.ts";

/** One request to a {@linkcode ScriptedBackend}, which does what the test says. */
export class ScriptedStream {
  pulls = 0;
  cancelled: unknown;
  readonly readable: ReadableStream<StreamEvent>;
  #controller!: ReadableStreamDefaultController<StreamEvent>;

  constructor(readonly request: BackendRequest, readonly signal: AbortSignal) {
    this.readable = new ReadableStream({
      start: (controller) => void (this.#controller = controller),
      pull: () => void this.pulls++,
      cancel: (reason) => void (this.cancelled = reason),
    }, { highWaterMark: 0 });
  }

  emit(...events: (string | StreamEvent)[]): void {
    for (const event of events) {
      this.#controller.enqueue(typeof event === "string" ? { kind: "text", text: event } : event);
    }
  }

  close(): void {
    this.#controller.close();
  }

  fail(error: Error): void {
    this.#controller.error(error);
  }
}

/** A backend without a will of its own. */
export class ScriptedBackend implements Backend {
  readonly name = "scripted";
  readonly streams: ScriptedStream[] = [];

  stream(request: BackendRequest, signal: AbortSignal): ReadableStream<StreamEvent> {
    const stream = new ScriptedStream(request, signal);
    this.streams.push(stream);
    return stream.readable;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** What was logged. */
export interface LoggedLine {
  readonly level: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** A log that keeps its lines. */
export function listLog(lines: LoggedLine[]): Log {
  const write = (level: string) => (message: string, fields: LogFields = {}) =>
    void lines.push({ level, message, fields });
  const log: Log = {
    debug: write("debug"),
    info: write("info"),
    warning: write("warning"),
    error: write("error"),
    child: () => log,
    with: () => log,
    enabled: () => true,
  };
  return log;
}

/** Metrics as a list of calls: `["streamEnded", "shutdown"]`. Durations are left out. */
export function listMetrics(calls: unknown[][]): Metrics {
  return new Proxy({} as Metrics, {
    get: (_, name) => (...args: unknown[]) => {
      const isDuration = (index: number) =>
        index === 0 && /^(handoffReceived|streamEnded|backendFirstEvent|backendDone)$/.test(String(name));
      calls.push([name, ...args.filter((arg, index) => arg !== undefined && !isDuration(index))]);
    },
  });
}

/** Lets everything happen that is ready to happen. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
}

/** A worker's parts, without a kernel. Write time-out 1000 ms, backend time-out 5000 ms. */
export function fakeConnections(): {
  timing: ReturnType<typeof fakeClients>["timing"];
  batches(): number;
  backend: ScriptedBackend;
  drain: Drain;
  lines: LoggedLine[];
  calls: unknown[][];
  /** Hands over; the data is JSON unless it is bytes. */
  open(
    data?: Readonly<Record<string, unknown>> | Uint8Array,
    options?: { overLimit?: boolean; room?: number },
  ): Promise<FakeSocket>;
} {
  const { timing, sender, sink, deadlines, socket } = fakeClients(1000);
  const backend = new ScriptedBackend();
  const drain = new Drain();
  const lines: LoggedLine[] = [];
  const calls: unknown[][] = [];
  const outbox = new Outbox<Client>();
  // Nothing ends or fails it in these tests.
  void outbox.readable.pipeThrough(new SseEncoderStream<Client>()).pipeTo(sink.writable());
  const parts: ConnectionParts = {
    outbox,
    sink,
    deadlines,
    drain,
    backend,
    metrics: listMetrics(calls),
    log: listLog(lines),
    defaults: { model: "default-model", makeRequestId: () => "made-id" },
    backendTimeoutMs: 5000,
  };
  let id = 0;
  return {
    timing,
    batches: () => sender.batches,
    backend,
    drain,
    lines,
    calls,
    async open(data = {}, { overLimit = false, room = Infinity } = {}) {
      const payload = data instanceof Uint8Array ? data : new TextEncoder().encode(JSON.stringify(data));
      const client = socket(++id);
      client.room = room;
      new Connection(parts, client).begin({ payload, overLimit });
      await settled();
      return client;
    },
  };
}

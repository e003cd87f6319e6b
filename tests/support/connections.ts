/**
 * Connections over fake sockets, with a backend that a test speaks for, and their metrics and log as lists.
 * @module
 */
import type { Answer, Backend, BackendRequest, Recipient, StreamEvent } from "../../src/backend/backend.ts";
import { EventQueue } from "../../src/backend/event_queue.ts";
import type { BackendConfig } from "../../src/config/load.ts";
import { BackendError } from "../../src/errors.ts";
import type { Handoff } from "../../src/native/reactor.ts";
import type { Log, LogFields } from "../../src/ops/log/log.ts";
import type { Metrics } from "../../src/ops/metrics/metrics.ts";
import { SseEncoderStream } from "../../src/protocol/sse.ts";
import { TimerWheel } from "../../src/timing/timer_wheel.ts";
import { Clients } from "../../src/worker/clients.ts";
import { Connection, type ConnectionParts } from "../../src/worker/connection.ts";
import { makeRoute, type Route } from "../../src/worker/backends.ts";
import { ConnectionSet } from "../../src/worker/connection_set.ts";
import { SharedStreams } from "../../src/worker/shared_streams.ts";
import { testConfig } from "./acceptor.ts";
import { turn } from "./answers.ts";
import { FakeReactor, type FakeSocket } from "./fake_clients.ts";
import { FakeTiming } from "./fake_timing.ts";

export { DONE_EVENT as DONE, errorEvent as failed, textEvent as text } from "./wire.ts";

/** One answer of a {@linkcode ScriptedBackend}, which does what the test says, cancelled or not. */
export class ScriptedAnswer implements Answer {
  #request: BackendRequest | null;
  /** What the daemon told it, in order. */
  readonly told: ("pause" | "resume" | "cancel")[] = [];
  readonly #queue: EventQueue;
  readonly #recipient: Recipient;

  constructor(queue: EventQueue, request: BackendRequest, recipient: Recipient) {
    this.#request = request;
    this.#queue = queue;
    this.#recipient = recipient;
  }

  get request(): BackendRequest {
    return this.#request as BackendRequest;
  }

  /** As a provider does that has taken it: whoever holds it now is the daemon. */
  letGo(): WeakRef<object> {
    const ref = new WeakRef(this.request.messages);
    this.#request = null;
    return ref;
  }

  emit(...events: (string | StreamEvent)[]): void {
    for (const event of events) {
      this.#queue.push(this.#recipient, typeof event === "string" ? { kind: "text", text: event } : event);
    }
  }

  end(): void {
    this.emit({ kind: "end" });
  }

  fail(kind: BackendError["kind"], message = "for the log alone"): void {
    this.emit({ kind: "error", error: new BackendError(kind, message) });
  }

  pause(): void {
    this.told.push("pause");
  }

  resume(): void {
    this.told.push("resume");
  }

  cancel(): void {
    this.told.push("cancel");
  }
}

/** A backend without a will of its own. */
export class ScriptedBackend implements Backend {
  readonly name: string;
  readonly answers: ScriptedAnswer[] = [];
  readonly #queue = new EventQueue();

  constructor(name = "scripted") {
    this.name = name;
  }

  get events(): Backend["events"] {
    return this.#queue.events;
  }

  ask(request: BackendRequest, recipient: Recipient): ScriptedAnswer {
    const answer = new ScriptedAnswer(this.#queue, request, recipient);
    this.answers.push(answer);
    return answer;
  }

  close(): Promise<void> {
    this.#queue.close();
    return Promise.resolve();
  }
}

/** What was logged. */
export interface LoggedLine {
  readonly level: string;
  readonly message: string;
  readonly fields: LogFields;
}

/** A log that keeps its lines, of the default level and above. */
export function listLog(lines: LoggedLine[]): Log {
  const write = (level: string) => (message: string, fields: LogFields = {}) =>
    void lines.push({ level, message, fields });
  const log: Log = {
    debug() {},
    info: write("info"),
    warning: write("warning"),
    error: write("error"),
    child: () => log,
    enabled: (level) => level !== "debug",
  };
  return log;
}

/** Metrics as a list of calls: `["streamEnded", "shutdown"]`. Durations are left out, and go into a list of their own. */
export function listMetrics(calls: unknown[][], durationsSecs: [name: string, secs: number][] = []): Metrics {
  return new Proxy({} as Metrics, {
    get: (_, name) => (...args: unknown[]) => {
      const isDuration = (index: number) =>
        index === 0 && /^(handoffReceived|streamEnded|backendFirstEvent|backendDone)$/.test(String(name));
      calls.push([name, ...args.filter((arg, index) => arg !== undefined && !isDuration(index))]);
      if (isDuration(0)) durationsSecs.push([String(name), args[0] as number]);
    },
  });
}

/** The calls of these names. */
export function only(calls: unknown[][], ...names: string[]): unknown[][] {
  return calls.filter(([name]) => names.includes(name as string));
}

/** How a handoff comes, besides its data. */
export interface HandoffOptions extends Partial<Omit<Handoff, "client" | "payload">> {
  /** What the client's socket takes. */
  readonly room?: number;
  readonly stopping?: boolean;
}

/** A worker's parts, without a kernel. Write time-out 1000 ms, backend time-out 5000 ms. */
export interface FakeWorker {
  readonly timing: FakeTiming;
  readonly reactor: FakeReactor;
  readonly backend: ScriptedBackend;
  readonly connections: ConnectionSet;
  readonly lines: LoggedLine[];
  readonly calls: unknown[][];
  /** What was measured, by the clock of `timing`. */
  readonly durationsSecs: readonly [name: string, secs: number][];
  /** Bytes that were counted as sent. */
  readonly traffic: { bytes: number };
  /** Bytes of requests that are kept. */
  readonly held: { bytes: number };
  /** Hands over; the data is JSON unless it is bytes. */
  open(
    data?: Readonly<Record<string, unknown>> | Uint8Array,
    options?: HandoffOptions,
  ): Promise<FakeSocket>;
  /** The same, and the answer that was asked for. */
  ask(options?: HandoffOptions): Promise<[FakeSocket, ScriptedAnswer]>;
}

const PLAN = (await testConfig()).backend;

/** A worker's backends where there is one, or several of which the first is the default one. */
export function fakeBackends(timeoutMs: number, ...backends: FakeRoute[]): ConnectionParts["backends"] {
  const routes = backends.map(({ backend, ...changes }): Route => {
    const config = { ...PLAN, timeoutMs, ...changes };
    const route = makeRoute(backend.name, backend, config, listLog([]));
    route.gate.set(config.maxStreams, config.queueLength);
    return route;
  });
  return {
    route: (name) => name === undefined ? routes[0] : routes.find((each) => each.name === name),
  };
}

/** A backend, and what differs from the default configuration. */
export type FakeRoute = { readonly backend: Backend } & Partial<BackendConfig>;

/** See {@linkcode FakeWorker}. */
export function fakeWorker(
  { backendTimeoutMs = 5000, config = {}, others = [], ...changes }: Partial<ConnectionParts> & {
    readonly backendTimeoutMs?: number;
    readonly config?: Partial<BackendConfig>;
    readonly others?: readonly ({ readonly backend: ScriptedBackend } & Partial<BackendConfig>)[];
  } = {},
): FakeWorker {
  const timing = new FakeTiming();
  const reactor = new FakeReactor();
  const backend = new ScriptedBackend();
  const connections = new ConnectionSet();
  const lines: LoggedLine[] = [];
  const calls: unknown[][] = [];
  const durationsSecs: [string, number][] = [];
  const traffic = { bytes: 0 };
  const held = { bytes: 0 };
  const own = new EventQueue();
  const clients = new Clients(reactor, { bytesSent: (bytes) => void (traffic.bytes += bytes) });
  // Nothing ends these, and what fails them fails the test.
  void own.events.pipeThrough(new SseEncoderStream()).pipeTo(clients.writable);
  for (const { events } of [backend, ...others.map(({ backend }) => backend)]) {
    void events.pipeThrough(new SseEncoderStream()).pipeTo(clients.writable);
  }
  const parts: ConnectionParts = {
    clients,
    sockets: reactor,
    wheel: new TimerWheel(1, timing),
    connections,
    streams: new SharedStreams({ keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 }, listLog([])),
    homeOf: () => 1,
    reactor: 1,
    shedding: {
      hold: (bytes) => void (held.bytes += bytes),
      release: (bytes) => void (held.bytes -= bytes),
    },
    own,
    metrics: listMetrics(calls, durationsSecs),
    log: listLog(lines),
    backends: fakeBackends(backendTimeoutMs, { backend, ...config }, ...others),
    rules: {
      model: "default-model",
      members: ["tools"],
      format: "content",
      include: [],
      makeRequestId: () => "made-id",
    },
    heartbeatMs: 0,
    writeTimeoutMs: 1000,
    ...changes,
  };
  const open: FakeWorker["open"] = async (data = {}, { room, stopping = false, ...handoff } = {}) => {
    const payload = data instanceof Uint8Array
      ? new Uint8Array(data)
      : new TextEncoder().encode(JSON.stringify(data));
    const socket = reactor.accept(room);
    socket.owner = new Connection(parts, {
      overLimit: false,
      noRoom: false,
      moved: false,
      gone: false,
      refusal: undefined,
      durationSecs: 0,
      ...handoff,
      client: socket.id,
      payload,
    }, stopping);
    await turn();
    return socket;
  };
  return {
    timing,
    reactor,
    backend,
    connections,
    lines,
    calls,
    durationsSecs,
    traffic,
    held,
    open,
    async ask(options) {
      const socket = await open({}, options);
      return [socket, backend.answers.at(-1) as ScriptedAnswer];
    },
  };
}

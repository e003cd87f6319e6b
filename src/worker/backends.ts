/**
 * The backends of one worker: made at its start, and at a reload those that are new or changed. Each has a pipeline.
 * @module
 */
import type { Backend, UpstreamStats } from "../backend/backend.ts";
import { type BackendParts, type BackendPlan, makeBackend } from "../backend/mod.ts";
import { allBackends, type Config, DEFAULT_BACKEND } from "../config/config.ts";
import type { Log } from "../ops/log/log.ts";
import type { BackendState } from "../ops/metrics/worker_metrics.ts";
import type { BackendChoice } from "../protocol/handoff_request.ts";
import type { EventBatch } from "../protocol/stream_event.ts";
import { within } from "../timing/within.ts";
import { Circuit } from "./circuit.ts";
import { Gate } from "./gate.ts";

/** A backend, and how it is asked. */
export interface Route {
  /** In the configuration: `default`, or the name of `[backends.NAME]`. */
  readonly key: string;
  /** In log and metrics: the provider of `[backend]`, or the name of `[backends.NAME]`. */
  readonly name: string;
  readonly backend: Backend;
  readonly config: BackendPlan;
  /** Stays the same over reloads, with those that have a place or wait for one. */
  readonly gate: Gate;
  readonly circuit: Circuit;
}

/** Which part of what the daemon may have is this worker's. */
export interface Share {
  readonly index: number;
  readonly workers: number;
}

/** Carries a backend's events to the clients, until they end. */
type Carrier = (events: ReadableStream<EventBatch>) => void;

// So long may the end of a backend take whose answers have ended.
const CLOSE_MS = 1000;

/** See the module. */
export class Backends {
  readonly #parts: BackendParts;
  readonly #share: Share;
  #routes: ReadonlyMap<string, Route> = new Map();
  /** Those that a reload has replaced and whose answers have not ended. */
  readonly #replaced = new Set<Backend>();
  /** What those had counted that are closed: counters must not go back. */
  #countedBefore: UpstreamStats | undefined;
  #carry: Carrier | undefined;

  /** @throws {ConfigError} if one of them cannot be made; then none is */
  constructor(config: Config, parts: BackendParts, share: Share) {
    this.#parts = parts;
    this.#share = share;
    this.reload(config);
  }

  /** What carries their events from now on, and those of backends to come. */
  carryBy(carry: Carrier): void {
    this.#carry = carry;
    for (const { backend } of this.#routes.values()) carry(backend.events);
  }

  /**
   * Takes over what has changed, for what is asked from now on; answers that are under way end undisturbed.
   *
   * @throws {ConfigError} if one of them cannot be made; all stays as it was
   */
  reload(config: Config): void {
    const before = this.#routes;
    const made: Backend[] = [];
    const routes = new Map<string, Route>();
    try {
      for (const [name, plan] of allBackends(config)) {
        const old = before.get(name);
        if (old !== undefined && JSON.stringify(old.config) === JSON.stringify(plan)) {
          routes.set(name, old);
          continue;
        }
        const backend = makeBackend(plan, this.#parts);
        made.push(backend);
        routes.set(name, makeRoute(name, backend, plan, this.#parts.log, old?.gate));
      }
    } catch (error) {
      for (const backend of made) void this.#close(backend);
      throw error;
    }
    this.#routes = routes;
    for (const { gate, config } of routes.values()) {
      gate.set(shareOf(config.maxStreams, this.#share), shareOf(config.queueLength, this.#share));
    }
    for (const backend of made) this.#carry?.(backend.events);
    for (const [name, old] of before) {
      if (routes.get(name) !== old) void this.#retire(old.backend);
    }
  }

  async #retire(backend: Backend): Promise<void> {
    this.#replaced.add(backend);
    await this.#close(backend);
    this.#replaced.delete(backend);
    const stats = backend.stats?.();
    if (stats === undefined) return;
    this.#countedBefore = sumOf(this.#countedBefore, { ...stats, connections: 0, streams: 0, waiting: 0 });
  }

  /** The one of that name; `undefined` if a reload took it away. */
  route(name: string = DEFAULT_BACKEND): Route | undefined {
    return this.#routes.get(name);
  }

  /** What there is to tell of each. */
  states(): BackendState[] {
    return [...this.#routes.values()].map(({ name, config, gate, circuit }) => ({
      name,
      waiting: config.maxStreams === 0 ? undefined : gate.waiting,
      circuitOpen: config.circuitFailures === 0 ? undefined : circuit.open,
    }));
  }

  /** What all of them tell of their connections, those too that were replaced. */
  stats(): UpstreamStats | undefined {
    const live = [...this.#routes.values()].map(({ backend }) => backend);
    return [...live, ...this.#replaced].reduce(
      (sum, backend) => sumOf(sum, backend.stats?.()),
      this.#countedBefore,
    );
  }

  /** Ends them once their answers have ended, or after a second. */
  async close(): Promise<void> {
    await Promise.all([...this.#routes.values()].map(({ backend }) => this.#close(backend, CLOSE_MS)));
  }

  // Never rejects.
  async #close(backend: Backend, withinMs?: number): Promise<void> {
    const { log } = this.#parts;
    try {
      const closed = backend.close();
      if (withinMs === undefined) return await closed;
      await within(closed, withinMs, () => {
        log.warning("A backend has answers under way that nobody waits for", { backend: backend.name });
      });
    } catch (error) {
      log.warning("Cannot close a backend", { backend: backend.name, error });
    }
  }
}

/** A backend with its limits. @param gate that of the one before it */
export function makeRoute(
  key: string,
  backend: Backend,
  config: BackendPlan,
  log: Log,
  gate: Gate = new Gate(),
): Route {
  const name = key === DEFAULT_BACKEND ? backend.name : key;
  const limits = {
    failures: config.circuitFailures,
    withinMs: config.circuitWithinMs,
    pauseMs: config.circuitPauseMs,
  };
  const circuit = new Circuit(limits, (open) => {
    if (open) {
      const { failures, pauseMs } = limits;
      log.warning("Backend fails and is left alone", { backend: name, failures, pause_ms: pauseMs });
    } else log.info("Backend answers again", { backend: name });
  });
  return { key, name, backend, config, gate, circuit };
}

function sumOf(one: UpstreamStats | undefined, other: UpstreamStats | undefined): UpstreamStats | undefined {
  if (one === undefined || other === undefined) return one ?? other;
  const sum: Record<keyof UpstreamStats, number> = { ...one };
  for (const name of Object.keys(sum) as (keyof UpstreamStats)[]) sum[name] += other[name];
  return sum;
}

/** A worker's part of a number: all parts together are that, unless there are more workers, of which each has one. */
function shareOf(number: number, { index, workers }: Share): number {
  if (number === 0) return 0;
  return Math.max(1, Math.floor(number / workers) + (index < number % workers ? 1 : 0));
}

/** What a handoff may choose from; `undefined` if there is nothing to choose. */
export function backendChoices(config: Config): readonly BackendChoice[] | undefined {
  const { selectable } = config.backend;
  const choices = allBackends(config).map(([name, { defaultModel, requestMembers, models }]) => ({
    name,
    model: defaultModel,
    members: requestMembers,
    models,
    selectable: selectable.includes(name),
  }));
  return choices.some(({ models, selectable }) => selectable || models.length > 0) ? choices : undefined;
}

/**
 * The daemon: listeners, workers, metrics, and their end.
 * @module
 */
import { type AdminServer, openAdminServer } from "../ops/admin_server.ts";
import { planBackends } from "../backend/mod.ts";
import { type Config, describeConfig } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import type { Log } from "../ops/log/log.ts";
import { MetricsPage } from "../ops/metrics/page.ts";
import { sumSnapshots } from "../ops/metrics/sum_snapshots.ts";
import { providersOf, type Status } from "../ops/status.ts";
import { StreamGauge } from "../ops/metrics/stream_gauge.ts";
import { RequestIds } from "../ops/request_ids.ts";
import { Acceptor } from "../native/acceptor.ts";
import { statusText } from "../native/library.ts";
import { openFds, raiseFdLimit } from "../native/process.ts";
import { DETAIL_NAMES } from "../native/reasons.ts";
import { within } from "../timing/within.ts";
import { acceptorPolicy, maxConnections } from "./limits.ts";
import { listen } from "./listeners.ts";
import { WorkerPool } from "./worker_pool.ts";

/** What a daemon is started with. */
export interface DaemonOptions {
  readonly config: Config;
  readonly log: Log;
  readonly version: string;
  /** Listening sockets that systemd passed; with any, no path is bound. */
  readonly inheritedFds: readonly number[];
  /** `--benchmark`: nothing but sums is counted, and logged at the end. */
  readonly benchmark: boolean;
}

// So long may the acceptor take to be done once it has to stop at once.
const DRAINED_MS = 1000;

/** A running daemon. */
export class Daemon {
  /** Resolves when it has stopped in order; rejects when it cannot go on. */
  readonly ended: Promise<void>;
  readonly #log: Log;
  readonly #acceptor: Acceptor;
  readonly #pool: WorkerPool;
  readonly #admin: AdminServer | undefined;
  readonly #fdLimit: number;
  readonly #startedMs = performance.now();
  readonly #stopNow = new AbortController();
  readonly #benchmark: boolean;
  #config: Config;
  readonly #drained = Promise.withResolvers<void>();
  /** Handoffs that reached no worker. */
  #refused = 0;
  #ready = true;
  #draining = false;

  private constructor({ config, log, benchmark }: DaemonOptions, parts: DaemonParts) {
    this.#config = config;
    this.#log = log;
    this.#benchmark = benchmark;
    this.#acceptor = parts.acceptor;
    this.#pool = parts.pool;
    this.#admin = parts.admin;
    this.#fdLimit = parts.fdLimit;
    const handoffLog = log.child("handoff");
    const ids = new RequestIds("acceptor");
    const accepting = this.#acceptor.run({
      refused: ({ reason, count, receivedBytes, durationSecs, detail }) => {
        this.#refused += count;
        parts.page.handoffsRefused(reason, count);
        const detailName = DETAIL_NAMES[reason];
        handoffLog.warning("Handoff refused", {
          request_id: ids.next(), // its own, if it has one, is in data that is not read
          reason,
          ...(detailName === undefined ? {} : { [detailName]: detail }),
          received_bytes: receivedBytes,
          duration_ms: Math.round(durationSecs * 1000),
          ...(count === 1 ? {} : { count }),
        });
      },
      drained: () => this.#drained.resolve(),
      acceptFailed: (errno) =>
        handoffLog.error("Cannot accept handoffs for a moment", { error: statusText(-errno) }),
    });
    this.ended = this.#untilEnd(accepting);
  }

  /**
   * Starts a daemon and resolves when it takes handoffs.
   *
   * @throws {ConfigError} if the backend cannot be made as configured
   * @throws {ListenError} if a socket or the address of the metrics cannot be had
   * @throws {ShimError} if a socket from systemd is none for handoffs
   */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const { config, log, version, benchmark, inheritedFds } = options;
    const planned = await plan(config);
    const fdLimit = raiseFdLimit();
    const acceptor = new Acceptor(acceptorPolicy(config, fdLimit, log));
    const workers = config.server.workers === "auto" ? navigator.hardwareConcurrency : config.server.workers;
    const streams = StreamGauge.allocate(workers);
    const page = new MetricsPage(new StreamGauge(0, streams), {
      version,
      maxFds: fdLimit,
      openFds,
      connectionsActive: () => acceptor.active(),
    });
    let daemon: Daemon | undefined;
    let admin: AdminServer | undefined;
    let pool: WorkerPool | undefined;
    const render = async (): Promise<string> => page.render(await pool?.snapshots() ?? []);
    let scrape: Promise<string> | undefined; // one for all that ask at the same time
    try {
      if (config.metrics.enabled) {
        admin = openAdminServer(config.metrics.listenAddr, {
          metrics: () => scrape ??= render().finally(() => scrape = undefined),
          status: async () => {
            if (daemon === undefined) throw new Error("The daemon has not started yet");
            return await daemon.#status(version, new StreamGauge(0, streams));
          },
          ready: () => daemon !== undefined && daemon.#ready,
          onError: (error) => log.error("The admin server cannot do its work for now", { error }),
        });
      }
      // Before there are workers: a socket that cannot be had ends nothing. What comes now waits in the backlog.
      listen(acceptor, config, inheritedFds, log);
      pool = await WorkerPool.start({
        config: planned,
        workers,
        acceptor: acceptor.handle,
        streams,
        benchmark,
        log,
        died: (lostStreams) => page.workerDied(lostStreams),
        pinged: (delaySecs) => page.eventLoopLag(delaySecs),
      });
      daemon = new Daemon(options, { acceptor, pool, admin, page, fdLimit });
    } catch (error) {
      await pool?.drain(0, AbortSignal.abort());
      acceptor.close();
      await admin?.close();
      throw error;
    }
    log.info("Taking handoffs", {
      workers,
      backend: config.backend.provider,
      ...(Object.keys(config.backends).length === 0 ? {} : { backends: Object.keys(config.backends) }),
      ...(admin === undefined ? {} : { metrics: `http://${admin.addr.hostname}:${admin.addr.port}/metrics` }),
    });
    return daemon;
  }

  /**
   * Takes over a new configuration, for handoffs from now on. What needs a restart must be unchanged in it. Resolves
   * when all workers have it.
   *
   * @throws {ConfigError} if its backend cannot be made; the old configuration stays
   */
  async reload(config: Config): Promise<void> {
    const planned = await planBackends(config);
    this.#acceptor.configure(acceptorPolicy(config, this.#fdLimit, this.#log));
    this.#config = config;
    await this.#pool.reload(planned);
  }

  /** See {@linkcode WorkerPool.answers}. */
  get healthy(): boolean {
    return this.#pool.answers;
  }

  async #status(version: string, gauge: StreamGauge): Promise<Status> {
    const snapshots = await this.#pool.snapshots();
    const workers = this.#pool.status();
    return {
      version,
      deno: Deno.version.deno,
      pid: Deno.pid,
      uptime_secs: Math.round((performance.now() - this.#startedMs) / 1000),
      state: this.#ready ? "taking handoffs" : "draining",
      connections: this.#acceptor.active(),
      max_connections: maxConnections(this.#config, this.#fdLimit),
      streams: gauge.active,
      streams_peak: gauge.peak,
      oldest_secs: Math.max(...workers.map(({ oldest_secs }) => oldest_secs)),
      workers,
      providers: await providersOf(snapshots),
      config: describeConfig({ config: this.#config, origins: new Map() }),
    };
  }

  /** Clients whose socket is open. */
  connectionsActive(): number {
    return this.#acceptor.active();
  }

  /**
   * Ends in order: what waits in the backlog is taken, then nobody listens; streams may finish within the shutdown
   * time-out, the rest is told. Follow it by {@linkcode Daemon.ended}. Later calls do nothing.
   */
  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    this.#ready = false;
    void this.#drainInOrder(this.#config.server.shutdownTimeoutMs);
  }

  // The acceptor first: from then on whoever comes is with a worker, and who has not said all yet is told so by one.
  async #drainInOrder(timeoutMs: number): Promise<void> {
    const untilMs = performance.now() + timeoutMs;
    const now = AbortSignal.any([this.#stopNow.signal, AbortSignal.timeout(timeoutMs)]);
    const late = Promise.withResolvers<void>();
    const stopAtOnce = (): void => {
      this.#stopAccepting(true);
      // While no worker has a seat, a handoff that waits for one is told nothing, and nobody says that all is done.
      late.resolve(within(this.#drained.promise, DRAINED_MS, () => {}));
    };
    if (now.aborted) stopAtOnce();
    else {
      this.#stopAccepting(false);
      now.addEventListener("abort", stopAtOnce, { once: true });
    }
    await Promise.race([this.#drained.promise, late.promise]);
    await this.#pool.drain(Math.max(0, Math.ceil(untilMs - performance.now())), this.#stopNow.signal);
  }

  #stopAccepting(now: boolean): void {
    try {
      this.#acceptor.stop(now);
    } catch (error) {
      this.#log.error("A handoff socket stays behind", { error });
    }
  }

  /** Ends at once: streams that are left are told, and not waited for. */
  stopNow(): void {
    this.#stopNow.abort();
    this.drain();
  }

  async #untilEnd(accepting: Promise<void>): Promise<void> {
    try {
      await Promise.race([this.#pool.ended, accepting]);
      if (this.#benchmark) this.#log.info("Benchmark", await this.#sums());
    } finally {
      this.#ready = false;
      this.#acceptor.close();
      await this.#admin?.close();
    }
  }

  async #sums(): Promise<Record<string, number>> {
    const sums = await sumSnapshots(await this.#pool.snapshots());
    return Object.fromEntries(sums.map(({ name, values }) => {
      const value = values[0]?.value ?? 0;
      return [name, name === "refused_handoffs" ? value + this.#refused : value];
    }));
  }
}

interface DaemonParts {
  readonly acceptor: Acceptor;
  readonly pool: WorkerPool;
  readonly admin: AdminServer | undefined;
  readonly page: MetricsPage;
  readonly fdLimit: number;
}

/**
 * The configuration as the workers get it. What a key alone does not show to be unusable, such as a file that is not
 * there, is found here, before anything is opened; `--check` is no more than this.
 *
 * @throws {ConfigError} which names the key and what is wrong with its value
 */
export async function plan(config: Config): Promise<Config> {
  const planned = await planBackends(config);
  await checkStore(config);
  return planned;
}

/** What the workers read for the store of streams is there. */
async function checkStore({ resume: { store, redisCaFile } }: Config): Promise<void> {
  if (store === "memory" || redisCaFile === "") return;
  const setting = `resume.redis_ca_file = "${redisCaFile}"`;
  let text;
  try {
    text = await Deno.readTextFile(redisCaFile);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigError(`${setting}: expected a file that can be read: ${why}`, { cause });
  }
  if (!text.includes("-----BEGIN CERTIFICATE-----")) {
    throw new ConfigError(`${setting}: expected a file with certificates in PEM`);
  }
}

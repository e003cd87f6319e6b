/**
 * What a service tells systemd (sd_notify(3), sd_watchdog_enabled(3)) and gets from it (sd_listen_fds(3)). Without
 * systemd all of it does nothing.
 * @module
 */
import { ConfigError } from "../errors.ts";

/** Reads one environment variable. */
export type Env = (name: string) => string | undefined;

/** A listening socket that systemd opened. */
export interface ListenFd {
  readonly fd: number;
  /** FileDescriptorName= of the socket unit. */
  readonly name: string;
}

/** SD_LISTEN_FDS_START of sd_listen_fds(3). */
const FIRST_LISTEN_FD = 3;

/**
 * The sockets that systemd passed to this process.
 *
 * @param pid ours (`Deno.pid`): what was meant for another process is not touched
 * @throws {ConfigError} if the variables contradict themselves
 */
export function listenFds(env: Env, pid: number): readonly ListenFd[] {
  if (env("LISTEN_PID") !== String(pid)) return [];
  const count = env("LISTEN_FDS") ?? "";
  if (!/^\d{1,4}$/.test(count)) {
    throw new ConfigError(`environment LISTEN_FDS = ${JSON.stringify(count)}: expected a number of sockets`);
  }
  const names = env("LISTEN_FDNAMES")?.split(":");
  if (names !== undefined && names.length !== Number(count)) {
    throw new ConfigError(
      `environment LISTEN_FDNAMES = ${JSON.stringify(names.join(":"))}: expected ${count} names (LISTEN_FDS)`,
    );
  }
  return Array.from({ length: Number(count) }, (_, index) => ({
    fd: FIRST_LISTEN_FD + index,
    name: names?.[index] ?? "unknown",
  }));
}

/**
 * How often to tell systemd that this process is well: four times within its limit, so that a worker that hangs can be
 * replaced before the limit has passed.
 *
 * @returns `undefined` if there is no watchdog, or not for this process
 */
export function watchdogIntervalMs(env: Env, pid: number): number | undefined {
  const limitUsec = env("WATCHDOG_USEC");
  const watched = env("WATCHDOG_PID");
  if (limitUsec === undefined || (watched !== undefined && watched !== String(pid))) return undefined;
  if (!/^[1-9]\d{0,14}$/.test(limitUsec)) {
    throw new ConfigError(
      `environment WATCHDOG_USEC = ${JSON.stringify(limitUsec)}: expected a number of microseconds`,
    );
  }
  return Math.max(1, Math.floor(Number(limitUsec) / 4000));
}

/** What {@linkcode Notifier} needs of the world. */
export interface NotifierEdges {
  readonly env: Env;
  /** Sends one datagram to `$NOTIFY_SOCKET`, a path or `@` and an abstract name; throws if it cannot. */
  send(address: string, state: string): void;
  /** CLOCK_MONOTONIC of clock_gettime(2). Deno's own clocks start with the process. */
  monotonicUsec(): bigint;
  /** Is told what could not be sent; the daemon goes on. */
  onError(error: unknown): void;
}

/** Tells systemd about the daemon's states. */
export class Notifier {
  readonly #edges: NotifierEdges;
  readonly #address: string | undefined;

  constructor(edges: NotifierEdges) {
    this.#edges = edges;
    this.#address = edges.env("NOTIFY_SOCKET") || undefined;
  }

  /** Handoffs are taken; also the end of a reload. */
  ready(status: string): void {
    this.#notify(["READY=1", statusLine(status)]);
  }

  /** The configuration is being read again; {@linkcode ready} follows, whatever comes of it. */
  reloading(): void {
    this.#notify(["RELOADING=1", () => `MONOTONIC_USEC=${this.#edges.monotonicUsec()}`]);
  }

  /** No more handoffs; streams drain. */
  stopping(status: string): void {
    this.#notify(["STOPPING=1", statusLine(status)]);
  }

  /**
   * Feeds the watchdog, if there is one, until `signal` aborts.
   *
   * @param healthy is asked each time; systemd restarts a daemon that stays unhealthy past the watchdog's limit
   */
  keepAlive(pid: number, healthy: () => boolean, signal: AbortSignal): void {
    const intervalMs = watchdogIntervalMs(this.#edges.env, pid);
    if (this.#address === undefined || intervalMs === undefined || signal.aborted) return;
    const timer = setInterval(() => {
      if (healthy()) this.#notify(["WATCHDOG=1"]);
    }, intervalMs);
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  #notify(lines: readonly (string | (() => string))[]): void {
    if (this.#address === undefined) return;
    try {
      const state = lines.map((line) => typeof line === "string" ? line : line()).join("\n");
      this.#edges.send(this.#address, state);
    } catch (error) {
      this.#edges.onError(error);
    }
  }
}

/** A line end would begin another assignment. */
function statusLine(status: string): string {
  return `STATUS=${status.replace(/[\r\n]+/g, " ")}`;
}

/**
 * The daemon as a service: its configuration, its log, its signals, and what it tells systemd.
 * @module
 */
import { type StartCommand, VERSION } from "./parse.ts";
import {
  type Config,
  configChanges,
  type ConfigSources,
  loadConfig,
  type LoadedConfig,
} from "../config/load.ts";
import { variable } from "../config/variable.ts";
import { Daemon } from "../daemon/daemon.ts";
import { ConfigError, saysAll } from "../errors.ts";
import { type OpenLog, openLog, stderrOutput } from "../ops/log/log.ts";
import { monotonicUsec, notify } from "../native/process.ts";
import { listenFds, Notifier } from "../ops/systemd.ts";
import { daemonPermissions, missingPermissions } from "./permissions.ts";
import { within } from "../timing/within.ts";
import { proxyFromEnvironment } from "../upstream/proxy_environment.ts";

const LOG_CLOSE_MS = 1000;
const READ_TIMEOUT_MS = 5000;
// `deno task` passes on what the terminal or systemd sends to the daemon as well: one signal then comes twice.
const SAME_SIGNAL_MS = 250;

/**
 * The configuration that a command line asks for.
 *
 * @param keyless see {@linkcode ConfigSources}
 * @throws {ConfigError} if there is something wrong with it
 */
export function load(
  { configPath, flags }: Pick<StartCommand, "configPath" | "flags">,
  keyless = false,
): Promise<LoadedConfig> {
  const sources: ConfigSources = {
    path: configPath,
    flags,
    keyless,
    env: variable,
    // It may well be on a disk that does not answer.
    readTextFile: (path) =>
      within(readFile(path), READ_TIMEOUT_MS, () => {
        throw new DOMException("it does not end", "TimeoutError");
      }),
  };
  return loadConfig(sources);
}

// Once for the permissions, once for the program, and at SIGHUP: a FIFO would be empty the second time.
async function readFile(path: string): Promise<string> {
  const { isFile } = await Deno.stat(path);
  if (!isFile) throw new Error("expected a regular file, which is read more than once");
  return await Deno.readTextFile(path);
}

/**
 * Runs the daemon until a signal ends it: SIGTERM and SIGINT drain, a second one stops at once, SIGHUP reloads.
 *
 * @returns the exit code
 * @throws {ConfigError | ListenError | ShimError} if it cannot start
 */
export async function runService(command: StartCommand): Promise<number> {
  const { config } = await load(command);
  const opened = openLog(config.logging, stderrOutput(config.logging.format, variable));
  try {
    await new Service(command, config, opened).run();
    return 0;
  } catch (error) {
    if (saysAll(error)) throw error;
    opened.log.error("The daemon failed", { error });
    return 1;
  } finally {
    await opened.close(LOG_CLOSE_MS);
  }
}

class Service {
  readonly #command: StartCommand;
  readonly #opened: OpenLog;
  readonly #notifier: Notifier;
  #config: Config;
  #daemon: Daemon | undefined;
  #stoppingSinceMs: number | undefined;
  #stopAtOnce = false;
  /** Resolves when the daemon takes handoffs; reloads wait for it. */
  readonly #started = Promise.withResolvers<void>();
  #reloads = this.#started.promise;

  constructor(command: StartCommand, config: Config, opened: OpenLog) {
    this.#command = command;
    this.#config = config;
    this.#opened = opened;
    this.#notifier = new Notifier({
      env: variable,
      send: notify,
      monotonicUsec,
      onError: (error) => opened.log.warning("Cannot notify systemd", { error }),
    });
  }

  async run(): Promise<void> {
    const { log } = this.#opened;
    const inheritedFds = listenFds(variable, Deno.pid).map(({ fd }) => fd);
    // Before the start, so that a signal has its meaning at any moment.
    Deno.addSignalListener("SIGTERM", () => this.#stop());
    Deno.addSignalListener("SIGINT", () => this.#stop());
    // One after the other, so that the last one holds.
    Deno.addSignalListener("SIGHUP", () => void (this.#reloads = this.#reloads.then(() => this.#reload())));
    const { benchmark } = this.#command;
    const daemon = await Daemon.start({
      config: this.#config,
      log,
      version: VERSION,
      benchmark,
      inheritedFds,
    });
    this.#daemon = daemon;
    const ended = new AbortController();
    this.#notifier.keepAlive(Deno.pid, () => daemon.healthy, ended.signal);
    if (this.#stoppingSinceMs === undefined) this.#notifier.ready("Taking handoffs");
    else if (this.#stopAtOnce) daemon.stopNow();
    else daemon.drain();
    this.#started.resolve();
    await daemon.ended.finally(() => ended.abort());
    log.info("Stopped");
  }

  /** @throws {ConfigError} if the sandbox, which was made for the configuration of the start, has no room for this one */
  async #checkPermitted(config: Config): Promise<void> {
    const wanted = daemonPermissions({ ...this.#command, config, proxies: proxyFromEnvironment() });
    const missing = await missingPermissions(wanted);
    if (missing.length > 0) {
      throw new ConfigError(
        `it takes a restart: the sandbox was made for the configuration of the start and lacks ${
          missing.join(" ")
        }`,
      );
    }
  }

  #stop(): void {
    if (this.#stoppingSinceMs !== undefined) {
      if (performance.now() - this.#stoppingSinceMs <= SAME_SIGNAL_MS) return;
      this.#stopAtOnce = true;
      this.#daemon?.stopNow();
      return;
    }
    this.#stoppingSinceMs = performance.now();
    this.#notifier.stopping("Draining");
    this.#opened.log.info("Stopping", { connections: this.#daemon?.connectionsActive() ?? 0 });
    this.#daemon?.drain();
  }

  // Never rejects, and tells systemd of its end, whatever comes of it.
  async #reload(): Promise<void> {
    const daemon = this.#daemon;
    const { log } = this.#opened;
    if (daemon === undefined || this.#stoppingSinceMs !== undefined) return;
    this.#notifier.reloading();
    try {
      log.info("Reloading the configuration", { connections: daemon.connectionsActive() });
      const { config } = await load(this.#command);
      const changes = configChanges(this.#config, config);
      await this.#checkPermitted(changes.config);
      await daemon.reload(changes.config);
      this.#config = changes.config;
      log.info("Configuration reloaded", { changed: changes.changed, need_restart: changes.needRestart });
      this.#opened.setLevels(this.#config.logging); // only now: it may hide that line
    } catch (error) {
      log.error("The new configuration does not hold, the old one stays", { error });
    }
    if (this.#stoppingSinceMs === undefined) this.#notifier.ready("Taking handoffs");
  }
}

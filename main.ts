// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * The program: flags to configuration to daemon, signals, exit codes (0 clean, 1 failure at run time, 2 bad flags or
 * configuration).
 * @module
 */
import { type CheckCommand, parseCli, type StartCommand, type TryCommand, VERSION } from "./src/cli.ts";
import {
  configChanges,
  type ConfigSources,
  describeConfig,
  loadConfig,
  type LoadedConfig,
} from "./src/config.ts";
import { Daemon } from "./src/daemon.ts";
import { ConfigError, ListenError, ShimError } from "./src/errors.ts";
import { openLog, stderrOutput } from "./src/log.ts";
import { monotonicUsec, notify } from "./src/native/process.ts";
import { listenFds, Notifier } from "./src/systemd.ts";
import { tryDaemon } from "./src/try.ts";

const LOG_CLOSE_MS = 1000;
// `deno task` passes on what the terminal or systemd sends to the daemon as well: one signal then comes twice.
const SAME_SIGNAL_MS = 250;
const env = (name: string): string | undefined => Deno.env.get(name);

function load({ configPath, flags }: Pick<StartCommand, "configPath" | "flags">): Promise<LoadedConfig> {
  const sources: ConfigSources = {
    path: configPath,
    flags,
    env,
    readTextFile: (path) => Deno.readTextFile(path),
  };
  return loadConfig(sources);
}

/** Whether its message is all that there is to say. */
function saysAll(error: unknown): error is Error {
  return error instanceof ConfigError || error instanceof ListenError || error instanceof ShimError;
}

async function start(command: StartCommand): Promise<number> {
  let { config } = await load(command);
  const opened = openLog(config.logging, stderrOutput(config.logging.format, env));
  const { log } = opened;
  try {
    const service = new Notifier({
      env,
      send: notify,
      monotonicUsec,
      onError: (error) => log.warning("Cannot notify systemd", { error }),
    });
    const inheritedFds = listenFds(env, Deno.pid).map(({ fd }) => fd);
    const daemon = await Daemon.start({
      config,
      log,
      version: VERSION,
      benchmark: command.benchmark,
      inheritedFds,
    });
    const ended = new AbortController();
    service.keepAlive(Deno.pid, () => true, ended.signal);
    let stopping = false;
    let stoppingAtMs = 0;
    const reload = async (): Promise<void> => {
      if (stopping) return;
      service.reloading();
      log.info("Reloading the configuration", { connections: daemon.connectionsActive() });
      try {
        const changes = configChanges(config, (await load(command)).config);
        config = changes.config;
        daemon.reload(config);
        log.info("Configuration reloaded", { changed: changes.changed, need_restart: changes.needRestart });
        opened.setLevels(config.logging); // only now: it may hide that line
      } catch (error) {
        log.error("The new configuration does not hold, the old one stays", { error });
      }
      if (!stopping) service.ready("Taking handoffs");
    };
    let reloads = Promise.resolve();
    const stop = (): void => {
      if (stopping) {
        if (performance.now() - stoppingAtMs > SAME_SIGNAL_MS) daemon.stopNow();
        return;
      }
      stopping = true;
      stoppingAtMs = performance.now();
      service.stopping("Draining");
      log.info("Stopping", { connections: daemon.connectionsActive() });
      daemon.drain();
    };
    Deno.addSignalListener("SIGTERM", stop);
    Deno.addSignalListener("SIGINT", stop);
    // One after the other, so that the last one holds.
    Deno.addSignalListener("SIGHUP", () => void (reloads = reloads.then(reload)));
    service.ready("Taking handoffs");
    await daemon.ended.finally(() => ended.abort());
    log.info("Stopped");
    return 0;
  } catch (error) {
    if (saysAll(error)) throw error;
    log.error("The daemon failed", { error });
    return 1;
  } finally {
    await opened.close(LOG_CLOSE_MS);
  }
}

async function check(command: CheckCommand): Promise<number> {
  console.log(describeConfig(await load(command)));
  return 0;
}

async function tryOut({ configPath, socketPath, stream, data, timeoutMs }: TryCommand): Promise<number> {
  const { server } = (await load({ ...(configPath === undefined ? {} : { configPath }), flags: [] })).config;
  const encoder = new TextEncoder();
  const whole = await tryDaemon({
    socketPath: socketPath ?? (stream ? server.streamSocketPath : server.socketPath),
    kind: stream ? "stream" : "seqpacket",
    data,
    timeoutMs,
    answer: (text) => void Deno.stdout.writeSync(encoder.encode(text)),
    tell: (line) => console.error(line),
  });
  return whole ? 0 : 1;
}

async function main(args: readonly string[]): Promise<number> {
  const cli = parseCli(args);
  try {
    if (cli.command === "start") return await start(cli);
    if (cli.command === "check") return await check(cli);
    if (cli.command === "try") return await tryOut(cli);
    if (cli.stdout) console.log(cli.stdout.trimEnd());
    if (cli.stderr) console.error(cli.stderr.trimEnd());
    return cli.exitCode;
  } catch (error) {
    if (!saysAll(error)) throw error;
    console.error(`streaming-daemon-ts: ${error.message}`);
    return error instanceof ConfigError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));

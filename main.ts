// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * The program: flags to a command to an exit code (0 clean, 1 failure at run time, 2 bad flags or configuration).
 * @module
 */
import {
  type CheckCommand,
  type CliCommand,
  parseCli,
  type StatusCommand,
  type TryCommand,
} from "./src/cli/parse.ts";
import {
  checkPermissions,
  daemonPermissions,
  permissionFlags,
  type Permissions,
  readerPermissions,
  statusPermissions,
  tryPermissions,
} from "./src/cli/permissions.ts";
import { describeConfig, type LoadedConfig } from "./src/config/load.ts";
import { unknownVariables } from "./src/config/unknown_variables.ts";
import { ConfigError, saysAll } from "./src/errors.ts";
import { load, runService } from "./src/cli/start.ts";
import { askStatus, statusText } from "./src/cli/status.ts";
import { tryDaemon } from "./src/cli/try.ts";
import { plan } from "./src/daemon/daemon.ts";
import { proxyFromEnvironment } from "./src/upstream/proxy_environment.ts";

async function check(command: CheckCommand): Promise<number> {
  const loaded = await load(command);
  await plan(loaded.config);
  console.log(describeConfig(loaded));
  return 0;
}

async function tryOut({ configPath, socketPath, stream, data, timeoutMs }: TryCommand): Promise<number> {
  const place = configPath === undefined ? {} : { configPath };
  const { config: { server }, origins } = await load({ ...place, flags: [] }, true);
  const path = socketPath ?? (stream ? server.streamSocketPath : server.socketPath);
  if (socketPath === undefined && path === "") {
    const key = "server.stream_socket_path";
    throw new ConfigError(`${origins.get(key)}: ${key} = "": expected a path, on which --stream asks`);
  }
  const encoder = new TextEncoder();
  const whole = await tryDaemon({
    socketPath: path,
    kind: stream ? "stream" : "seqpacket",
    data,
    timeoutMs,
    answer: (text) => void Deno.stdout.writeSync(encoder.encode(text)),
    tell: (line) => console.error(line),
  });
  return whole ? 0 : 1;
}

async function status(command: StatusCommand): Promise<number> {
  const { config } = await load({ ...command, flags: [] }, true);
  const answer = await askStatus(config.metrics.listenAddr);
  console.log(command.json ? JSON.stringify(answer, null, 2) : statusText(answer).trimEnd());
  return 0;
}

async function permissionsOf(cli: CliCommand): Promise<Permissions | undefined> {
  switch (cli.command) {
    case "start":
      return daemonPermissions({ ...cli, ...await loadAndWarn(cli), proxies: proxyFromEnvironment() });
    case "check":
      return checkPermissions({ ...cli, ...await loadAndWarn(cli) });
    case "try":
      return tryPermissions(cli);
    case "status":
      return statusPermissions({ ...cli, ...await load({ ...cli, flags: [] }, true) });
    case "permissions": {
      const about = parseCli(cli.args);
      return readerPermissions("configPath" in about ? about : {});
    }
    case "exit":
      return undefined; // help and mistakes need nothing; they are printed when the command itself runs
  }
}

/** Whose names are in the environment, only `tools/launch` can say: in the sandbox nobody can look through it. */
async function loadAndWarn(cli: Parameters<typeof load>[0]): Promise<LoadedConfig> {
  const loaded = await load(cli);
  const names = Deno.env.get("DAEMON_VARIABLES")?.split("\n") ?? [];
  for (const line of unknownVariables(names, loaded.config)) console.error(`streaming-daemon-ts: ${line}`);
  return loaded;
}

async function printPermissions(args: readonly string[]): Promise<number> {
  const permissions = await permissionsOf(parseCli(args));
  for (const flag of permissions === undefined ? [] : permissionFlags(permissions)) console.log(flag);
  return 0;
}

async function main(args: readonly string[]): Promise<number> {
  const cli = parseCli(args);
  try {
    if (cli.command === "start") return await runService(cli);
    if (cli.command === "check") return await check(cli);
    if (cli.command === "try") return await tryOut(cli);
    if (cli.command === "status") return await status(cli);
    if (cli.command === "permissions") return await printPermissions(cli.args);
    if (cli.stdout) console.log(cli.stdout.trimEnd());
    if (cli.stderr) console.error(cli.stderr.trimEnd());
    return cli.exitCode;
  } catch (error) {
    if (error instanceof Deno.errors.BrokenPipe) return 1; // whoever read the output has gone
    if (!saysAll(error)) throw error;
    console.error(`streaming-daemon-ts: ${error.message}`);
    return error instanceof ConfigError ? 2 : 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));

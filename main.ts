// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * The program: flags to a command to an exit code (0 clean, 1 failure at run time, 2 bad flags or configuration).
 * @module
 */
import { type CheckCommand, parseCli, type TryCommand } from "./src/cli/parse.ts";
import { describeConfig } from "./src/config/load.ts";
import { ConfigError, saysAll } from "./src/errors.ts";
import { load, runService } from "./src/cli/start.ts";
import { tryDaemon } from "./src/cli/try.ts";

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
    if (cli.command === "start") return await runService(cli);
    if (cli.command === "check") return await check(cli);
    if (cli.command === "try") return await tryOut(cli);
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

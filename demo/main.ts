// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * `deno task demo`: the real daemon in its sandbox, on the mock backend, and before it a front that plays Apache,
 * with a page to try it from. For developing: it listens on loopback only.
 * @module
 */
import { Command, CommanderError, InvalidArgumentError } from "commander";
import { PLAIN_OUTPUT } from "../src/cli/parse.ts";
import { Front } from "./front.ts";

const READY_TIMEOUT_MS = 30_000;
const READY_POLL_MS = 50;
/** 17 lanes of six streams each: the page's hundred. */
const LANES = 17;

if (import.meta.main) Deno.exitCode = await main(Deno.args);

async function main(args: readonly string[]): Promise<number> {
  const port = parsePort(args);
  if (typeof port !== "number") return port.exitCode;
  const ended = new AbortController();
  const end = (): void => ended.abort();
  Deno.addSignalListener("SIGINT", end);
  Deno.addSignalListener("SIGTERM", end);
  const socketPath = `/tmp/streaming-daemon-ts-demo-${Deno.pid}.sock`;
  const metricsAddr = `127.0.0.1:${freePort()}`;
  const daemon = startDaemon(socketPath, metricsAddr);
  const died = daemon.status.then(({ code }) => {
    if (!ended.signal.aborted) throw new Error(`The daemon ended with exit code ${code}.`);
  });
  try {
    await Promise.race([ready(`http://${metricsAddr}/readyz`, ended.signal), died]);
    await using front = await Front.start({ port, socketPath, lanes: LANES });
    console.log(`\nThe demo is at ${front.url} (for developing, on loopback only). Ctrl-C ends it.`);
    console.log(`The daemon's metrics are at http://${metricsAddr}/metrics\n`);
    await Promise.race([aborted(ended.signal), died]);
    return 0;
  } catch (error) {
    if (ended.signal.aborted) return 0;
    console.error(`demo: ${explain(error, port)}`);
    return 1;
  } finally {
    end();
    await stop(daemon);
  }
}

function parsePort(args: readonly string[]): number | CommanderError {
  const program = new Command("deno task demo")
    .exitOverride()
    .configureOutput(PLAIN_OUTPUT)
    .description("The daemon on its mock backend, behind a front for developing that plays Apache.")
    .option("--port <PORT>", "port of the page on 127.0.0.1; 0: any free one", (text) => {
      const value = /^\d{1,5}$/.test(text) ? Number(text) : NaN;
      if (!(value <= 65_535)) throw new InvalidArgumentError("A port from 0 to 65535 is expected.");
      return value;
    }, 8000);
  try {
    return program.parse(args, { from: "user" }).opts<{ port: number }>().port;
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (error.exitCode !== 0) error.exitCode = 2;
    return error;
  }
}

/** The daemon as `deno task start` runs it. */
function startDaemon(socketPath: string, metricsAddr: string): Deno.ChildProcess {
  return new Deno.Command("sh", {
    args: ["tools/launch", Deno.execPath(), "main.ts", "--socket", socketPath, "--backend", "mock"],
    cwd: new URL("..", import.meta.url),
    env: {
      DAEMON_STREAM_SOCKET_PATH: `${socketPath}.stream`,
      DAEMON_SOCKET_MODE: "0600",
      DAEMON_SHUTDOWN_TIMEOUT_SECS: "1",
      DAEMON_METRICS_ENABLED: "true",
      DAEMON_METRICS_ADDR: metricsAddr,
    },
    stdin: "null",
  }).spawn();
}

/** Resolves when the daemon takes handoffs. */
async function ready(url: string, signal: AbortSignal): Promise<void> {
  const deadline = AbortSignal.any([signal, AbortSignal.timeout(READY_TIMEOUT_MS)]);
  while (true) {
    try {
      const response = await fetch(url, { signal: deadline });
      await response.body?.cancel();
      if (response.ok) return;
    } catch (error) {
      // Refused: it does not listen yet.
      if (!(error instanceof TypeError)) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS));
    deadline.throwIfAborted();
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function stop(daemon: Deno.ChildProcess): Promise<void> {
  try {
    daemon.kill("SIGTERM");
  } catch (error) {
    // It has ended by itself, or by the same Ctrl-C.
    if (!(error instanceof TypeError || error instanceof Deno.errors.NotFound)) throw error;
  }
  await daemon.status;
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

function explain(error: unknown, port: number): string {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as { code?: string };
  if (code === "EADDRINUSE") return `Port ${port} is in use; --port names another one.`;
  if (code === "EACCES") return `Port ${port} may not be used (${error.message}); --port names another one.`;
  if (error.name === "TimeoutError") return `The daemon was not ready after ${READY_TIMEOUT_MS / 1000} s.`;
  return error.message;
}

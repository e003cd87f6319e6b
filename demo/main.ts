/**
 * `deno task demo`: the real daemon, as `deno task start` starts it, on the mock backend; and a front that plays
 * Apache before it, with a page to try it from. For developing: it listens on loopback only.
 * @module
 */
import { Command, InvalidArgumentError } from "commander";
import { Front } from "./front.ts";

const ROOT = new URL("..", import.meta.url);
const READY_TIMEOUT_MS = 60_000;
const READY_POLL_MS = 50;
/** 17 lanes of six streams each: the page's hundred. */
const LANES = 17;

await main(Deno.args);

async function main(args: readonly string[]): Promise<void> {
  const port = parsePort(args);
  const socketPath = `/tmp/streaming-daemon-ts-demo-${Deno.pid}.sock`;
  const end = endSignal();
  const daemon = startDaemon(socketPath);
  const died = daemon.status.then(({ code }) => {
    if (end.aborted) return;
    fail(`The daemon ended with exit code ${code}; what it says is above.`);
    end.abort();
  });
  try {
    await ready(end.signal);
    await using front = await Front.start({ port, socketPath, lanes: LANES });
    print(`The demo is at ${front.url} (for developing; loopback only). Ctrl-C ends it.`);
    await aborted(end.signal);
  } catch (error) {
    if (!end.signal.aborted) fail(error instanceof Error ? error.message : String(error));
  }
}

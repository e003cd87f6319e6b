/**
 * A test of the running daemon that ends in any case, and shows what the daemon said where it fails.
 * @module
 */
import { type DaemonSetup, startDaemon, type TestDaemon } from "./daemon.ts";

const LIMIT_MS = 60_000;
const SHOWN_LINES = 40;
const SHOWN_CHARACTERS = 300;

/** A test of a daemon of its own, which ends with it. What it awaits has limits of its own, below a minute. */
export function daemonTest(
  name: string,
  setup: DaemonSetup,
  body: (daemon: TestDaemon) => Promise<void>,
): void {
  Deno.test({
    name,
    timeout: LIMIT_MS,
    async fn() {
      await using daemon = await startDaemon(setup);
      await watched(daemon, () => body(daemon));
    },
  });
}

/** Runs a test's body; where it fails, the daemon's last lines are in the error. */
export async function watched(daemon: TestDaemon, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (cause) {
    const said = daemon.stderr.slice(-SHOWN_LINES).map((line) => line.slice(0, SHOWN_CHARACTERS));
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`${why}\nThe daemon's last lines:\n${said.join("\n")}`, { cause });
  }
}

/** Waits until `count` streams run. */
export async function streamsActive(daemon: TestDaemon, count: number): Promise<void> {
  await daemon.until(
    `${count} streams`,
    async () => await daemon.metric("daemon_streams_active") === count,
  );
}

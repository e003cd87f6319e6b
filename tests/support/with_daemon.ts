/**
 * A test of the running daemon that ends in any case, and shows what the daemon said where it fails.
 * @module
 */
import { type DaemonSetup, startDaemon, type TestDaemon } from "./daemon.ts";
import { lastWords, witnesses } from "./last_words.ts";

const LIMIT_MS = 60_000;

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

/** Tests, by their names, that only ask: each is a step of one test, and all ask the same daemon. */
export function daemonTests(
  name: string,
  setup: DaemonSetup,
  tests: Readonly<Record<string, (daemon: TestDaemon, t: Deno.TestContext) => Promise<void>>>,
): void {
  Deno.test(name, async (t) => {
    await using daemon = await startDaemon(setup);
    for (const [step, body] of Object.entries(tests)) {
      await t.step(step, (t) => watched(daemon, () => body(daemon, t)));
    }
  });
}

/** Runs a test's body; where it fails, the daemon's last lines are in the error. */
export async function watched(daemon: TestDaemon, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    witnesses.delete(daemon);
    throw new Error(`${why}\n${lastWords(daemon)}`, { cause });
  }
}

/** Waits until `count` streams run. */
export async function streamsActive(daemon: TestDaemon, count: number): Promise<void> {
  await daemon.until(
    `${count} streams`,
    async () => await daemon.metric("daemon_streams_active") === count,
  );
}

/** Workers that are busy, hang or die again and again: what the daemon makes of it as a whole. */
import assert from "node:assert/strict";
import type { Status } from "../../src/ops/status.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { TestFolder } from "../support/folders.ts";
import { NotifySocket } from "../support/systemd.ts";

function startUnruly(env: Readonly<Record<string, string>>): Promise<TestDaemon> {
  return startDaemon({ unruly: true, env });
}

Deno.test("a reload that meets a worker that hangs ends when that one is given up", async () => {
  await using daemon = await startUnruly({ DAEMON_WORKERS: "2" });
  using _culprit = daemon.handOff({ prompt: "hang" });
  daemon.signal("SIGHUP");
  await daemon.logged("Worker died");
  await daemon.logged("Configuration reloaded");
  daemon.signal("SIGHUP");
  const reloads = () => daemon.log.filter(({ message }) => message === "Configuration reloaded").length;
  await daemon.until("another one", () => reloads() === 2);
});

Deno.test("a daemon whose workers die again and again ends with 1, and says why", async () => {
  await using daemon = await startUnruly({ DAEMON_WORKERS: "1" });
  const deaths = () => daemon.log.filter(({ message }) => message === "Worker died").length;
  for (let count = 1; count <= 21; count++) {
    using _culprit = daemon.handOff({ prompt: "die" }); // waits in the backlog for a successor
    await daemon.until(`death ${count}`, () => deaths() === count);
  }
  assert.equal(await daemon.exit(), 1);
  const { fields } = await daemon.logged("The daemon failed");
  assert.match(JSON.stringify(fields["error"]), /Workers died 20 times in a minute/);
});

Deno.test("a busy worker's lag is on the page, in seconds", async () => {
  await using daemon = await startUnruly({ DAEMON_WORKERS: "1" });
  const maxSecs = () => daemon.metric("nodejs_eventloop_lag_max_seconds");
  // Longer together than from one ping to the next, so that at least one of them has to wait.
  const clients = [1, 2, 3].map(() => daemon.handOff({ prompt: "busy" }));
  await daemon.until("the lag", async () => await maxSecs() > 0.5);
  const lagSecs = await maxSecs();
  assert(lagSecs < 8, `${lagSecs} s, after which a worker is given up`);
  for (const client of clients) client.close();
});

Deno.test("a successor that hangs in its start: the watchdog is not fed, the status says so, no page waits", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/notify.sock`;
  await using systemd = await NotifySocket.open(path);
  const fed = () => systemd.states.filter((state) => state === "WATCHDOG=1").length;
  await using daemon = await startUnruly({
    DAEMON_WORKERS: "1",
    NOTIFY_SOCKET: path,
    WATCHDOG_USEC: "400000",
  });
  await daemon.until("the first meal", () => fed() > 0);
  Deno.writeTextFileSync(`${daemon.folder}/wait-start`, "");
  using _culprit = daemon.handOff({ prompt: "die" });
  await daemon.logged("Worker died");
  await daemon.until("hunger", async () => {
    const before = fed();
    await new Promise((resolve) => setTimeout(resolve, 1000)); // ten meals
    return fed() === before;
  });
  const askedAt = performance.now();
  const { workers }: Status = await (await daemon.page("/status")).json();
  assert(performance.now() - askedAt < 1000);
  assert.deepEqual(workers.map(({ answers }) => answers), [false]);
  Deno.removeSync(`${daemon.folder}/wait-start`);
  const before = fed();
  await daemon.until("the next meal", () => fed() > before);
});

for (const [how, timeoutSecs] of [["a second SIGTERM", "120"], ["shutdown_timeout_secs", "0.3"]] as const) {
  Deno.test(`${how} ends a daemon whose one worker's successor hangs in its start, while a handoff waits`, async () => {
    await using daemon = await startUnruly({
      DAEMON_WORKERS: "1",
      DAEMON_SHUTDOWN_TIMEOUT_SECS: timeoutSecs,
    });
    Deno.writeTextFileSync(`${daemon.folder}/wait-start`, "");
    using _culprit = daemon.handOff({ prompt: "die" });
    await daemon.logged("Worker died");
    using client = daemon.handOff();
    daemon.signal("SIGTERM");
    await daemon.logged("Stopping");
    const stoppedAt = performance.now();
    if (how === "a second SIGTERM") {
      await new Promise((resolve) => setTimeout(resolve, 500)); // past the time in which it is the same one
      daemon.signal("SIGTERM");
    }
    await client.readAll(); // nobody is there who could tell it anything
    assert.equal(await daemon.exit(), 0);
    assert(performance.now() - stoppedAt < 10_000, "before the successor is given up");
  });
}

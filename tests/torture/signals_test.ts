/** Signals as fast as they can be sent, at every moment; processes that are killed or stopped; workers with bugs. */
import assert from "node:assert/strict";
import type { Status } from "../../src/ops/status.ts";
import { spawnDaemon, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { TestFolder } from "../support/folders.ts";
import { randomInts } from "../support/random.ts";
import { daemonTest, streamsActive, watched } from "../support/with_daemon.ts";
import { again, holdings, SETUP, underAttack } from "./under_attack.ts";

/** Well below the longest wait that a stream may have. */
const STOPPED_MS = 300;
/** After more than 20 within a minute the daemon ends, and is to. */
const DEATHS = 20;
/** A daemon has started by then. */
const START_MS = 1500;
const WHOLE = /data: \[DONE\]\n\n$/;
/** What nothing that comes from outside may lead to. */
const BUG = /[Uu]ncaught|panicked| {4}at /;

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

daemonTest("signals: a storm of SIGHUP, while the pages are read", SETUP, async (daemon) => {
  const { outcome, counted } = await underAttack(daemon, () =>
    again(async () => {
      daemon.signal("SIGHUP");
      for (const path of ["/metrics", "/status", "/healthz", "/readyz"]) {
        const page = await daemon.page(path);
        await page.text();
        assert.equal(page.status, 200, path);
      }
    }));
  assert(outcome > 0);
  assert.equal(counted("daemon_worker_restarts_total"), 0);
});

daemonTest("signals: SIGSTOP and SIGCONT", SETUP, async (daemon) => {
  await underAttack(daemon, () =>
    again(async () => {
      daemon.signal("SIGSTOP");
      await pause(STOPPED_MS);
      daemon.signal("SIGCONT");
      await pause(STOPPED_MS);
    }), { lateMs: Infinity });
});

Deno.test(
  "signals: SIGKILL and a start on the same path, again and again",
  { timeout: 600_000 },
  async () => {
    using folder = new TestFolder();
    const env = { ...SETUP.env, DAEMON_SOCKET_PATH: `${folder.path}/d.sock` };
    await again(async () => {
      await using daemon = await startDaemon({ env });
      daemon.socketPath = env.DAEMON_SOCKET_PATH;
      const clients = Array.from({ length: 20 }, () => daemon.handOff());
      await clients.at(-1)?.readUntil("Hello! ");
      daemon.signal("SIGKILL");
      await daemon.exit();
      for (const client of clients) {
        assert.doesNotMatch(await client.readAll().catch(() => "reset"), WHOLE);
        client.close();
      }
      assert.deepEqual(folder.names, ["d.sock", "d.sock.stream"]);
    });
    await using last = await startDaemon({ env });
    last.socketPath = env.DAEMON_SOCKET_PATH;
    // All streams of those before are gone; the last one is as any other.
    const { counted } = await underAttack(last, () => Promise.resolve());
    assert.equal(counted("daemon_handoffs_received"), 0);
    last.signal("SIGTERM");
    assert.equal(await last.exit(), 0);
    assert.deepEqual(folder.names, []);
  },
);

Deno.test(
  "signals: SIGTERM at any moment, with clients that come meanwhile",
  { timeout: 600_000 },
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 32);
    const random = randomInts(seed);
    let served = 0;
    await again(async () => {
      await using daemon = spawnDaemon({ env: { ...SETUP.env, DAEMON_TOKEN_DELAY_MS: "5" } });
      const clients: Promise<string>[] = [];
      const comes = setInterval(() => void clients.push(...newcomer(daemon)), 10);
      // Once at least some have come.
      if (served === 0) await daemon.until("a client", () => clients.length > 0);
      await pause(random(START_MS));
      daemon.signal("SIGTERM");
      const code = await daemon.exit();
      clearInterval(comes);
      const said = daemon.stderr.join("\n");
      // Deno itself takes the signal where the program has not begun; one that has says that it stops.
      assert.equal(code, said === "" ? 143 : 0, `seed ${seed}\n${said}`);
      assert.doesNotMatch(said, BUG, `seed ${seed}`);
      assert.deepEqual([...Deno.readDirSync(daemon.folder)], [], `seed ${seed}: sockets are left`);
      for (const answer of await Promise.all(clients)) {
        assert(
          WHOLE.test(answer) || answer.startsWith("HTTP/1.1 503 "),
          `seed ${seed}: ${JSON.stringify(answer)}`,
        );
        served++;
      }
    });
  },
);

/** A client whose handoff got through, if it did. */
function newcomer(daemon: TestDaemon): Promise<string>[] {
  try {
    const client = daemon.handOff();
    return [client.readAll().finally(() => client.close())];
  } catch {
    return []; // nobody listens, which Apache tells its client
  }
}

Deno.test("workers that die of a bug while others are served", { timeout: 600_000 }, async () => {
  await using daemon = await startDaemon({ unruly: true, env: { ...SETUP.env, DAEMON_TOKEN_DELAY_MS: "5" } });
  await watched(daemon, async () => {
    await (await daemon.page("/metrics")).text();
    const asBefore = holdings(daemon);
    let whole = 0;
    const deaths = await again(async () => {
      const before = await daemon.metric("daemon_worker_restarts_total");
      const clients = Array.from({ length: 20 }, () => daemon.handOff());
      using culprit = daemon.handOff({ prompt: "die" });
      for (const client of [...clients, culprit]) {
        if (WHOLE.test(await client.readAll().catch(() => "reset"))) whole++;
        client.close();
      }
      await daemon.until("the successor", async () => {
        const { workers }: Status = await (await daemon.page("/status")).json();
        return await daemon.metric("daemon_worker_restarts_total") === before + 1 &&
          workers.length === 2 && workers.every(({ answers }) => answers);
      });
    }, DEATHS);
    assert(whole >= deaths * 10, `${whole} whole answers of ${deaths * 20}`); // those of the other worker
    await streamsActive(daemon, 0);
    await asBefore();
  });
});

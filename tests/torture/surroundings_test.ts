/** What surrounds the daemon fails: its log, its clock, its descriptors. */
import assert from "node:assert/strict";
import { type DaemonSetup, spawnDaemon, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { TestFolder } from "../support/folders.ts";
import { follow, knock } from "../support/loadgen.ts";
import { until } from "../support/until.ts";
import { daemonTest, streamsActive } from "../support/with_daemon.ts";
import { again, areWhole, ATTACK_SECS, holdings, SETUP, underAttack } from "./under_attack.ts";

const WHOLE = /data: \[DONE\]\n\n$/;
const CLIENTS = 200;
/** Debian's libfaketime. */
const FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";
const JUMPS = ["+0", "+3600", "-86400", "+31536000", "-1"];
const JUMP_MS = 100;

/** What standard error, which is the log's place, and standard output may be, as bash(1) opens them. */
const PLACES = {
  "the log goes to a full disk": "2>/dev/full",
  "the log goes to nothing": "2>&-",
  "the log goes to a pipe that nobody reads": "2> >(exec sleep 0)",
  "the output goes to a full disk": ">/dev/full",
  "the output goes to nothing": ">&-",
  "log and output go to a full disk": ">/dev/full 2>&1",
  "log and output go to nothing": ">&- 2>&-",
};
for (const [name, place] of Object.entries(PLACES)) {
  Deno.test(`surroundings: ${name}`, { timeout: 60_000 }, async () => {
    const setup: DaemonSetup = {
      env: { ...SETUP.env, DAEMON_TOKEN_DELAY_MS: "5", DAEMON_LOG_LEVEL: "debug" },
      wrapper: ["bash", "-c", `exec "$@" ${place}`, "bash"],
    };
    await using daemon = spawnDaemon(setup);
    await until("the sockets", () => isThere(daemon));
    const areServed = async (): Promise<void> => {
      const clients = Array.from({ length: CLIENTS }, () => daemon.handOff());
      for (const client of clients) {
        assert.match(await client.readAll(), WHOLE);
        client.close();
      }
    };
    await areServed();
    const asBefore = holdings(daemon);
    await again(areServed);
    await asBefore();
    daemon.signal("SIGHUP");
    using last = daemon.handOff();
    assert.match(await last.readAll(), WHOLE);
    daemon.signal("SIGTERM");
    assert.equal(await daemon.exit(), 0);
  });
}

function isThere(daemon: TestDaemon): boolean {
  try {
    using client = daemon.handOff();
    return client !== undefined;
  } catch {
    return false;
  }
}

Deno.test(
  "surroundings: the clock jumps by seconds, hours, a year, to and fro",
  { timeout: 120_000 },
  async () => {
    using folder = new TestFolder();
    const clock = `${folder.path}/clock`;
    await Deno.writeTextFile(clock, "+0");
    await using daemon = await startDaemon({
      env: {
        ...SETUP.env,
        LD_PRELOAD: FAKETIME,
        FAKETIME_TIMESTAMP_FILE: clock,
        FAKETIME_NO_CACHE: "1",
        // As the kernel has it: setting the time leaves CLOCK_MONOTONIC alone.
        FAKETIME_DONT_FAKE_MONOTONIC: "1",
      },
      permissions: ["--allow-ffi", "--allow-env"],
    });
    const { counted } = await underAttack(daemon, async () => {
      const endMs = performance.now() + ATTACK_SECS * 1000;
      for (let jump = 0; performance.now() < endMs; jump++) {
        await Deno.writeTextFile(clock, JUMPS[jump % JUMPS.length] as string);
        await new Promise((resolve) => setTimeout(resolve, JUMP_MS));
        using refused = daemon.handOff(new TextEncoder().encode("for a line of the log"));
        await refused.readAll();
      }
    });
    assert.equal(counted("daemon_stream_errors_total"), 0);
    // It did jump: the log's lines say so.
    const days = new Set(daemon.stderr.map((line) => /"time":"(\d{4}-\d\d-\d\d)T/.exec(line)?.[1]));
    assert(days.size >= 3, [...days].join(" "));
  },
);

daemonTest("surroundings: as few descriptors as clients need that come at once", {
  ...SETUP,
  wrapper: ["prlimit", "--nofile=400"],
}, async (daemon) => {
  const asBefore = holdings(daemon);
  // So few are below what the daemon keeps in reserve: there is a place for one stream, which was there before.
  const following = follow(daemon, 1);
  await streamsActive(daemon, 1);
  const { answers, failed } = await knock(daemon, "good", {
    ratePerSec: 2000,
    timeMs: ATTACK_SECS * 1000,
    hold: 4000,
  });
  // The place may be free again before the attack is over.
  const { "200": _served, ...others } = answers;
  assert.deepEqual([Object.keys(others), failed], [["503"], {}]);
  areWhole(await following, 1);
  await asBefore({ moreFds: 1 }); // the pages' connection
  using client = daemon.handOff();
  assert.match(await client.readAll(), WHOLE);
});

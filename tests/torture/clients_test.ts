/** Hostile clients by the hundred: none of them costs another one anything, and each is counted as what it was. */
import assert from "node:assert/strict";
import { fill, pairEnds, tcpEnds, type TestClient } from "../support/clients.ts";
import type { TestDaemon } from "../support/daemon.ts";
import { randomInts } from "../support/random.ts";
import { daemonTest } from "../support/with_daemon.ts";
import { again, SETUP, underAttack } from "./under_attack.ts";

const setup = { env: { ...SETUP.env, DAEMON_WRITE_TIMEOUT_SECS: "1" } };
const AT_ONCE = 100;
/** The head and some events; the whole is more than twice that. */
const MOST_READ_BYTES = 350;
/** So many bytes are read at that pace, and so many seconds is a full client waited for. */
const SLOW_READS = 2;
const failures = ["daemon_stream_errors_total"] as const;

/** How many there were in all attacks, so that each has a number of its own. */
let clientsEver = 0;

/** Lets `misbehave` have clients, so many at a time, until the time is over. Returns how many it had. */
async function clients(misbehave: (client: number) => Promise<void>): Promise<number> {
  const before = clientsEver;
  await Promise.all(Array.from({ length: AT_ONCE }, () => again(() => misbehave(clientsEver++))));
  return clientsEver - before;
}

/** Hands over a client whose socket is full, and waits until the daemon has given it up. */
async function takesNothing(daemon: TestDaemon, client: number): Promise<void> {
  const ends = client % 2 === 0 ? pairEnds() : await tcpEnds();
  fill(ends);
  using _client = daemon.handOff({ request_id: `full-${client}` }, { ends });
  await daemon.until(
    "its end",
    () => daemon.log.some(({ fields }) => fields["request_id"] === `full-${client}`),
  );
}

daemonTest("clients that take nothing", setup, async (daemon) => {
  const { outcome, counted } = await underAttack(
    daemon,
    () => clients((client) => takesNothing(daemon, client)),
  );
  assert.equal(counted(...failures, 'reason="write_timeout"'), outcome);
  assert.equal(counted(...failures), outcome);
});

daemonTest("clients that read a byte a second", {
  env: { ...SETUP.env, DAEMON_WRITE_TIMEOUT_SECS: `${SLOW_READS}` },
}, async (daemon) => {
  const { outcome: { full, count }, counted } = await underAttack(daemon, async () => {
    let full = 0;
    const count = await clients(async (client) => {
      const ends = await tcpEnds(1);
      const request_id = `slow-${client}`;
      // A byte makes no room in the kernel: who has none there is as one that takes nothing; others have it all.
      const isFull = client % 2 === 0;
      if (isFull) {
        full++;
        fill(ends);
      }
      using slow = daemon.handOff({ request_id }, { ends });
      for (let read = 0; read < SLOW_READS; read++) {
        await slow.read();
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
      if (!isFull) return assert.match(await slow.readAll(), /data: \[DONE\]\n\n$/);
      await daemon.until(
        "its end",
        () => daemon.log.some(({ fields }) => fields["request_id"] === request_id),
      );
    });
    return { full, count };
  });
  assert.equal(counted(...failures, 'reason="write_timeout"'), full);
  assert.equal(counted(...failures), full);
  assert(full < count);
});

daemonTest("clients that leave after any number of bytes", setup, async (daemon) => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const random = randomInts(seed);
  const { outcome, counted } = await underAttack(daemon, () =>
    clients(async () => {
      const ends = random(2) === 0 ? pairEnds() : await tcpEnds();
      using client = daemon.handOff({}, { ends });
      await readSome(client, random(MOST_READ_BYTES));
    }));
  assert.equal(counted(...failures, 'reason="client_disconnected"'), outcome, `seed ${seed}`);
  assert.equal(counted(...failures), outcome, `seed ${seed}`);
});

async function readSome(client: TestClient, bytes: number): Promise<void> {
  for (let read = 0; read < bytes;) read += (await client.read())?.length ?? Infinity;
}

daemonTest("clients that send as much as anybody takes", setup, async (daemon) => {
  const noise = new Uint8Array(64 * 1024).fill(0x6e);
  const { outcome, counted } = await underAttack(daemon, () =>
    clients(async () => {
      const ends = await tcpEnds();
      using client = daemon.handOff({}, { ends });
      const sending = (async () => {
        // The kernel takes what it has room for; the rest fails when the daemon closes.
        for (let sent = 0; sent < 64; sent++) await client.write(noise);
      })().catch(() => {});
      assert.match(await client.readAll(), /data: \[DONE\]\n\n$/);
      client.close();
      await sending;
    }));
  assert.equal(counted(...failures), 0);
  assert.equal(counted("daemon_handoffs_received"), outcome);
});

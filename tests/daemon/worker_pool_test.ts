import assert from "node:assert/strict";
import type { Config } from "../../src/config/load.ts";
import { renderedMetric } from "../support/metrics.ts";
import { MetricsPage } from "../../src/ops/metrics/page.ts";
import { StreamGauge } from "../../src/ops/metrics/stream_gauge.ts";
import { closeReactor, makeReactor } from "../../src/native/reactor.ts";
import { DEADLINES, type WorkerDeadlines } from "../../src/daemon/worker_proxy.ts";
import { WorkerPool, type WorkerPoolOptions } from "../../src/daemon/worker_pool.ts";
import { fill, pairEnds, type TestClient } from "../support/clients.ts";
import { listLog, type LoggedLine } from "../support/connections.ts";
import { TestAcceptor, testConfig } from "../support/acceptor.ts";
import { until } from "../support/until.ts";

const NOW = AbortSignal.abort();
const SLOW = { DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_LOG_LEVEL: "error" };

interface Fixture extends AsyncDisposable {
  readonly acceptor: TestAcceptor;
  readonly pool: WorkerPool;
  readonly config: Config;
  readonly gauge: StreamGauge;
  readonly lines: LoggedLine[];
  readonly deaths: () => number;
  metric(name: string): Promise<number>;
}

/** A pool, of two workers unless said otherwise. */
async function startPool(workers = 2, deadlines: WorkerDeadlines = DEADLINES): Promise<Fixture> {
  const acceptor = new TestAcceptor();
  const config = await testConfig(SLOW);
  const streams = StreamGauge.allocate(workers);
  const gauge = new StreamGauge(0, streams);
  const lines: LoggedLine[] = [];
  let deaths = 0;
  const page = new MetricsPage(gauge, {
    version: "test",
    maxFds: 1,
    openFds: () => 0,
    connectionsActive: () => acceptor.acceptor.active(),
  });
  const pool = await WorkerPool.start({
    config,
    workers,
    acceptor: acceptor.acceptor.handle,
    streams,
    benchmark: false,
    log: listLog(lines),
    died: (lostStreams) => {
      deaths++;
      page.workerDied(lostStreams);
    },
    pinged: () => {},
    deadlines,
  });
  return {
    acceptor,
    pool,
    config,
    gauge,
    lines,
    deaths: () => deaths,
    metric: async (name) => renderedMetric(await page.render(await pool.snapshots()), name),
    async [Symbol.asyncDispose]() {
      await pool.drain(0, NOW);
      await Promise.allSettled([pool.ended]);
      await acceptor[Symbol.asyncDispose]();
    },
  };
}

/** A configuration with which a worker dies, as it would of a bug, as soon as a client is full. */
function deadly(config: Config): Config {
  return { ...config, server: { ...config.server, writeTimeoutMs: 1n as unknown as number } };
}

/** Hands over a client that is full. */
function handOverFull({ acceptor }: Fixture): TestClient {
  const ends = pairEnds();
  fill(ends);
  return acceptor.handOff({}, ends);
}

/** Lets a worker of the pool die: its reactor is closed behind its back. Handles are given out in order. */
async function kill(): Promise<void> {
  await using acceptor = new TestAcceptor();
  const next = makeReactor(acceptor.acceptor.handle);
  closeReactor(next - 1);
  closeReactor(next);
}

Deno.test("a worker that dies is logged, counted and replaced, and the other's streams go on", async () => {
  await using pool = await startPool();
  const clients: TestClient[] = [];
  const openFive = async () => {
    for (let count = 0; count < 5; count++) {
      const client = pool.acceptor.handOff();
      await client.readUntil("Hello! ");
      clients.push(client);
    }
  };
  await openFive();
  await openFive();
  assert.equal(await pool.metric("daemon_connections_total"), 10);
  await kill();
  await until("a death", () => pool.deaths() > 0);
  assert.deepEqual(pool.lines.map(({ level, message }) => [level, message]), [["error", "Worker died"]]);
  assert.match((pool.lines[0]?.fields["error"] as Error).message, /A thread of the shim ended by itself/);
  assert.equal(pool.gauge.active, 5);
  assert.equal(pool.acceptor.acceptor.active(), 5);
  // Two live ones, and what the dead one had counted when it was last asked: that is not lost.
  await until("three snapshots", async () => (await pool.pool.snapshots()).length === 3);
  assert.equal(await pool.metric("daemon_connections_total"), 10);
  await openFive();
  assert.equal(pool.gauge.active, 10);
  assert.equal(await pool.metric("daemon_connections_total"), 15);
  assert.equal(pool.deaths(), 1);
  await pool.pool.drain(0, NOW);
  const answers = await Promise.all(clients.map((client) => client.readAll()));
  const told = answers.filter((answer) => answer.endsWith('data: {"error":"Server is shutting down"}\n\n'));
  assert.equal(told.length, 10);
  for (const client of clients) client.close();
});

Deno.test("what several dead workers had counted is all there", async () => {
  await using pool = await startPool();
  for (let deaths = 0; deaths < 3; deaths++) {
    using first = pool.acceptor.handOff();
    await first.readUntil("Hello! ");
    using second = pool.acceptor.handOff();
    await second.readUntil("Hello! ");
    assert.equal(await pool.metric("daemon_connections_total"), 2 * deaths + 2);
    await kill(); // the last one that was started
    await until("a death", () => pool.deaths() === deaths + 1);
    await until("its successor", () => pool.pool.answers);
    assert.equal(await pool.metric("daemon_connections_total"), 2 * deaths + 2);
  }
});

Deno.test("a bug in a worker closes its clients; a reload that comes meanwhile holds for its successor", async () => {
  await using pool = await startPool();
  const clients = [pool.acceptor.handOff(), pool.acceptor.handOff()];
  for (const client of clients) await client.readUntil("Hello! ");
  pool.pool.reload(deadly(pool.config));
  await pool.pool.snapshots(); // answered after the reload
  using full = handOverFull(pool);
  await until("a death", () => pool.deaths() > 0);
  await new Promise((resolve) => setTimeout(resolve, 105)); // its successor's isolate is starting
  const reloaded = pool.pool.reload(pool.config);
  assert.match(await full.readAll(), /^f+$/);
  assert.equal(pool.gauge.active, 1);
  assert.equal(pool.acceptor.acceptor.active(), 1);
  await until("three snapshots", async () => (await pool.pool.snapshots()).length === 3);
  await reloaded; // a successor that has just started may still have the old one
  const others = [1, 2, 3].map(() => handOverFull(pool));
  await until("four streams", () => pool.gauge.active === 4);
  for (const client of [...clients, ...others]) client.close();
  await until("the end of all streams", () => pool.gauge.active === 0);
  assert.equal(pool.deaths(), 1);
});

Deno.test("a successor that does not start in time has one itself", async () => {
  let starts = 0;
  const deadlines = {
    ...DEADLINES,
    get startMs() {
      return ++starts === 2 ? 1 : 20_000;
    },
  };
  await using pool = await startPool(1, deadlines);
  await kill();
  await until("the third one", () => starts === 3 && pool.pool.answers);
  assert.deepEqual(
    pool.lines.map(({ message, fields }) => [message, (fields["error"] as Error).message]).at(-1),
    ["Worker died", "The worker did not start within 1 ms"],
  );
  using client = pool.acceptor.handOff();
  await client.readUntil("Hello! ");
});

Deno.test("once a worker has started, the time that it had for that is over", async () => {
  const { setTimeout, clearTimeout } = globalThis;
  const startMs = 54_321;
  const timers = new Set<unknown>();
  let made = 0;
  globalThis.setTimeout = ((callback: () => void, ms?: number) => {
    const timer = setTimeout(callback, ms);
    if (ms === startMs) {
      timers.add(timer);
      made++;
    }
    return timer;
  }) as typeof setTimeout;
  globalThis.clearTimeout = (timer) => {
    timers.delete(timer);
    clearTimeout(timer);
  };
  try {
    await using _pool = await startPool(2, { ...DEADLINES, startMs });
    assert.deepEqual([made, timers.size], [2, 0]);
  } finally {
    Object.assign(globalThis, { setTimeout, clearTimeout });
  }
});

Deno.test("workers that die again and again end the pool", async () => {
  await using pool = await startPool();
  let over = false;
  const failed = assert.rejects(pool.pool.ended, /Workers died 20 times in a minute/)
    .finally(() => over = true);
  pool.pool.reload(deadly(pool.config));
  await pool.pool.snapshots(); // answered after the reload
  const { now } = performance;
  try {
    for (let deaths = 1; deaths <= 22; deaths++) {
      using _client = handOverFull(pool);
      await until(`death ${deaths}`, () => pool.lines.length === deaths);
      if (deaths <= 21) assert.equal(over, false, `after ${deaths} deaths`);
      // The first one is of another minute.
      performance.now = () => now.call(performance) + 61_000;
    }
    await failed;
  } finally {
    performance.now = now;
  }
  assert.equal(pool.deaths(), 22);
});

/** Starts a pool that comes to nothing. */
async function failedStart(options: Partial<WorkerPoolOptions>): Promise<WorkerPool> {
  await using acceptor = new TestAcceptor();
  return await WorkerPool.start({
    config: await testConfig(SLOW),
    workers: 2,
    acceptor: acceptor.acceptor.handle,
    streams: StreamGauge.allocate(2),
    benchmark: false,
    log: listLog([]),
    died: () => assert.fail("it has not lived"),
    pinged: () => {},
    ...options,
  });
}

Deno.test("a worker that cannot start is an error of the start", async () => {
  await assert.rejects(
    failedStart({ acceptor: 4_000_000 }),
    /Cannot make a reactor: no such acceptor, reactor or client/,
  );
});

Deno.test("a worker that does not start in time is one, too", async () => {
  await assert.rejects(
    failedStart({ deadlines: { ...DEADLINES, startMs: 1 } }),
    /^Error: The worker did not start within 1 ms$/,
  );
});

Deno.test("a worker that dies during a drain has no successor", async () => {
  await using pool = await startPool();
  const clients = [pool.acceptor.handOff(), pool.acceptor.handOff()];
  for (const client of clients) await client.readUntil("Hello! ");
  await pool.acceptor.drain();
  const drained = pool.pool.drain(60_000, new AbortController().signal);
  await kill();
  await until("one death", () => pool.deaths() === 1);
  // Handles are given out in order, and a worker has one.
  const handle = () => {
    const handle = makeReactor(pool.acceptor.acceptor.handle);
    closeReactor(handle);
    return handle;
  };
  const before = handle();
  await new Promise((resolve) => setTimeout(resolve, 300)); // three times as long as it takes to begin
  assert.equal(handle(), before + 1);
  assert.equal(pool.pool.answers, true, "systemd's watchdog leaves the other one its time");
  for (const client of clients) client.close();
  await drained;
  await pool.pool.ended;
});

Deno.test("a drain that begins while a dead worker is being replaced ends", async () => {
  await using pool = await startPool();
  await kill();
  await until("one death", () => pool.deaths() === 1);
  await new Promise((resolve) => setTimeout(resolve, 105)); // its isolate is starting
  await pool.acceptor.drain();
  await pool.pool.drain(0, NOW);
  await pool.pool.ended;
});

for (
  const [which, timeoutMs, isTold] of [
    ["a drain's time is over", 0, false],
    ["it is told to stop", 60_000, true],
  ] as const
) {
  Deno.test(`a worker that does not stop once ${which} is given up, although it answers pings`, async () => {
    await using pool = await startPool(1, { ...DEADLINES, pingMs: 60_000, stopMs: 100 });
    using full = handOverFull(pool); // its last words are waited for longer
    await until("a stream", () => pool.gauge.active === 1);
    await pool.acceptor.drain();
    const stop = new AbortController();
    const drained = pool.pool.drain(timeoutMs, stop.signal);
    if (isTold) stop.abort();
    await drained;
    await pool.pool.ended;
    assert.deepEqual(pool.lines.map(({ level, message }) => [level, message]), [["error", "Worker died"]]);
    assert.equal((pool.lines[0]?.fields["error"] as Error).message, "The worker did not stop in time");
    assert.match(await full.readAll(), /^f+$/);
  });
}

Deno.test("a scrape leaves nothing behind", async () => {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "-A", "--v8-flags=--expose-gc", "tests/support/scrapes.ts"],
    cwd: new URL("../..", import.meta.url),
  }).output();
  assert.equal(code, 0, new TextDecoder().decode(stderr));
  const bytes = Number(new TextDecoder().decode(stdout));
  assert(bytes < 500, `${bytes} bytes a scrape`);
});

import assert from "node:assert/strict";
import type { Config } from "../../src/config/load.ts";
import { renderedMetric } from "../support/metrics.ts";
import { MetricsPage, StreamGauge } from "../../src/ops/metrics/metrics.ts";
import { closeReactor } from "../../src/native/reactor.ts";
import { IsolatedWorker } from "../../src/daemon/worker_proxy.ts";
import { WorkerPool } from "../../src/daemon/worker_pool.ts";
import { fill, pairEnds, type TestClient } from "../support/clients.ts";
import { listLog, type LoggedLine } from "../support/connections.ts";
import { TestAcceptor, testConfig } from "../support/acceptor.ts";

const NOW = AbortSignal.abort();
const SLOW = { DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_LOG_LEVEL: "error" };

interface Fixture extends AsyncDisposable {
  readonly intake: TestAcceptor;
  readonly pool: WorkerPool;
  readonly config: Config;
  readonly gauge: StreamGauge;
  readonly lines: LoggedLine[];
  readonly restarts: () => number;
  metric(name: string): Promise<number>;
}

/** A pool of two workers. */
async function twoWorkers(): Promise<Fixture> {
  const intake = new TestAcceptor();
  const config = await testConfig(SLOW);
  const streams = StreamGauge.allocate(2);
  const gauge = new StreamGauge(0, streams);
  const lines: LoggedLine[] = [];
  let restarts = 0;
  const pool = await WorkerPool.start({
    config,
    workers: 2,
    acceptor: intake.acceptor.handle,
    streams,
    benchmark: false,
    log: listLog(lines),
    restarted: () => void restarts++,
  });
  const page = new MetricsPage(gauge, {
    version: "test",
    maxFds: 1,
    openFds: () => 0,
    connectionsActive: () => intake.acceptor.active(),
  });
  return {
    intake,
    pool,
    config,
    gauge,
    lines,
    restarts: () => restarts,
    metric: async (name) => renderedMetric(await page.render(await pool.snapshots()), name),
    async [Symbol.asyncDispose]() {
      await pool.drain(0, NOW);
      await Promise.allSettled([pool.ended]);
      await intake[Symbol.asyncDispose]();
    },
  };
}

/** A configuration with which a worker dies, as it would of a bug, as soon as a client is full. */
function deadly(config: Config): Config {
  return { ...config, server: undefined as unknown as Config["server"] };
}

/** Hands over a client that is full. */
function handOverFull({ intake }: Fixture): TestClient {
  const ends = pairEnds();
  fill(ends);
  return intake.handOff({}, ends);
}

async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!await holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

/** Lets a worker of the pool die: its reactor is closed behind its back. Handles are given out in order. */
async function kill({ config }: Fixture): Promise<void> {
  await using intake = new TestAcceptor();
  const probe = await IsolatedWorker.start({
    index: 0,
    config,
    acceptor: intake.acceptor.handle,
    streams: StreamGauge.allocate(1),
    benchmark: false,
  });
  closeReactor(probe.reactor - 1);
  await probe.drain(0, NOW);
}

Deno.test("a worker that dies is logged, counted and replaced, and the other's streams go on", async () => {
  await using pool = await twoWorkers();
  const clients: TestClient[] = [];
  const openFive = async () => {
    for (let count = 0; count < 5; count++) {
      const client = pool.intake.handOff();
      await client.readUntil("Hello! ");
      clients.push(client);
    }
  };
  await openFive();
  await openFive();
  assert.equal(await pool.metric("daemon_connections_total"), 10);
  await kill(pool);
  await until(() => pool.restarts() > 0);
  assert.deepEqual(pool.lines.map(({ level, message }) => [level, message]), [["error", "Worker died"]]);
  assert.match((pool.lines[0]?.fields["error"] as Error).message, /The reactor ended by itself/);
  assert.equal(pool.gauge.active, 5);
  assert.equal(pool.intake.acceptor.active(), 5);
  // Two live ones, and what the dead one had counted when it was last asked: that is not lost.
  await until(async () => (await pool.pool.snapshots()).length === 3);
  assert.equal(await pool.metric("daemon_connections_total"), 10);
  await openFive();
  assert.equal(pool.gauge.active, 10);
  assert.equal(await pool.metric("daemon_connections_total"), 15);
  assert.equal(pool.restarts(), 1);
  await pool.pool.drain(0, NOW);
  const answers = await Promise.all(clients.map((client) => client.readAll()));
  const told = answers.filter((answer) => answer.endsWith('data: {"error":"Server is shutting down"}\n\n'));
  assert.equal(told.length, 10);
  for (const client of clients) client.close();
});

Deno.test("a bug in a worker closes its clients; a reload that comes meanwhile holds for its successor", async () => {
  await using pool = await twoWorkers();
  const clients = [pool.intake.handOff(), pool.intake.handOff()];
  for (const client of clients) await client.readUntil("Hello! ");
  pool.pool.reload(deadly(pool.config));
  await pool.pool.snapshots(); // answered after the reload
  using full = handOverFull(pool);
  await until(() => pool.restarts() > 0);
  await new Promise((resolve) => setTimeout(resolve, 105)); // its successor's isolate is starting
  pool.pool.reload(pool.config);
  assert.match(await full.readAll(), /^f+$/);
  assert.equal(pool.gauge.active, 1);
  assert.equal(pool.intake.acceptor.active(), 1);
  await until(async () => (await pool.pool.snapshots()).length === 3);
  const others = [1, 2, 3].map(() => handOverFull(pool));
  await until(() => pool.gauge.active === 4);
  for (const client of [...clients, ...others]) client.close();
  await until(() => pool.gauge.active === 0);
  assert.equal(pool.restarts(), 1);
});

Deno.test("workers that die again and again end the pool", async () => {
  await using pool = await twoWorkers();
  const failed = assert.rejects(pool.pool.ended, /Workers died 20 times in a minute/);
  pool.pool.reload(deadly(pool.config));
  await pool.pool.snapshots(); // answered after the reload
  for (let deaths = 1; deaths <= 21; deaths++) {
    using _client = handOverFull(pool);
    await until(() => pool.lines.length === deaths);
  }
  await failed;
  assert.equal(pool.restarts(), 20);
});

Deno.test("a worker that cannot start is an error of its start, and of nothing else", async () => {
  const config = await testConfig(SLOW);
  const start = IsolatedWorker.start({
    index: 0,
    config,
    acceptor: 4_000_000,
    streams: StreamGauge.allocate(1),
    benchmark: false,
  });
  await assert.rejects(start, /Cannot make a reactor: no such intake, reactor or client/);
});

Deno.test("a drain that begins while a dead worker is being replaced ends", async () => {
  await using pool = await twoWorkers();
  await kill(pool);
  await until(() => pool.restarts() === 1);
  await new Promise((resolve) => setTimeout(resolve, 105)); // its isolate is starting
  pool.intake.acceptor.stop(false);
  await pool.pool.drain(0, NOW);
  await pool.pool.ended;
});

/** What a scrape leaves behind in the daemon's heap, in bytes. Runs with V8's `--expose-gc`. */
import { WorkerPool } from "../../src/daemon/worker_pool.ts";
import { MetricsPage } from "../../src/ops/metrics/page.ts";
import { StreamGauge } from "../../src/ops/metrics/stream_gauge.ts";
import { TestAcceptor, testConfig } from "./acceptor.ts";
import { listLog } from "./connections.ts";

const SCRAPES = 500;
const { gc } = globalThis as unknown as { gc(): void };

await using acceptor = new TestAcceptor();
const streams = StreamGauge.allocate(2);
const page = new MetricsPage(new StreamGauge(0, streams), {
  version: "test",
  maxFds: 1,
  openFds: () => 0,
  connectionsActive: () => 0,
});
const pool = await WorkerPool.start({
  config: await testConfig(),
  workers: 2,
  acceptor: acceptor.acceptor.handle,
  streams,
  benchmark: false,
  log: listLog([]),
  died: () => {},
  pinged: (delaySecs) => page.eventLoopLag(delaySecs),
});
const usedBytesAfter = async (scrapes: number): Promise<number> => {
  for (let scrape = 0; scrape < scrapes; scrape++) await page.render(await pool.snapshots());
  gc();
  return Deno.memoryUsage().heapUsed;
};
const beforeBytes = await usedBytesAfter(SCRAPES);
const afterBytes = await usedBytesAfter(SCRAPES);
Deno.stdout.writeSync(new TextEncoder().encode(String((afterBytes - beforeBytes) / SCRAPES)));
await pool.drain(0, AbortSignal.abort());
await pool.ended;

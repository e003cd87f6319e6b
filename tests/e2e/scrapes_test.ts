/** What scrapes of /metrics cost in memory. */
import assert from "node:assert/strict";
import type { TestDaemon } from "../support/daemon.ts";
import { daemonTest } from "../support/with_daemon.ts";

/** Scrapes one after the other. */
async function scrape(daemon: TestDaemon, count: number): Promise<void> {
  for (let done = 0; done < count; done++) await (await daemon.page("/metrics")).arrayBuffer();
}

/** Resident memory of the daemon, by proc_pid_statm(5). */
function residentBytes({ pid }: TestDaemon): number {
  return Number(Deno.readTextFileSync(`/proc/${pid}/statm`).split(" ")[1]) * 4096;
}

daemonTest("scrapes leave nothing behind", { env: { DAEMON_WORKERS: "2" } }, async (daemon) => {
  await scrape(daemon, 500); // by then the heap is as large as its garbage makes it
  const before = residentBytes(daemon);
  await scrape(daemon, 1000);
  const grown = residentBytes(daemon) - before;
  assert(grown < 20 * 1024 * 1024, `1,000 scrapes left ${Math.round(grown / 1024)} KiB`);
});

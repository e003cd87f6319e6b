/** A daemon that has nothing to do does next to nothing. */
import assert from "node:assert/strict";
import { startDaemon } from "../support/daemon.ts";

const WINDOW_SECS = 10;

/** How often the threads of a process have gone to sleep so far: proc_pid_status(5). */
function sleepsOf(pid: number): number {
  return [...Deno.readDirSync(`/proc/${pid}/task`)].reduce((sum, { name }) => {
    try {
      const status = Deno.readTextFileSync(`/proc/${pid}/task/${name}/status`);
      return sum + Number(/^voluntary_ctxt_switches:\s*(\d+)$/m.exec(status)?.[1]);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return sum; // it has ended just now
      throw error;
    }
  }, 0);
}

Deno.test("an idle daemon of two workers hardly wakes up, with metrics and without", async () => {
  await using both = new AsyncDisposableStack();
  const daemons = [];
  for (const metrics of ["true", "false"]) {
    const env = { DAEMON_WORKERS: "2", DAEMON_METRICS_ENABLED: metrics };
    const daemon = both.use(await startDaemon({ env }));
    using client = daemon.handOff();
    await client.readAll();
    daemons.push({ daemon, metrics });
  }
  const before = daemons.map(({ daemon }) => sleepsOf(daemon.pid));
  await new Promise((resolve) => setTimeout(resolve, WINDOW_SECS * 1000));
  for (const [index, { daemon, metrics }] of daemons.entries()) {
    const perSec = (sleepsOf(daemon.pid) - (before[index] as number)) / WINDOW_SECS;
    // Not 12, which it should be, since V8 goes on tidying up for a while, on threads of its own.
    assert(perSec < 50, `${perSec} wake-ups a second (metrics ${metrics})`);
  }
});

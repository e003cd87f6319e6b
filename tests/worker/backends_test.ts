/** Which part of a backend's places a worker has, and what is told of its circuit. */
import assert from "node:assert/strict";
import { planBackends } from "../../src/backend/mod.ts";
import { ReadCoalescer } from "../../src/timing/read_coalescer.ts";
import { TimerWheel } from "../../src/timing/timer_wheel.ts";
import { Backends, makeRoute } from "../../src/worker/backends.ts";
import { testConfig } from "../support/acceptor.ts";
import { listLog, type LoggedLine, ScriptedBackend } from "../support/connections.ts";
import { FakeTiming } from "../support/fake_timing.ts";

/** How many places each of so many workers has. */
async function places(maxStreams: number, workers: number): Promise<number[]> {
  const config = await planBackends(await testConfig({ DAEMON_BACKEND_MAX_STREAMS: String(maxStreams) }));
  const parts = {
    wheel: new TimerWheel(1, new FakeTiming()),
    arrivals: new ReadCoalescer({ rest: () => {} }),
    log: listLog([]),
  };
  return await Promise.all(Array.from({ length: workers }, async (_, index) => {
    const backends = new Backends(config, parts, { index, workers });
    const gate = backends.route()?.gate;
    let taken = 0;
    while (taken < 100 && gate?.enter()) taken++;
    await backends.close();
    return taken;
  }));
}

Deno.test("the workers' parts of max_streams are that together, and each has one at least", async () => {
  assert.deepEqual(await places(5, 2), [3, 2]);
  assert.deepEqual(await places(1, 3), [1, 1, 1]);
  assert.deepEqual(await places(0, 2), [100, 100]); // any number
});

Deno.test("that a backend is left alone is told, and that it answers again", async () => {
  const { backend: config } = await testConfig();
  const lines: LoggedLine[] = [];
  const plan = { ...config, circuitFailures: 2, circuitWithinMs: 1000, circuitPauseMs: 7000 };
  const { circuit } = makeRoute("a", new ScriptedBackend(), plan, listLog(lines));
  circuit.failed(0, false);
  assert.deepEqual(lines, []);
  circuit.failed(1, false);
  circuit.succeeded();
  assert.deepEqual(lines, [
    {
      level: "warning",
      message: "Backend fails and is left alone",
      fields: { backend: "a", failures: 2, pause_ms: 7000 },
    },
    { level: "info", message: "Backend answers again", fields: { backend: "a" } },
  ]);
});

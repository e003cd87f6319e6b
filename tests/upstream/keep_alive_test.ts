/** TCP's keep-alive on the way to a provider, which finds a peer that is no more where no ping of HTTP/2 does. */
import assert from "node:assert/strict";
import { Pool } from "../../src/upstream/pool.ts";
import { certificate } from "../support/backend_rig.ts";
import { mockLlm } from "../support/mock_llm.ts";

const WAIT_MS = 10_000;
/** proc_net_tcp(5): the state of a connection, and its timer of keep-alive. */
const ESTABLISHED = "01";
const KEEPALIVE_TIMER = "02";

/** The timers of all connections to a port of this machine. */
async function timersTo(port: number): Promise<string[]> {
  const hex = port.toString(16).toUpperCase().padStart(4, "0");
  const lines = (await Deno.readTextFile("/proc/net/tcp")).trim().split("\n").slice(1);
  return lines.map((line) => line.trim().split(/\s+/))
    .filter(([, , remote, state]) => remote === `0100007F:${hex}` && state === ESTABLISHED)
    .map((fields) => String(fields[5]?.split(":")[0]));
}

for (const [protocol, insecure] of [["h1", false], ["h2c", false], ["h2", false], ["h2", true]] as const) {
  Deno.test(`keep-alive: over ${protocol}${insecure ? ", insecure" : ""}`, async () => {
    const secure = protocol === "h2";
    await using mock = await mockLlm({
      protocol,
      ...(secure ? { certificate: await certificate() } : {}),
    });
    const pool = new Pool({
      http2: protocol !== "h1",
      socketPath: null,
      insecure,
      caCerts: secure && !insecure ? [(await certificate()).cert] : [],
      maxIdlePerHost: 10,
      idleTimeoutMs: 60_000,
      pingIntervalMs: 20_000,
      connectTimeoutMs: 10_000,
      proxy: {},
    });
    const url = new URL(`${mock.base}/chat/completions`);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    pool.request(
      {
        head: { method: "POST", url, headers: [] },
        headers: [["x-test-pattern", "plain"]],
        body: new Uint8Array(0),
      },
      { head() {}, data() {}, end: resolve, fail: reject },
    );
    await promise;
    let timers: string[] = [];
    // As long as a byte is not acknowledged, its own timer stands there.
    for (const limitMs = performance.now() + WAIT_MS; performance.now() < limitMs;) {
      timers = await timersTo(Number(url.port));
      if (timers.length > 0 && timers.every((timer) => timer === KEEPALIVE_TIMER)) break;
      await new Promise((next) => setTimeout(next, 10));
    }
    assert.deepEqual(timers, [KEEPALIVE_TIMER]);
    await pool.close();
  });
}

/** `/status`, and the command that shows it. */
import assert from "node:assert/strict";
import type { Status } from "../../src/ops/status.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { answer, openaiDaemon } from "../support/openai_daemon.ts";

async function statusOf(daemon: TestDaemon): Promise<Status> {
  const response = await daemon.page("/status");
  assert.equal(response.headers.get("content-type"), "application/json");
  return await response.json();
}

/** The command, by the script that gives it its permissions. */
async function command(addr: string, ...args: readonly string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command("tools/launch", {
    args: [Deno.execPath(), "main.ts", "status", ...args],
    cwd: new URL("../..", import.meta.url),
    env: {
      DAEMON_METRICS_ADDR: addr,
      // Who types it has no provider's key.
      DAEMON_BACKEND_PROVIDER: "openai",
      OPENAI_API_KEY: "",
      // And a proxy, which knows nothing of this machine's loopback.
      HTTP_PROXY: "http://127.0.0.1:1",
      http_proxy: "http://127.0.0.1:1",
      NO_PROXY: "",
      no_proxy: "",
    },
  }).output();
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

Deno.test("the status has streams by worker, the oldest, and the configuration in force", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_WORKERS: "2", DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_MAX_CONNECTIONS: "100" },
  });
  const idle = await statusOf(daemon);
  assert.deepEqual([idle.state, idle.connections, idle.streams, idle.oldest_secs], [
    "taking handoffs",
    0,
    0,
    0,
  ]);
  assert.deepEqual([idle.pid, idle.max_connections, idle.workers.length], [daemon.pid, 100, 2]);
  const firstAt = performance.now();
  using first = daemon.handOff();
  await first.readUntil("Hello");
  // Of one worker alone; the other has none.
  await daemon.until("its age", async () => (await statusOf(daemon)).oldest_secs > 0);
  const began = performance.now();
  using second = daemon.handOff();
  await second.readUntil("Hello");
  await daemon.until("a second", () => performance.now() - began > 1000);
  const busy = await statusOf(daemon);
  assert.deepEqual([busy.connections, busy.streams, busy.streams_peak], [2, 2, 2]);
  assert.equal(busy.workers.reduce((sum, { streams }) => sum + streams, 0), 2);
  assert(busy.workers.every(({ answers }) => answers));
  const elapsedSecs = (performance.now() - firstAt) / 1000;
  assert(busy.oldest_secs >= 1 && busy.oldest_secs <= elapsedSecs, `${busy.oldest_secs} of ${elapsedSecs}`);
  assert.match(busy.config, /^\[backend\.mock\]\ntoken_delay_ms = 3600000$/m);
  first.close();
  await daemon.until("one client", async () => (await statusOf(daemon)).connections === 1);
  daemon.signal("SIGTERM");
  await daemon.logged("Stopping");
  const { state, connections } = await statusOf(daemon);
  assert.deepEqual([state, connections], ["draining", 1]);
  second.close();
  assert.equal(await daemon.exit(), 0);
});

Deno.test("the status has what each provider was asked and how that failed, and no secret", async () => {
  await using both = await openaiDaemon("h1");
  await answer(both.daemon, "plain");
  await answer(both.daemon, "status-500");
  await answer(both.daemon, "status-500");
  const text = JSON.stringify(await statusOf(both.daemon));
  assert.deepEqual((JSON.parse(text) as Status).providers, {
    openai: { requests: 3, errors: { server_error: 2 } },
  });
  assert(!text.includes("very-secret"));
  assert(text.includes(`api_key = \\"(set)\\"`), text);
});

Deno.test("the command shows it to people and to programs; without a daemon it says where it looked", async () => {
  await using daemon = await startDaemon();
  const { host: addr } = new URL(String((await daemon.logged("Taking handoffs")).fields["metrics"]));
  using client = daemon.handOff();
  await client.readAll();
  const shown = await command(addr);
  assert.equal(shown.code, 0, shown.text);
  assert.match(
    shown.text,
    /^streaming-daemon-ts \S+, Deno \S+, pid \d+, up \d+ s: taking handoffs\nclients +0 of \d+\nstreams +0, at most 1; [^]*\nworker 0 +0 streams, [^]*\nmock +1 requests\n\n\[server\]\n/,
  );
  const everywhere = addr.replace("127.0.0.1", ""); // what listens on all addresses is asked on loopback
  assert.equal((JSON.parse((await command(everywhere, "--json")).text) as Status).pid, daemon.pid);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  const gone = await command("127.0.0.1:1"); // its own port may be another test's by now
  assert.equal(gone.code, 1);
  assert.match(
    gone.text,
    /^streaming-daemon-ts: http:\/\/127\.0\.0\.1:1\/status: no daemon says how it is there .* ECONNREFUSED /,
  );
});

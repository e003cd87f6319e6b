/** Two workers in isolates of their own. */
import assert from "node:assert/strict";
import { pairEnds, tcpEnds } from "../support/clients.ts";
import { TestFolder } from "../support/folders.ts";
import { spawnDaemon, startDaemon } from "../support/daemon.ts";

const two = (env: Record<string, string> = {}) => ({ env: { DAEMON_WORKERS: "2", ...env } });

Deno.test("two workers: load is spread evenly, all streams complete, one page adds up", async () => {
  await using daemon = await startDaemon(two());
  const clients = await Promise.all(
    Array.from({ length: 100 }, async (_, index) =>
      daemon.handOff({ prompt: `${index}` }, {
        kind: index % 2 === 0 ? "seqpacket" : "stream",
        ends: index % 3 === 0 ? await tcpEnds() : pairEnds(),
      })),
  );
  const answers = await Promise.all(clients.map((client) => client.readAll()));
  for (const [index, answer] of answers.entries()) {
    assert(answer.includes(`You said: \\"${index}\\"`) && answer.endsWith("data: [DONE]\n\n"), answer);
  }
  for (const client of clients) client.close();
  // The id that a worker makes tells which one it is.
  await daemon.until(
    "all log lines",
    () => daemon.log.filter(({ message }) => message === "Stream complete").length === 100,
  );
  const ids = daemon.log.flatMap(({ fields }) =>
    typeof fields["request_id"] === "string" ? [fields["request_id"]] : []
  );
  assert.equal(new Set(ids).size, 100);
  const first = ids.filter((id) => id.includes("-0-")).length;
  assert(first >= 30 && first <= 70, `${first} of 100 at the first worker`);
  for (
    const [name, value] of [
      ["daemon_connections_total", 100],
      ["daemon_handoffs_received", 100],
      ["daemon_stream_events_sent_total", 1800],
      ["daemon_stream_bytes_sent", answers.reduce((bytes, answer) => bytes + answer.length, 0)],
      ["daemon_stream_duration_seconds_count", 100],
      ["daemon_streams_active", 0],
      ["daemon_connections_active", 0],
      ["daemon_worker_restarts_total", 0],
    ] as const
  ) assert.equal(await daemon.metric(name), value, name);
});

Deno.test("workers = auto: one for each core", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_WORKERS: "auto" } });
  const { fields } = await daemon.logged("Taking handoffs");
  assert.equal(fields["workers"], navigator.hardwareConcurrency);
  const status = await (await daemon.page("/status")).json();
  assert.equal(status.workers.length, navigator.hardwareConcurrency);
});

Deno.test("two workers with streams that stay: half of them each", async () => {
  await using daemon = await startDaemon(
    two({ DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_SHUTDOWN_TIMEOUT_SECS: "0" }),
  );
  const clients = [];
  for (let count = 0; count < 40; count++) {
    const client = daemon.handOff();
    await client.readUntil("Hello! ");
    clients.push(client);
  }
  assert.equal(await daemon.metric("daemon_streams_active"), 40);
  daemon.signal("SIGTERM");
  for (const client of clients) {
    assert((await client.readAll()).endsWith('data: {"error":"Server is shutting down"}\n\n'));
    client.close();
  }
  assert.equal(await daemon.exit(), 0);
  const ends = daemon.log.filter(({ message }) => message === "Stream ended early");
  assert.equal(ends.length, 40);
  assert.equal(ends.filter(({ fields }) => (fields["request_id"] as string).includes("-0-")).length, 20);
});

Deno.test("the limit of connections is one for both workers", async () => {
  await using daemon = await startDaemon(
    two({ DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_MAX_CONNECTIONS: "3" }),
  );
  const clients = [];
  for (let count = 0; count < 3; count++) {
    const client = daemon.handOff();
    await client.readUntil("Hello! ");
    clients.push(client);
  }
  using fourth = daemon.handOff();
  assert.match(await fourth.readAll(), /^HTTP\/1\.1 503 /);
  for (const client of clients) client.close();
});

Deno.test("a drain reaches both workers, the backlog included", async () => {
  await using daemon = await startDaemon(two({ DAEMON_TOKEN_DELAY_MS: "10" }));
  daemon.signal("SIGSTOP");
  const clients = Array.from({ length: 50 }, () => daemon.handOff());
  daemon.signal("SIGTERM");
  daemon.signal("SIGCONT");
  for (const client of clients) {
    const answer = await client.readAll();
    assert(answer.endsWith("data: [DONE]\n\n"), answer + daemon.stderr.join("\n"));
    client.close();
  }
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a reload reaches both workers", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/daemon.toml`;
  await Deno.writeTextFile(path, "[backend.mock]\ntoken_delay_ms = 3600000\n");
  await using daemon = await startDaemon({
    env: { DAEMON_WORKERS: "2", DAEMON_TOKEN_DELAY_MS: undefined },
    args: [path],
    permissions: [`--allow-read=${folder.path},src`],
  });
  await Deno.writeTextFile(path, '[backend.mock]\ntoken_delay_ms = 0\n[logging]\nlevel = "debug"\n');
  daemon.signal("SIGHUP");
  await daemon.logged("Configuration reloaded");
  const clients = Array.from({ length: 20 }, () => daemon.handOff());
  for (const client of clients) {
    const answer = await client.readAll();
    assert(answer.endsWith("data: [DONE]\n\n"), answer + daemon.stderr.join("\n"));
    client.close();
  }
});

Deno.test("--benchmark adds up over both workers", async () => {
  await using daemon = await startDaemon({ ...two(), args: ["--benchmark"] });
  const clients = Array.from({ length: 20 }, () => daemon.handOff());
  for (const client of clients) {
    await client.readAll();
    client.close();
  }
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  const { fields } = await daemon.logged("Benchmark");
  assert.deepEqual([fields["connections"], fields["streams"], fields["events"]], [20, 20, 360]);
});

Deno.test("two workers: a socket that is taken ends the daemon with one clear line", async () => {
  await using daemon = await startDaemon();
  await using second = spawnDaemon(two({ DAEMON_SOCKET_PATH: daemon.socketPath }));
  assert.equal(await second.exit(), 1);
  assert.match(second.stderr.at(-1) ?? "", /^streaming-daemon-ts: server\.socket_path = /);
  assert(second.log.every(({ level }) => level === "info"), second.stderr.join("\n"));
});

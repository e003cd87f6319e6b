/** Workers that hang or die of a bug, in the running daemon: the others, and the daemon itself, go on. */
import assert from "node:assert/strict";
import type { Status } from "../../src/ops/status.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { NotifySocket } from "../support/systemd.ts";
import { TestFolder } from "../support/folders.ts";
import type { TestClient } from "../support/clients.ts";
import { plainResponse } from "../support/wire.ts";

const SLOW = { DAEMON_TOKEN_DELAY_MS: "3600000" };
const TOLD = 'data: {"error":"Server is shutting down"}\n\n';

function unruly(env: Readonly<Record<string, string>>): Promise<TestDaemon> {
  return startDaemon({ unruly: true, env });
}

/** Opens so many streams, which last. */
async function open(daemon: TestDaemon, count: number): Promise<TestClient[]> {
  const clients: TestClient[] = [];
  while (clients.length < count) {
    const client = daemon.handOff();
    await client.readUntil("Hello! ");
    clients.push(client);
  }
  return clients;
}

Deno.test("a worker that hangs: the page comes, the worker is replaced, its streams are counted as lost", async () => {
  await using daemon = await unruly({ ...SLOW, DAEMON_WORKERS: "2" });
  const clients = await open(daemon, 8);
  using _culprit = daemon.handOff({ prompt: "hang" });
  const askedAt = performance.now();
  const page = await (await daemon.page("/metrics")).text();
  assert(performance.now() - askedAt < 5000, "the page does not wait for it");
  assert.match(page, /^daemon_streams_active 9$/m);
  const answering = async () => {
    const { workers }: Status = await (await daemon.page("/status")).json();
    return workers.filter(({ answers }) => answers).length;
  };
  await daemon.until("the status that says so", async () => await answering() === 1);
  const knownAt = performance.now();
  for (let count = 0; count < 5; count++) await (await daemon.page("/metrics")).arrayBuffer();
  assert(performance.now() - knownAt < 4000, "no page waits for a worker that is known to hang");
  const { level, fields } = await daemon.logged("Worker died");
  assert.equal(level, "error");
  assert.match(JSON.stringify(fields["error"]), /The worker did not answer for 8000 ms/);
  assert.equal(fields["lost_streams"], 5);
  await daemon.until("the successor", async () => await daemon.metric("daemon_connections_active") === 4);
  assert.equal(await daemon.metric("daemon_streams_active"), 4);
  assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "other" }), 5);
  assert.equal(await daemon.metric("daemon_worker_restarts_total"), 1);
  // As many again are all for the successor, which has none.
  const others = await open(daemon, 4);
  daemon.signal("SIGTERM");
  await daemon.logged("Stopping");
  await new Promise((resolve) => setTimeout(resolve, 500)); // a second signal is another one by then
  daemon.signal("SIGTERM");
  const answers = await Promise.all([...clients, ...others].map((client) => client.readAll()));
  assert.equal(answers.filter((answer) => answer.endsWith(TOLD)).length, 8);
  for (const client of [...clients, ...others]) client.close();
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a worker that hangs does not keep the daemon from stopping, alone or beside another", async () => {
  const stopped = async (workers: string, prompt: string) => {
    await using daemon = await unruly({ ...SLOW, DAEMON_WORKERS: workers });
    using _culprit = daemon.handOff({ prompt });
    daemon.signal("SIGTERM");
    await daemon.logged("Stopping");
    await new Promise((resolve) => setTimeout(resolve, 500));
    const stoppedAt = performance.now();
    daemon.signal("SIGTERM");
    assert.equal(await daemon.exit(), 0);
    assert(performance.now() - stoppedAt < 10_000);
  };
  await Promise.all([stopped("1", "loop"), stopped("2", "hang")]);
});

Deno.test("systemd's watchdog is not fed while a worker hangs, and is again once it is replaced", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/notify.sock`;
  await using systemd = await NotifySocket.open(path);
  const fed = () => systemd.states.filter((state) => state === "WATCHDOG=1").length;
  await using daemon = await unruly({ DAEMON_WORKERS: "2", NOTIFY_SOCKET: path, WATCHDOG_USEC: "400000" });
  await daemon.until("the first meal", () => fed() > 0);
  using _culprit = daemon.handOff({ prompt: "hang" });
  let before = fed();
  await daemon.until("hunger", async () => {
    before = fed();
    await new Promise((resolve) => setTimeout(resolve, 1000)); // ten meals
    return fed() === before;
  });
  assert(!daemon.log.some(({ message }) => message === "Worker died"));
  await daemon.logged("Worker died");
  await daemon.until("the next meal", () => fed() > before);
});

Deno.test("a successor that cannot start is tried again, and the other worker does not notice", async () => {
  await using daemon = await unruly({ ...SLOW, DAEMON_WORKERS: "2" });
  const [stays] = await open(daemon, 1);
  Deno.writeTextFileSync(`${daemon.folder}/no-start`, "");
  using culprit = daemon.handOff({ prompt: "die" });
  assert.equal((await culprit.readAll()).includes("[DONE]"), false);
  const deaths = () => daemon.log.filter(({ message }) => message === "Worker died");
  await daemon.until("two failed starts", () => deaths().length >= 3);
  Deno.removeSync(`${daemon.folder}/no-start`);
  const errors = deaths().map(({ fields }) => (fields["error"] as Error).message);
  assert.match(errors[0] ?? "", /as the prompt said/);
  for (const error of errors.slice(1)) assert.match(error, /no start/);
  const clients = await open(daemon, 3);
  await daemon.until("both workers", async () => await daemon.metric("daemon_streams_active") === 4);
  for (const client of clients) client.close();
  stays?.close();
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a backend that throws where it may not costs that stream alone, and no drain waits for it", async () => {
  await using daemon = await unruly(SLOW);
  const [running] = await open(daemon, 1);
  using client = daemon.handOff({ prompt: "throw", request_id: "r-1" });
  assert.equal(await client.readAll(), plainResponse(502, "Backend unavailable"));
  const { fields } = await daemon.logged("Backend failed");
  assert.deepEqual([fields["request_id"], fields["kind"]], ["r-1", "other"]);
  assert.match(JSON.stringify(fields["error"]), /as the prompt said/);
  using late = daemon.handOff({ prompt: "throw-late" });
  assert.match(await late.readAll(), /"Hello! "}\n\ndata: {"error":"Backend error"}\n\n$/);
  assert.equal(await daemon.metric("daemon_backend_errors", { backend: "mock", kind: "other" }), 2);
  assert.equal(await daemon.metric("daemon_worker_restarts_total"), 0);
  running?.close();
  await daemon.until("no stream", async () => await daemon.metric("daemon_streams_active") === 0);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert(daemon.log.every(({ message }) => message !== "Worker died"));
});

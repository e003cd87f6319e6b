/** The daemon's end by signals. */
import assert from "node:assert/strict";
import { connect } from "../../src/native/sender.ts";
import { namesIn } from "../support/folders.ts";
import { pairEnds } from "../support/clients.ts";
import { spawnDaemon, startDaemon } from "../support/daemon.ts";

const STOPPED = 'data: {"error":"Server is shutting down"}\n\n';
for (const signal of ["SIGTERM", "SIGINT"] as const) {
  Deno.test(`${signal}: streams finish, nobody connects any more, exit 0, the sockets are gone`, async () => {
    await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "30" } });
    using client = daemon.handOff();
    await client.readUntil("Hello! ");
    assert.equal(await (await daemon.page("/readyz")).text(), "ready\n");
    daemon.signal(signal);
    await daemon.logged("Stopping");
    await daemon.until("the end of the paths", () => namesIn(daemon.folder).length === 0);
    for (const kind of ["seqpacket", "stream"] as const) {
      assert.throws(() => connect(daemon.pathOf(kind), kind), /ENOENT/);
    }
    const ready = await daemon.page("/readyz");
    assert.deepEqual([ready.status, await ready.text()], [503, "not ready\n"]);
    const answer = await client.readAll();
    assert.match(answer, /data: \[DONE\]\n\n$/);
    assert.equal(answer.match(/"content"/g)?.length, 18);
    assert.equal(await daemon.exit(), 0);
    assert.equal(daemon.log.at(-1)?.message, "Stopped");
    assert.deepEqual(daemon.log.filter(({ level }) => level !== "info"), []);
  });
}

Deno.test("handoffs that wait in the backlog at SIGTERM are served", async () => {
  await using daemon = await startDaemon();
  daemon.signal("SIGSTOP");
  const clients = Array.from(
    { length: 60 },
    (_, index) => daemon.handOff({ prompt: `${index}` }, { kind: index % 2 === 0 ? "seqpacket" : "stream" }),
  );
  daemon.signal("SIGTERM");
  daemon.signal("SIGCONT");
  for (const [index, client] of clients.entries()) {
    const answer = await client.readAll();
    assert(answer.includes(`You said: \\"${index}\\"`) && answer.endsWith("data: [DONE]\n\n"), answer);
    client.close();
  }
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a handoff that is half sent at SIGTERM is waited for", async () => {
  await using daemon = await startDaemon();
  await (await daemon.page("/healthz")).text();
  const fds = daemon.openFds();
  using sender = connect(daemon.pathOf("stream"), "stream");
  await daemon.until("the accept", () => daemon.openFds() > fds);
  daemon.signal("SIGTERM");
  await daemon.logged("Stopping");
  const { near, far } = pairEnds();
  using client = near;
  sender.send(new TextEncoder().encode('{"prompt":"late"}'), [far]);
  far.close();
  assert.match(await client.readAll(), /You said: \\"late\\"[^]*\[DONE\]\n\n$/);
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a handoff that stays half sent does not outlast the deadline; its client is told", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_SHUTDOWN_TIMEOUT_SECS: "0.3", DAEMON_HANDOFF_TIMEOUT_SECS: "60" },
  });
  const { near, far } = pairEnds();
  using client = near;
  using sender = connect(daemon.pathOf("stream"), "stream");
  sender.send(new TextEncoder().encode('{"prompt":'), [far]);
  far.close();
  using whole = daemon.handOff({}, { kind: "stream" }); // so the half one was accepted before
  await whole.readAll();
  const signalledAt = performance.now();
  daemon.signal("SIGTERM");
  assert.match(await client.readAll(), /^HTTP\/1\.1 503 [^]*Handoff refused\n$/);
  assert.equal(await daemon.exit(), 0);
  assert(performance.now() - signalledAt < 15_000);
});

Deno.test("streams that are left at the deadline are told so; exit 0", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_SHUTDOWN_TIMEOUT_SECS: "0.3" },
  });
  using client = daemon.handOff();
  await client.readUntil("Hello! ");
  const signalledAt = performance.now();
  daemon.signal("SIGTERM");
  const answer = await client.readAll();
  assert(performance.now() - signalledAt >= 290);
  assert(answer.endsWith(`Hello! "}\n\n${STOPPED}`), answer);
  assert.equal(await daemon.exit(), 0);
  const end = daemon.log.find(({ message }) => message === "Stream ended early");
  assert.equal(end?.fields["reason"], "shutdown");
});

Deno.test("the last lines of the log are written before the end, those of workers too", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_SHUTDOWN_TIMEOUT_SECS: "0", DAEMON_WORKERS: "2" },
  });
  const clients = Array.from({ length: 1000 }, () => daemon.handOff());
  await daemon.until(
    "all streams",
    async () => await daemon.metric("daemon_streams_active") === clients.length,
  );
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  const ended = daemon.log.filter(({ message }) => message === "Stream ended early");
  assert.equal(ended.length, clients.length);
  for (const client of clients) client.close();
});

Deno.test("a second SIGTERM stops now, unless it comes with the first; streams are told", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "3600000" } });
  using client = daemon.handOff();
  await client.readUntil("Hello! ");
  daemon.signal("SIGTERM");
  // As `deno task` passes on what the terminal sent to both; of one number, two may come as one.
  daemon.signal("SIGINT");
  await daemon.logged("Stopping");
  await new Promise((resolve) => setTimeout(resolve, 500)); // past the time in which it is the same one
  assert(!daemon.log.some(({ message }) => message.startsWith("Streams left")));
  daemon.signal("SIGTERM");
  assert((await client.readAll()).endsWith(STOPPED));
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a second SIGTERM stops now, also while a handoff that is half sent is waited for", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "3600000", DAEMON_HANDOFF_TIMEOUT_SECS: "60" },
  });
  using sender = connect(daemon.pathOf("stream"), "stream");
  sender.send(new TextEncoder().encode('{"prompt":'));
  using client = daemon.handOff({}, { kind: "stream" }); // so the half one was accepted before
  await client.readUntil("Hello! ");
  daemon.signal("SIGTERM");
  await daemon.logged("Stopping");
  await new Promise((resolve) => setTimeout(resolve, 500)); // past the time in which it is the same one
  const stoppedAt = performance.now();
  daemon.signal("SIGTERM");
  assert((await client.readAll()).endsWith(STOPPED));
  assert.equal(await daemon.exit(), 0);
  assert(performance.now() - stoppedAt < 15_000);
});

Deno.test("signals at the same time, as a runner makes them, are one: streams finish", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "30" } });
  using client = daemon.handOff();
  await client.readUntil("Hello! ");
  daemon.signal("SIGTERM");
  daemon.signal("SIGINT");
  assert((await client.readAll()).endsWith("data: [DONE]\n\n"));
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a drain without streams ends at once", async () => {
  await using daemon = await startDaemon();
  const signalledAt = performance.now();
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert(performance.now() - signalledAt < 2000);
});

Deno.test("SIGHUP during a drain changes nothing", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "30" } });
  using client = daemon.handOff();
  await client.readUntil("Hello! ");
  daemon.signal("SIGTERM");
  await daemon.logged("Stopping");
  daemon.signal("SIGHUP");
  assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  assert.equal(await daemon.exit(), 0);
  assert(!daemon.log.some(({ message }) => /[Rr]eload/.test(message)));
});

Deno.test("SIGTERM during the start ends the daemon in order, too", async () => {
  for (const workers of ["1", "2"]) {
    await using daemon = spawnDaemon({ env: { DAEMON_WORKERS: workers } });
    await daemon.until("the first line", () => daemon.stderr.length > 0);
    daemon.signal("SIGTERM");
    assert.equal(await daemon.exit(), 0, daemon.stderr.join("\n"));
    assert.deepEqual(namesIn(daemon.folder), []);
  }
});

Deno.test("a second SIGTERM during the start stops the daemon as soon as it has started", async () => {
  await using daemon = spawnDaemon({ unruly: true, env: { DAEMON_TOKEN_DELAY_MS: "3600000" } });
  Deno.writeTextFileSync(`${daemon.folder}/wait-start`, "");
  await daemon.logged("Listening");
  using client = daemon.handOff(); // waits in the backlog
  daemon.signal("SIGTERM");
  await daemon.logged("Stopping");
  await new Promise((resolve) => setTimeout(resolve, 500)); // past the time in which it is the same one
  daemon.signal("SIGTERM");
  Deno.removeSync(`${daemon.folder}/wait-start`);
  assert.match(await client.readAll(), /^HTTP\/1\.1 503 |Server is shutting down/);
  assert.equal(await daemon.exit(), 0);
});

Deno.test("SIGTERM where the socket's folder is not writable any more: said so, drained, exit 0", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "30" },
    // Root may write anywhere, but for this.
    wrapper: Deno.uid() === 0 ? ["setpriv", "--bounding-set=-dac_override"] : [],
  });
  using client = daemon.handOff();
  await client.readUntil("Hello! ");
  Deno.chmodSync(daemon.folder, 0o500);
  daemon.signal("SIGTERM");
  const { level, fields } = await daemon.logged(/handoff socket/);
  assert.equal(level, "error");
  assert.match(JSON.stringify(fields), /EACCES/);
  assert.throws(() => connect(daemon.pathOf("seqpacket"), "seqpacket"), /ECONNREFUSED/);
  assert.match(await client.readAll(), /data: \[DONE\]\n\n$/);
  assert.equal(await daemon.exit(), 0);
  Deno.chmodSync(daemon.folder, 0o700);
});

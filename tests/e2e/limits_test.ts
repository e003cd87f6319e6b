/** The limits of connections and of open files. */
import assert from "node:assert/strict";
import type { TestClient } from "../support/clients.ts";
import { startDaemon } from "../support/daemon.ts";
import { takeAllFds } from "../support/fds.ts";

const slow = "3600000";
const BUSY = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n" +
  "Content-Length: 21\r\nRetry-After: 5\r\nConnection: close\r\n\r\nToo many connections\n";

Deno.test("beyond max_connections a client is told 503, byte for byte, and later ones are served", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_MAX_CONNECTIONS: "2", DAEMON_TOKEN_DELAY_MS: slow },
  });
  const first = daemon.handOff();
  using second = daemon.handOff();
  await first.readUntil("Hello! ");
  await second.readUntil("Hello! ");
  for (const kind of ["seqpacket", "stream"] as const) {
    using third = daemon.handOff({}, { kind });
    assert.equal(await third.readAll(), BUSY);
  }
  assert.equal(await daemon.metric("daemon_connections_rejected_total"), 2);
  assert.equal(await daemon.metric("daemon_connections_active"), 2);
  assert.equal(await daemon.metric("daemon_streams_peak"), 2);
  first.close();
  await daemon.until("room", async () => await daemon.metric("daemon_connections_active") === 1);
  using fourth = daemon.handOff();
  await fourth.readUntil("Hello! ");
});

Deno.test("a rush beyond the limit: everybody gets a stream or a 503, nobody silence", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_MAX_CONNECTIONS: "10", DAEMON_TOKEN_DELAY_MS: "20" },
  });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  const answers = await Promise.all(Array.from({ length: 300 }, async () => {
    using client = daemon.handOff();
    return await client.readAll();
  }));
  const served = answers.filter((answer) => answer.endsWith("data: [DONE]\n\n")).length;
  assert(served >= 10 && served < 300, `${served} served`);
  assert.equal(answers.filter((answer) => answer === BUSY).length, 300 - served);
  assert.equal(await daemon.metric("daemon_connections_rejected_total"), 300 - served);
  assert.equal(await daemon.metric("daemon_streams_peak"), 10);
  await daemon.fdsBackTo(fds);
});

Deno.test("the soft limit of open files is raised to the hard one; max_connections is capped to it, and said so", async () => {
  await using daemon = await startDaemon({
    wrapper: ["prlimit", "--nofile=300:600"],
    env: { DAEMON_TOKEN_DELAY_MS: slow },
  });
  const { fields } = await daemon.logged("max_connections is capped to what the limit of open files allows");
  assert.deepEqual(fields, { max_connections: 100_000, capped_to: 88, open_files: 600 });
  assert.equal(await daemon.metric("process_max_fds"), 600);
  assert.equal((await (await daemon.page("/status")).json()).max_connections, 88);
  const clients: TestClient[] = [];
  try {
    for (let count = 0; count < 88; count++) clients.push(daemon.handOff());
    for (const client of clients) await client.readUntil("Hello! ");
    for (let count = 0; count < 200; count++) {
      using client = daemon.handOff();
      assert.equal(await client.readAll(), BUSY);
    }
  } finally {
    for (const client of clients) client.close();
  }
});

for (const [http2, most] of [["true", 83], ["false", 44]] as const) {
  Deno.test(`a provider's connections are descriptors, too: max_connections is capped to fewer (http2 ${http2})`, async () => {
    await using daemon = await startDaemon({
      wrapper: ["prlimit", "--nofile=600"],
      env: {
        DAEMON_BACKEND_PROVIDER: "openai",
        OPENAI_API_BASE: "http://127.0.0.1:1/v1",
        OPENAI_HTTP2_ENABLED: http2,
      },
    });
    const { fields } = await daemon.logged(/^max_connections is capped/);
    assert.deepEqual(fields, { max_connections: 100_000, capped_to: most, open_files: 600 });
  });
}

Deno.test("max_connections below the cap holds as it is", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_MAX_CONNECTIONS: "50" } });
  assert(!daemon.log.some(({ message }) => message.startsWith("max_connections is capped")));
  assert.equal((await (await daemon.page("/status")).json()).max_connections, 50);
});

Deno.test("without a free descriptor a scrape fails, and nothing else does: later ones are served", async () => {
  await using daemon = await startDaemon({
    wrapper: ["prlimit", "--nofile=128"],
    env: { DAEMON_HANDOFF_TIMEOUT_SECS: "60" },
  });
  const says = (message: string) => daemon.log.some((line) => line.message === message);
  const silent = await takeAllFds(daemon);
  await assert.rejects(daemon.page("/metrics"), TypeError);
  await daemon.until("the failure", () => says("The admin server cannot do its work for now"));
  for (const each of silent) each.close();
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]/);
  await daemon.until("a scrape", async () => {
    try {
      return await daemon.metric("daemon_connections_total") === 1;
    } catch (error) {
      if (error instanceof TypeError) return false; // nobody listens for a second
      throw error;
    }
  });
});

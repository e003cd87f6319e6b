/** SIGHUP: a new configuration without a restart. */
import assert from "node:assert/strict";
import { allKeys, BACKEND_PROVIDERS } from "../../src/config/load.ts";
import { connect } from "../../src/native/sender.ts";
import type { Status } from "../../src/ops/status.ts";
import { fill, pairEnds, type TestClient } from "../support/clients.ts";
import { type DaemonSetup, spawnDaemon, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { TestFolder } from "../support/folders.ts";
import { type MockLlm, mockLlm } from "../support/mock_llm.ts";
import { NotifySocket } from "../support/systemd.ts";
import { BUSY_MS } from "../support/unruly_backend.ts";

/** A daemon whose configuration the test writes. Its socket path and port come from the environment. */
async function startWith(
  toml: string,
  env: Readonly<Record<string, string>> = {},
  more: Pick<DaemonSetup, "unruly"> = {},
): Promise<{ daemon: TestDaemon; path: string; write(toml: string): void } & AsyncDisposable> {
  const folder = new TestFolder();
  const path = `${folder.path}/daemon.toml`;
  const write = (toml: string) => Deno.writeTextFileSync(path, toml);
  write(toml);
  const daemon = await startDaemon({
    args: [path],
    permissions: [`--allow-read=${folder.path},src`],
    ...more,
    env: { DAEMON_TOKEN_DELAY_MS: undefined, ...env },
  });
  return {
    daemon,
    path,
    write,
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

/** Reloads and waits until it is through. */
async function reload(daemon: TestDaemon): Promise<Readonly<Record<string, unknown>>> {
  const ends = () =>
    daemon.log.filter(({ message }) =>
      message === "Configuration reloaded" || message.startsWith("The new configuration does not hold")
    );
  const before = ends().length;
  daemon.signal("SIGHUP");
  await daemon.until("the reload", () => ends().length > before);
  return ends()[before]?.fields ?? {};
}

Deno.test("SIGHUP: limits, time-outs, level and backend hold for what comes; what runs goes on", async () => {
  await using started = await startWith("[backend.mock]\ntoken_delay_ms = 3600000\n");
  const { daemon, write } = started;
  using running = daemon.handOff();
  await running.readUntil("Hello! ");
  write(
    '[server]\nmax_connections = 2\nhandoff_buffer_bytes = 1024\n[backend]\ndefault_model = "other"\n' +
      '[backend.mock]\ntoken_delay_ms = 0\n[logging]\nlevel = "warning"\n',
  );
  assert.deepEqual(await reload(daemon), {
    changed: [
      "server.max_connections",
      "server.handoff_buffer_bytes",
      "backend.default_model",
      "backend.mock.token_delay_ms",
      "logging.level",
    ],
    need_restart: [],
  });
  assert.equal((await daemon.logged("Reloading the configuration")).fields["connections"], 1);
  using next = daemon.handOff();
  assert.match(await next.readAll(), /\[DONE\]\n\n$/);
  using more = daemon.handOff({ prompt: "x".repeat(1100) });
  assert.match(await more.readAll(), /^HTTP\/1\.1 413 /);
  assert.equal(await daemon.metric("daemon_streams_active"), 1);
  assert(!daemon.log.some(({ message }) => message === "Stream complete")); // level warning
  running.close();
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert(!daemon.log.some(({ message }) => message === "Stopping" || message === "Stopped")); // in the main isolate, too
});

Deno.test("SIGHUP: files that follow each other", async (t) => {
  const quick = "[backend.mock]\ntoken_delay_ms = 0\n";
  const raised = `[server]\nhandoff_buffer_bytes = 1000000\n${quick}`;
  await using started = await startWith(`[server]\nhandoff_buffer_bytes = 1024\n${quick}`);
  const { daemon, write } = started;
  await t.step("SIGHUP: a raised buffer lets longer data in", async () => {
    write(raised);
    assert.deepEqual((await reload(daemon))["changed"], ["server.handoff_buffer_bytes"]);
    assert.deepEqual((await reload(daemon))["changed"], []); // since then
    for (const bytes of [1100, 60_000, 70_000, 150_000]) {
      using client = daemon.handOff({ prompt: "x".repeat(bytes) });
      assert.match(await client.readAll(), /\[DONE\]\n\n$/);
    }
  });
  await t.step("SIGHUP: a broken file keeps the old configuration, key and value are named", async () => {
    for (
      const [toml, told] of [
        ["[server]\nmax_connections = 0\n", /server\.max_connections = 0: expected a whole number/],
        ["[server\n", /daemon\.toml:1:8: not valid TOML/],
        [
          "[server]\nmax_conections = 1\n",
          /unknown key server\.max_conections; the nearest known one is server\.max_connections/,
        ],
      ] as const
    ) {
      write(toml);
      const { error } = await reload(daemon);
      assert.match((error as { message: string }).message, told);
      using client = daemon.handOff({ prompt: "x".repeat(1100) });
      assert.match(await client.readAll(), /\[DONE\]\n\n$/);
    }
    assert.equal(await (await daemon.page("/readyz")).text(), "ready\n");
  });
  await t.step("SIGHUP: what needs a restart is named and stays", async () => {
    write(raised.replace("[server]\n", '[server]\nsocket_mode = "600"\n'));
    assert.deepEqual(await reload(daemon), { changed: [], need_restart: ["server.socket_mode"] });
  });
});

Deno.test("a storm of SIGHUPs ends with the last configuration", async () => {
  await using started = await startWith("[backend.mock]\ntoken_delay_ms = 0\n");
  const { daemon, write } = started;
  for (let storm = 0; storm < 50; storm++) {
    write(`[server]\nmax_connections = ${1000 + storm}\n[backend.mock]\ntoken_delay_ms = 0\n`);
    daemon.signal("SIGHUP");
    using client = daemon.handOff();
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  }
  write("[server]\nmax_connections = 1\n[backend.mock]\ntoken_delay_ms = 3600000\n");
  daemon.signal("SIGHUP");
  // Those of the storm may still be under way, and tell of their ends as well.
  const count = (wanted: RegExp) => daemon.log.filter(({ message }) => wanted.test(message)).length;
  await daemon.until("the last one's end", async () => {
    const { max_connections }: Status = await (await daemon.page("/status")).json();
    return max_connections === 1 &&
      count(/^Reloading/) === count(/^Configuration reloaded$|^The new configuration does not hold/);
  });
  using first = daemon.handOff();
  await first.readUntil("Hello! ");
  using second = daemon.handOff();
  assert.match(await second.readAll(), /^HTTP\/1\.1 503 /);
});

Deno.test("SIGHUP: a backend that cannot be made leaves the old one, and no worker dies of it", async () => {
  await using started = await startWith("[backend.mock]\ntoken_delay_ms = 0\n", { DAEMON_WORKERS: "2" });
  const { daemon, write } = started;
  write(
    '[backend]\nprovider = "openai"\n[backend.openai]\napi_base = "http://127.0.0.1:1/v1"\nca_file = "src/no.pem"\n',
  );
  assert.match(JSON.stringify((await reload(daemon))["error"]), /backend\.openai\.ca_file src\/no\.pem/);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /DONE-CONTENT[^]*\[DONE\]/);
  assert.equal(await daemon.metric("daemon_worker_restarts_total"), 0);
  // The refused configuration was never taken for the running one.
  write("[backend.mock]\ntoken_delay_ms = 1\n");
  assert.deepEqual((await reload(daemon))["changed"], ["backend.mock.token_delay_ms"]);
});

Deno.test("a reload is over when every worker has it, however busy", async () => {
  await using started = await startWith("", { DAEMON_WORKERS: "2" }, { unruly: true });
  const { daemon, write } = started;
  write("[backend.mock]\ntoken_delay_ms = 1\n");
  const handedOverAt = performance.now();
  using _client = daemon.handOff({ prompt: "busy" });
  await reload(daemon);
  assert(performance.now() - handedOverAt > BUSY_MS);
});

Deno.test("a reload begins when the one before is over, and knows what that has changed", async () => {
  await using started = await startWith("", { DAEMON_WORKERS: "1" }, { unruly: true });
  const { daemon, write } = started;
  const clients = [1, 2, 3].map(() => daemon.handOff({ prompt: "busy" }));
  write("[backend.mock]\ntoken_delay_ms = 1\n");
  daemon.signal("SIGHUP");
  await daemon.until("the first one, which waits for the worker", async () => {
    const { config }: Status = await (await daemon.page("/status")).json();
    return /^token_delay_ms = 1$/m.test(config);
  });
  write("[server]\nmax_connections = 5\n[backend.mock]\ntoken_delay_ms = 1\n");
  daemon.signal("SIGHUP");
  const ends = () => daemon.log.filter(({ message }) => message === "Configuration reloaded");
  await daemon.until("both", () => ends().length === 2);
  assert.deepEqual(ends().map(({ fields }) => fields["changed"]), [
    ["backend.mock.token_delay_ms"],
    ["server.max_connections"],
  ]);
  for (const client of clients) client.close();
});

Deno.test("a FIFO in place of the configuration is refused, and systemd hears that the daemon is there", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/notify.sock`;
  await using systemd = await NotifySocket.open(path);
  await using started = await startWith("", { NOTIFY_SOCKET: path });
  const { daemon } = started;
  Deno.removeSync(started.path);
  await new Deno.Command("mkfifo", { args: [started.path] }).output();
  const { error } = await reload(daemon);
  assert.match(
    (error as { message: string }).message,
    /: expected a regular file, which is read more than once$/,
  );
  await daemon.until("READY again", () => systemd.states.at(-1)?.startsWith("READY=1") ?? false);
  assert(systemd.states.at(-2)?.startsWith("RELOADING=1"), systemd.states.join());
  Deno.removeSync(started.path);
  started.write("[backend.mock]\ntoken_delay_ms = 0\n");
  assert.deepEqual((await reload(daemon))["changed"], ["backend.mock.token_delay_ms"]);
});

/** What a key does, shown on one client of each worker. */
interface KeyTest {
  /** The key's value, and what else it takes, as TOML. */
  readonly toml: string;
  readonly data?: Readonly<Record<string, unknown>>;
  /** Whether the clients take nothing. */
  readonly full?: true;
  check(clients: readonly TestClient[], daemon: TestDaemon, mock: MockLlm): Promise<void> | void;
}

/** Each client reads an answer that matches. */
const answered = (pattern: RegExp): KeyTest["check"] => async (clients) => {
  for (const client of clients) assert.match(await client.readAll(), pattern);
};
const NEVER = "backend.mock.token_delay_ms = 3600000\n";
const AT_ONCE = "backend.mock.token_delay_ms = 0\n";
const openai = ({ base }: MockLlm): string =>
  `backend.provider = "openai"\nbackend.openai.api_base = "${base}"\nbackend.openai.http2 = false\n`;

/** Whose table is one step: which of its keys there are is tested with it. */
const OTHER_PROVIDERS = BACKEND_PROVIDERS.filter((name) => !["mock", "openai", "module"].includes(name));
const IDS = [1, 2, 3, 4, 5, 6, 7, 8];
const GONE = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

/** A whole answer with an id, of some KiB; then what is told who comes back to its first event. */
async function resumed(daemon: TestDaemon, id: string): Promise<string> {
  const data = { stream_id: id, format: "openai" };
  using whole = daemon.handOff(data);
  assert.match(await whole.readAll(), /\[DONE\]\n\n$/);
  using rest = daemon.handOff({ ...data, last_event_id: "1" });
  return await rest.readAll();
}

/** By key, or by the table that is taken over as a whole. */
function keyTests(mock: MockLlm, folder: string): Readonly<Record<string, KeyTest>> {
  const ownBackend = `${folder}/own.ts`;
  Deno.writeTextFileSync(
    ownBackend,
    "export default ({ text }) => ({ stream: () => ReadableStream.from([text]) });",
  );
  const streamLines = (daemon: TestDaemon) => daemon.log.filter(({ part }) => part === "stream");
  return {
    "server.max_connections": {
      toml: "server.max_connections = 2\n" + NEVER,
      async check(clients, daemon) {
        for (const client of clients) await client.readUntil("Hello! ");
        using _second = daemon.handOff();
        using third = daemon.handOff();
        assert.match(await third.readAll(), /^HTTP\/1\.1 503 /);
      },
    },
    "server.handoff_timeout_secs": {
      toml: "server.handoff_timeout_secs = 0.05\n" + AT_ONCE,
      async check(_, daemon) {
        const timeouts = () => daemon.metric("daemon_handoffs_failed", { reason: "timeout" });
        const before = await timeouts();
        using _silent = connect(daemon.pathOf("stream"), "stream");
        await daemon.until("its time-out", async () => await timeouts() > before);
      },
    },
    "server.handoff_buffer_bytes": {
      toml: "server.handoff_buffer_bytes = 1024\n",
      data: { prompt: "x".repeat(2000) },
      check: answered(/^HTTP\/1\.1 413 /),
    },
    "server.write_timeout_secs": {
      toml: "server.write_timeout_secs = 0.1\n" + NEVER,
      full: true,
      async check(clients, daemon) {
        const givenUp = () =>
          streamLines(daemon).filter(({ fields }) => fields["reason"] === "write_timeout");
        await daemon.until("the log lines", () => givenUp().length === clients.length);
      },
    },
    "server.allowed_uids": {
      toml: "server.allowed_uids = [4294967294]\n",
      check: answered(/^HTTP\/1\.1 503 /),
    },
    "backend.provider": {
      toml: openai(mock),
      data: { test_pattern: "plain" },
      check: answered(/"word0 "/),
    },
    "backend.default_model": {
      toml: 'backend.default_model = "another"\n' + AT_ONCE,
      async check(clients, daemon) {
        for (const client of clients) await client.readAll();
        const others = () => streamLines(daemon).filter(({ fields }) => fields["model"] === "another");
        await daemon.until("the log lines", () => others().length === clients.length);
      },
    },
    "backend.timeout_secs": {
      toml: "backend.timeout_secs = 0.1\n" + NEVER,
      check: answered(/"Backend timeout"/),
    },
    "server.heartbeat_secs": {
      toml: "server.heartbeat_secs = 0.1\n" + NEVER,
      async check(clients) {
        for (const client of clients) await client.readUntil("\n\n:\n\n:\n\n");
      },
    },
    "server.max_stream_secs": {
      toml: "server.max_stream_secs = 0.1\n" + NEVER,
      check: answered(/"The answer took longer than is allowed"/),
    },
    "backend.request_members": {
      toml: 'backend.request_members = ["seed"]\n' + AT_ONCE,
      data: { request: { stop: "x" } },
      check: answered(/^HTTP\/1\.1 400 .*"request\.stop" is not among/s),
    },
    "backend.models": {
      toml: 'backend.models = ["mo"]\nbackends.other.models = ["m"]\n' + AT_ONCE,
      data: { model: "model" },
      async check(clients, daemon) {
        for (const client of clients) assert.match(await client.readAll(), /\[DONE\]\n\n$/);
        assert.equal(await daemon.metric("daemon_backend_requests", { backend: "other" }), 0);
      },
    },
    "backend.selectable": {
      toml: 'backend.selectable = ["other"]\nbackends.other.mock.token_delay_ms = 0\n' + NEVER,
      data: { backend: "other" },
      check: answered(/\[DONE\]\n\n$/),
    },
    "backend.fallback": {
      toml: 'backend.fallback = ["other"]\n' + openai(mock) + "backend.openai.max_retries = 0\n" +
        "backends.other.mock.token_delay_ms = 0\n",
      data: { test_pattern: "status-503" },
      check: answered(/DONE-CONTENT/),
    },
    "backend.fallback_after_secs": {
      toml: 'backend.fallback = ["other"]\nbackend.fallback_after_secs = 0.1\n' + openai(mock) +
        "backends.other.mock.token_delay_ms = 0\n",
      data: { test_pattern: "stall-head" },
      check: answered(/DONE-CONTENT/),
    },
    "backend.max_streams": {
      toml: "backend.max_streams = 1\nbackend.queue_secs = 0.1\n" + NEVER,
      async check(clients, daemon) {
        for (const client of clients) await client.readUntil("Hello! ");
        using more = daemon.handOff();
        assert.match(await more.readAll(), /^HTTP\/1\.1 503 /);
      },
    },
    "backend.queue_secs": {
      toml: "backend.max_streams = 1\nbackend.queue_secs = 0.2\n" + NEVER,
      async check(clients, daemon) {
        for (const client of clients) await client.readUntil("Hello! ");
        const before = await daemon.metric("daemon_backend_refused_total", { reason: "queue_timeout" });
        using more = daemon.handOff();
        assert.match(await more.readAll(), /^HTTP\/1\.1 503 /);
        assert.equal(
          await daemon.metric("daemon_backend_refused_total", { reason: "queue_timeout" }),
          before + 1,
        );
      },
    },
    "backend.queue_length": {
      toml: "backend.max_streams = 1\nbackend.queue_length = 0\n" + NEVER,
      async check(clients, daemon) {
        for (const client of clients) await client.readUntil("Hello! ");
        using more = daemon.handOff();
        assert.match(await more.readAll(), /^HTTP\/1\.1 503 /);
        assert(await daemon.metric("daemon_backend_refused_total", { reason: "queue_full" }) > 0);
      },
    },
    // Each worker sees for itself, and which one a client that comes late gets is open.
    "backend.circuit_failures": {
      toml: openai(mock) + "backend.openai.max_retries = 0\nbackend.circuit_failures = 1\n",
      data: { test_pattern: "status-503" },
      async check(clients, daemon) {
        for (const client of clients) assert.match(await client.readAll(), /^HTTP\/1\.1 50[23] /);
        await daemon.until("a 503", async () => {
          using more = daemon.handOff({ test_pattern: "status-503" });
          return (await more.readAll()).startsWith("HTTP/1.1 503 ");
        });
      },
    },
    "backend.circuit_within_secs": {
      toml: openai(mock) +
        "backend.openai.max_retries = 0\nbackend.circuit_failures = 2\nbackend.circuit_within_secs = 0.001\n",
      data: { test_pattern: "status-503" },
      async check(clients, daemon) {
        for (const client of clients) assert.match(await client.readAll(), /^HTTP\/1\.1 502 /);
        for (let count = 0; count < 3 * clients.length; count++) {
          await new Promise((resolve) => setTimeout(resolve, 5)); // longer than failures count together
          using more = daemon.handOff({ test_pattern: "status-503" });
          assert.match(await more.readAll(), /^HTTP\/1\.1 502 /);
        }
      },
    },
    "backend.circuit_pause_secs": {
      toml: openai(mock) +
        "backend.openai.max_retries = 0\nbackend.circuit_failures = 1\nbackend.circuit_pause_secs = 0.1\n",
      data: { test_pattern: "status-503" },
      async check(clients, daemon) {
        for (const client of clients) assert.match(await client.readAll(), /^HTTP\/1\.1 50[23] /);
        await daemon.until("an answer", async () => {
          using more = daemon.handOff({ test_pattern: "plain" });
          return (await more.readAll()).includes("word0 ");
        });
      },
    },
    "backend.module": {
      toml:
        `backend.provider = "module"\nbackend.module = { path = "${ownBackend}", options = { text = "own" } }\n`,
      check: answered(/{"content":"own"}\n\ndata: \[DONE\]\n\n$/),
    },
    "response.format": {
      toml: 'response.format = "ai-sdk"\n' + AT_ONCE,
      check: answered(/"type":"finish"/),
    },
    "response.include": {
      toml: openai(mock) + 'response.include = ["finish"]\n',
      data: { test_pattern: "plain" },
      check: answered(/event: finish\ndata: {"finish":"stop"}\n\n/),
    },
    // Streams with an id are at a worker by their id: these are at all.
    "resume.max_total_bytes": {
      toml: "resume.max_total_bytes = 0\n" + AT_ONCE,
      async check(_, daemon) {
        for (const id of IDS) assert.equal(await resumed(daemon, `total-${id}`), GONE);
        assert.equal(await daemon.metric("daemon_resume_bytes"), 0);
      },
    },
    "resume.max_stream_bytes": {
      toml: "resume.max_stream_bytes = 1024\n" + AT_ONCE,
      async check(_, daemon) {
        for (const id of IDS) assert.equal(await resumed(daemon, `stream-${id}`), GONE); // its beginning
      },
    },
    "resume.keep_secs": {
      toml: "resume.keep_secs = 0\n" + AT_ONCE,
      async check(_, daemon) {
        for (const id of IDS) assert.equal(await resumed(daemon, `keep-${id}`), GONE);
      },
    },
    "backend.mock.token_delay_ms": { toml: AT_ONCE, check: answered(/DONE-CONTENT[^]*\[DONE\]\n\n$/) },
    "backend.openai": {
      toml: openai(mock) + 'backend.openai.organization = "org"\nbackend.openai.body = { seed = 7 }\n',
      async check(clients) {
        for (const client of clients) await client.readAll();
        const asked = mock.requests.slice(-clients.length).map(({ headers, body }) => [
          headers["openai-organization"],
          body["seed"],
        ]);
        assert.deepEqual(asked, clients.map(() => ["org", 7]));
      },
    },
    ...Object.fromEntries(OTHER_PROVIDERS.map((provider) => {
      const table = `backend.${provider.replaceAll("-", "_")}`;
      const test: KeyTest = {
        toml:
          `backend.provider = "${provider}"\n${table}.api_base = "${mock.base}"\n${table}.http2 = false\n` +
          `${table}.headers = { x-reloaded = "${provider}" }\n`,
        async check(clients) {
          for (const client of clients) await client.readAll(); // whatever is made of another provider's words
          const asked = mock.requests.slice(-clients.length).map(({ headers }) => headers["x-reloaded"]);
          assert.deepEqual(asked, clients.map(() => provider));
        },
      };
      return [table, test];
    })),
    "metrics.models": {
      toml: openai(mock) + 'metrics.models = ["named"]\n',
      data: { model: "named", test_pattern: "plain" },
      async check(clients, daemon) {
        for (const client of clients) await client.readAll();
        const tokens = await daemon.metric("daemon_backend_tokens_total", {
          model: "named",
          direction: "input",
        });
        assert.equal(tokens, 7 * clients.length);
      },
    },
    "logging.level": {
      toml: 'logging.level = "warning"\nlogging.parts = { daemon = "info" }\n' + AT_ONCE,
      async check(clients, daemon) {
        const before = streamLines(daemon).length;
        for (const client of clients) await client.readAll();
        assert.equal(await daemon.metric("daemon_streams_active"), 0);
        assert.equal(streamLines(daemon).length, before);
      },
    },
    "logging.parts": {
      toml: 'logging.parts = { stream = "warning" }\n' + AT_ONCE,
      async check(clients, daemon) {
        const before = streamLines(daemon).length;
        for (const client of clients) await client.readAll();
        assert.equal(await daemon.metric("daemon_streams_active"), 0);
        assert.equal(streamLines(daemon).length, before);
      },
    },
    // The last one: it ends the daemon.
    "server.shutdown_timeout_secs": {
      toml: "server.shutdown_timeout_secs = 0\n" + NEVER,
      async check(clients, daemon) {
        for (const client of clients) await client.readUntil("Hello! ");
        daemon.signal("SIGTERM");
        await answered(/"Server is shutting down"/)(clients, daemon, mock);
        assert.equal(await daemon.exit(), 0);
      },
    },
  };
}

for (const workers of [1, 2]) {
  Deno.test(`SIGHUP: every key that needs no restart works (${workers} of ${workers} workers)`, async (t) => {
    await using mock = await mockLlm({ protocol: "h1" });
    await using started = await startWith("", { DAEMON_WORKERS: String(workers), OPENAI_API_KEY: "k" });
    const { daemon, write } = started;
    const tests = keyTests(mock, started.path.replace(/\/[^/]*$/, ""));
    const untested = allKeys().filter(({ path, key }) =>
      key.restart !== true && !Object.keys(tests).some((name) => path === name || path.startsWith(`${name}.`))
    );
    assert.deepEqual(untested.map(({ path }) => path), []);
    for (const [name, { toml, data = {}, full, check }] of Object.entries(tests)) {
      await t.step(name, async () => {
        write(toml);
        assert.equal((await reload(daemon))["error"], undefined);
        // A new client goes to the worker with the fewest: one for each.
        const clients = Array.from({ length: workers }, () => {
          const ends = pairEnds();
          if (full) fill(ends);
          return daemon.handOff(data, { ends });
        });
        await check(clients, daemon, mock);
        for (const client of clients) client.close();
        if (name !== "server.shutdown_timeout_secs") {
          await daemon.until("no client", async () => await daemon.metric("daemon_connections_active") === 0);
        }
      });
    }
  });
}

Deno.test("SIGHUP during the start: what was written meanwhile holds once it has started", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/daemon.toml`;
  Deno.writeTextFileSync(path, "[server]\nmax_connections = 1\n");
  await using daemon = spawnDaemon({
    unruly: true,
    args: [path],
    permissions: [`--allow-read=${folder.path},src`],
  });
  Deno.writeTextFileSync(`${daemon.folder}/wait-start`, "");
  await daemon.logged("Listening"); // so the file has been read
  Deno.writeTextFileSync(path, "[server]\nmax_connections = 2\n");
  daemon.signal("SIGHUP");
  Deno.removeSync(`${daemon.folder}/wait-start`);
  const { fields } = await daemon.logged("Configuration reloaded");
  assert.deepEqual(fields, { changed: ["server.max_connections"], need_restart: [] });
});

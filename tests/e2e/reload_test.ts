/** SIGHUP: a new configuration without a restart. */
import assert from "node:assert/strict";
import { TestFolder } from "../support/folders.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";

/** A daemon whose configuration the test writes. Its socket path and port come from the environment. */
async function startWith(
  toml: string,
  env: Readonly<Record<string, string>> = {},
): Promise<{ daemon: TestDaemon; write(toml: string): void } & AsyncDisposable> {
  const folder = new TestFolder();
  const path = `${folder.path}/daemon.toml`;
  const write = (toml: string) => Deno.writeTextFileSync(path, toml);
  write(toml);
  const daemon = await startDaemon({
    args: [path],
    permissions: [`--allow-read=${folder.path},src`],
    env: { DAEMON_TOKEN_DELAY_MS: undefined, ...env },
  });
  return {
    daemon,
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
});

Deno.test("SIGHUP: a raised buffer lets longer data in", async () => {
  await using started = await startWith(
    "[server]\nhandoff_buffer_bytes = 1024\n[backend.mock]\ntoken_delay_ms = 0\n",
  );
  const { daemon, write } = started;
  write("[server]\nhandoff_buffer_bytes = 1000000\n[backend.mock]\ntoken_delay_ms = 0\n");
  await reload(daemon);
  for (const bytes of [1100, 60_000, 70_000, 150_000]) {
    using client = daemon.handOff({ prompt: "x".repeat(bytes) });
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  }
});

Deno.test("SIGHUP: a broken file keeps the old configuration, key and value are named", async () => {
  await using started = await startWith("[backend.mock]\ntoken_delay_ms = 0\n");
  const { daemon, write } = started;
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
    using client = daemon.handOff();
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  }
  assert.equal(await (await daemon.page("/readyz")).text(), "ready\n");
});

Deno.test("SIGHUP: what needs a restart is named and stays", async () => {
  await using started = await startWith("");
  const { daemon, write } = started;
  write('[server]\nsocket_mode = "600"\n');
  assert.deepEqual(await reload(daemon), { changed: [], need_restart: ["server.socket_mode"] });
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
  await reload(daemon);
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

/** `tools/launch`, by which `deno task start` and the package's units run the program. */
import assert from "node:assert/strict";
import { launch } from "../support/launch.ts";
import { TestFolder } from "../support/folders.ts";
import { mockLlm } from "../support/mock_llm.ts";
import type { TestDaemon } from "../support/daemon.ts";

async function commandLine(daemon: TestDaemon): Promise<string[]> {
  return (await Deno.readTextFile(`/proc/${daemon.pid}/cmdline`)).split("\0").slice(0, -1);
}

Deno.test("the script becomes the daemon: its process, its signals, its exit code", async () => {
  await using daemon = launch([]);
  await daemon.logged("Taking handoffs");
  assert.equal((await commandLine(daemon))[0], Deno.execPath());
  const environment = (await Deno.readTextFile(`/proc/${daemon.pid}/environ`)).split("\0");
  assert(environment.includes("DENO_NO_UPDATE_CHECK=1"), "it would ask a host that nobody has named");
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a configuration that does not hold ends the script as it ends the daemon: with 2 and a line that says why", async () => {
  await using daemon = launch([], { DAEMON_WORKERS: "none" });
  assert.equal(await daemon.exit(), 2);
  assert.deepEqual(daemon.stderr, [
    'streaming-daemon-ts: environment DAEMON_WORKERS: server.workers = "none": expected "auto" or a whole number from 1 to 256',
  ]);
});

Deno.test("a variable that is misspelt is told of, and the daemon starts all the same", async () => {
  await using daemon = launch([], { DAEMON_WORKER: "1" });
  await daemon.logged("Taking handoffs");
  assert.equal(
    daemon.stderr[0],
    "streaming-daemon-ts: environment DAEMON_WORKER: unknown variable, which sets nothing; the nearest known one " +
      "is DAEMON_WORKERS",
  );
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a variable that is no text is named without its value, whatever the language", async () => {
  const cases: readonly [name: string, code: number, line: RegExp][] = [
    [
      "OPENAI_API_KEY",
      2,
      /^streaming-daemon-ts: environment OPENAI_API_KEY = \(hidden\): expected text in UTF-8\n$/,
    ],
    [
      "HTTPS_PROXY",
      2,
      /^streaming-daemon-ts: environment HTTPS_PROXY = \(hidden\): expected text in UTF-8\n$/,
    ],
    ["DAEMON_KEY", 0, /^streaming-daemon-ts: environment DAEMON_KEY: unknown variable, [^\n]*\n$/],
  ];
  for (const [name, expected, line] of cases) {
    const { code, stderr } = await new Deno.Command("sh", {
      args: ["-c", `${name}=$(printf 'a\\377geheim') tools/launch "$0" main.ts --check`, Deno.execPath()],
      cwd: new URL("../..", import.meta.url),
      env: { LC_ALL: "C.UTF-8", DAEMON_BACKEND_PROVIDER: "langgraph" },
    }).output();
    const text = new TextDecoder().decode(stderr);
    assert.equal(code, expected, text);
    assert.match(text, line);
    assert(!text.includes("geheim"), text);
  }
});

Deno.test("a configuration that can be read only once is refused, and not taken for an empty one", async () => {
  const { code, stdout, stderr } = await new Deno.Command("sh", {
    args: [
      "-c",
      'echo "server.workers = 3" | tools/launch "$0" main.ts --check /dev/fd/3 3<&0',
      Deno.execPath(),
    ],
    cwd: new URL("../..", import.meta.url),
  }).output();
  assert.deepEqual([code, new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)], [
    2,
    "",
    "streaming-daemon-ts: file /dev/fd/3: cannot read the configuration: " +
    "expected a regular file, which is read more than once\n",
  ]);
});

Deno.test("--check ends as the start does where a key's value alone does not show that it cannot be used", async (t) => {
  const openai = { DAEMON_BACKEND_PROVIDER: "openai", OPENAI_API_KEY: "k" };
  const redis = { DAEMON_RESUME_STORE: "redis", DAEMON_RESUME_REDIS_URL: "rediss://127.0.0.1:1" };
  const cases: readonly [env: Record<string, string>, line: RegExp][] = [
    [
      { ...openai, OPENAI_CA_FILE: "/none.pem" },
      /: backend\.openai\.ca_file \/none\.pem cannot be read: NotFound/,
    ],
    [
      { ...openai, OPENAI_HEADERS: '{"Host":"a"}' },
      /: backend\.openai\.headers has "Host", which the daemon sets/,
    ],
    [
      { ...redis, DAEMON_RESUME_REDIS_CA_FILE: "/none.pem" },
      /: resume\.redis_ca_file = "\/none\.pem": expected a file/,
    ],
    [
      { ...redis, DAEMON_RESUME_REDIS_CA_FILE: "deno.json" },
      /: resume\.redis_ca_file = "deno\.json": expected a file with certificates in PEM$/,
    ],
  ];
  for (const [env, line] of cases) {
    await t.step(Object.keys(env).at(-1) ?? "", async () => {
      for (const args of [[], ["--check"]]) {
        await using daemon = launch(args, env);
        assert.equal(await daemon.exit(), 2);
        assert.match(daemon.stderr[0] ?? "", line);
      }
    });
  }
});

Deno.test("the daemon gets what its configuration names and no more; another host takes a restart", async () => {
  await using provider = await mockLlm({ protocol: "h1", events: 3 });
  await using other = await mockLlm({ protocol: "h1", events: 3 });
  using folder = new TestFolder();
  const path = `${folder.path}/d 1.toml`;
  const configure = (base: string): void =>
    Deno.writeTextFileSync(
      path,
      `[backend]\nprovider = "openai"\n[backend.openai]\nhttp2 = false\napi_base = "${base}"\n`,
    );
  configure(provider.base);
  await using daemon = launch([path]);
  await daemon.logged("Taking handoffs");
  const hostOf = (base: string): string => new URL(base).host;
  const flags = await commandLine(daemon);
  assert(flags.includes(`--allow-net=127.0.0.1:0,${hostOf(provider.base)}`), flags.join(" "));
  assert(flags.includes(`--allow-read=${path},${new URL("../../src", import.meta.url).pathname}`));
  assert(!flags.some((flag) => /^--allow-(?:all|write|run|sys)|^-A/.test(flag)));

  configure(other.base);
  daemon.signal("SIGHUP");
  const { fields } = await daemon.logged("The new configuration does not hold, the old one stays");
  assert.match(
    JSON.stringify(fields),
    new RegExp(`it takes a restart: .* --allow-net=${hostOf(other.base)}`),
  );
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  assert.deepEqual([provider.requests.length, other.requests.length], [1, 0]);
});

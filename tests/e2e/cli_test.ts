/** The program as a command: exit codes, messages, the socket's file. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import { connect } from "../../src/native/sender.ts";
import { namesIn, TestFolder } from "../support/folders.ts";
import { spawnDaemon, startDaemon, startFlags } from "../support/daemon.ts";
import { daemonTests } from "../support/with_daemon.ts";

const decoder = new TextDecoder();

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** `try` opens the library that plays Apache, and not the shim. */
const TOOLS = "--allow-ffi=target/release/libstreaming_daemon_tools.so";

/** Runs the program to its end. */
async function run(
  args: readonly string[],
  { env = {}, read }: { env?: Record<string, string>; read?: string } = {},
): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      ...startFlags([
        ...(read === undefined ? [] : [`--allow-read=${read}`]),
        ...(args[0] === "try" ? [TOOLS] : []),
      ]),
      "main.ts",
      ...args,
    ],
    cwd: new URL("../..", import.meta.url),
    env: { DAEMON_METRICS_ENABLED: "false", DAEMON_WORKERS: "1", ...env },
    stdin: "null",
  }).output();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

const PREFIX = "streaming-daemon-ts: ";

Deno.test("--version and --help print and exit 0", async () => {
  const { version } = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  assert.deepEqual(await run(["--version"]), {
    code: 0,
    stdout: `streaming-daemon-ts ${version}\n`,
    stderr: "",
  });
  const help = await run(["--help"]);
  assert.deepEqual([help.code, help.stderr], [0, ""]);
  for (const flag of ["--socket", "--backend", "--debug", "--check", "--benchmark", "--version", "try"]) {
    assert(help.stdout.includes(flag), flag);
  }
});

Deno.test("each task says what it takes, and what it does not, under its own permissions", async () => {
  const run = async (...args: string[]): Promise<string> => {
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", ...args],
      cwd: new URL("../..", import.meta.url),
      env: { NO_COLOR: "1" },
    }).output();
    return decoder.decode(stdout) + decoder.decode(stderr);
  };
  for (const task of ["start", "try", "demo", "mock-llm", "bench"]) {
    assert.match(await run(task, "--help"), /^(Usage: .*|deno task bench) \[OPTIONS\]/i, task);
    const refusal = await run(task, "--sokcet");
    assert.match(refusal, /--sokcet/, task);
    assert.doesNotMatch(refusal, /NotCapable|\n {4}at /, task);
  }
});

Deno.test("bad flags exit 2 with the nearest one named", async () => {
  const { code, stdout, stderr } = await run(["--sokcet", "x"]);
  assert.deepEqual([code, stdout], [2, ""]);
  assert.match(stderr, /^error: unknown option '--sokcet'\n\(Did you mean --socket\?\)/);
});

Deno.test("--check prints the configuration as it would be used; with an error it exits 2", async () => {
  const good = await run(["--check", "--debug"], { env: { DAEMON_MAX_CONNECTIONS: "7" } });
  assert.deepEqual([good.code, good.stderr], [0, ""]);
  assert.match(good.stdout, /\nmax_connections = 7 # environment DAEMON_MAX_CONNECTIONS\n/);
  assert.match(good.stdout, /\nlevel = "debug" # flag --debug\n/);
  const bad = await run(["--check"], { env: { DAEMON_MAX_CONNECTIONS: "many" } });
  assert.deepEqual(bad, {
    code: 2,
    stdout: "",
    stderr: PREFIX +
      'environment DAEMON_MAX_CONNECTIONS: server.max_connections = "many": ' +
      "expected a whole number from 1 to 10000000\n",
  });
});

const BAD_FILES: readonly [name: string, toml: string, line: string][] = [
  [
    "an unknown key",
    "[server]\nmax_conections = 5\n",
    "file PATH: unknown key server.max_conections; the nearest known one is server.max_connections",
  ],
  [
    "a wrong type",
    '[server]\nmax_connections = "5"\n',
    'file PATH: server.max_connections = "5": expected a whole number from 1 to 10000000',
  ],
  ["bad TOML", "[server]\nmax_connections = = 5\n", "file PATH:2:19: not valid TOML: "],
  [
    "a path that is too long",
    `[server]\nsocket_path = "/${"x".repeat(107)}"\n`,
    `file PATH: server.socket_path = "/${"x".repeat(107)}": expected a path of at most 107 bytes`,
  ],
];

for (const [name, toml, line] of BAD_FILES) {
  Deno.test(`a file with ${name} is one clear line, exit 2`, async () => {
    using folder = new TestFolder();
    const path = `${folder.path}/daemon.toml`;
    await Deno.writeTextFile(path, toml);
    const { code, stdout, stderr } = await run([path], { read: folder.path });
    assert.deepEqual([code, stdout], [2, ""]);
    assert(stderr.startsWith(PREFIX + line.replace("PATH", path)), stderr);
    assert.equal(stderr.split("\n").length, 2, stderr);
  });
}

Deno.test("a file that is missing, or that the sandbox denies, is one clear line, exit 2", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/daemon.toml`;
  assert.deepEqual(await run([path], { read: folder.path }), {
    code: 2,
    stdout: "",
    stderr: `${PREFIX}file ${path}: cannot read the configuration: there is no such file\n`,
  });
  const denied = await run([path]);
  assert.equal(denied.code, 2);
  assert.match(denied.stderr, /: the sandbox denies it; start with --allow-read=\/.*\n$/);
});

Deno.test("a socket path that is taken is one clear line that names key, value and what is expected", async (t) => {
  await using daemon = await startDaemon();
  const { socketPath } = daemon;
  await t.step("by a daemon", async () => {
    for (const path of [socketPath, `${socketPath}.stream`]) {
      const { code, stderr } = await run(["--socket", path]);
      assert.equal(code, 1);
      assert.equal(
        stderr.split("\n").at(-2),
        `${PREFIX}server.socket_path = "${path}": cannot listen: another process listens there; ` +
          "expected a path that is free, or a socket that nobody listens on any more",
      );
    }
    using client = daemon.handOff();
    assert.match(await client.readAll(), /\[DONE\]/);
  });
  await t.step("by the other kind", async () => {
    const { code, stderr } = await run(["--socket", `${daemon.folder}/other.sock`], {
      env: { DAEMON_STREAM_SOCKET_PATH: socketPath },
    });
    assert.equal(code, 1);
    assert(
      stderr.includes(`${PREFIX}server.stream_socket_path = "${socketPath}": cannot listen: another`),
      stderr,
    );
    // What it had bound before is gone.
    assert.deepEqual(namesIn(daemon.folder), [
      "d.sock",
      "d.sock.stream",
    ]);
  });
  await t.step("by a file", async () => {
    const path = `${daemon.folder}/precious.txt`;
    await Deno.writeTextFile(path, "keep me");
    const { code, stderr } = await run(["--socket", path]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /server\.socket_path = ".*precious\.txt": cannot listen: something that is not a socket is there; /,
    );
    assert.equal(await Deno.readTextFile(path), "keep me");
  });
  await t.step("a folder that does not exist", async () => {
    const { code, stderr } = await run(["--socket", `${daemon.folder}/none/d.sock`]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /server\.socket_path = ".*none\/d\.sock": cannot listen: ENOENT, no such file or directory; /,
    );
  });
  await t.step("a group that does not exist", async () => {
    const { code, stderr } = await run(["--socket", `${daemon.folder}/g.sock`], {
      env: { DAEMON_SOCKET_GROUP: "no-such-group" },
    });
    assert.equal(code, 1);
    assert.match(stderr, /server\.socket_group = "no-such-group": /);
  });
});

Deno.test("a group that the daemon may not give its socket to is said so, and no socket stays", async () => {
  await using daemon = spawnDaemon({
    env: { DAEMON_SOCKET_GROUP: "nogroup" },
    // Root may give files to any group, but for this.
    wrapper: Deno.uid() === 0 ? ["setpriv", "--bounding-set=-chown"] : [],
  });
  assert.equal(await daemon.exit(), 1);
  assert.match(
    daemon.stderr.at(-1) ?? "",
    /^streaming-daemon-ts: server\.socket_group = "nogroup": cannot listen: /,
  );
  assert.deepEqual(namesIn(daemon.folder), []);
});

Deno.test("a port of the metrics that is taken is one clear line, and the sockets are gone again", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  await using daemon = spawnDaemon({ env: { DAEMON_METRICS_ADDR: `127.0.0.1:${port}` } });
  assert.equal(await daemon.exit(), 1);
  assert.equal(
    daemon.stderr.at(-1),
    `${PREFIX}metrics.listen_addr = "127.0.0.1:${port}": cannot listen: somebody listens there already; ` +
      "expected a free port",
  );
  assert.deepEqual(namesIn(daemon.folder), []);
  listener.close();
});

Deno.test("a stale socket is replaced; the mode is as configured; the path goes at the end", async () => {
  await using stale = await startDaemon();
  stale.signal("SIGKILL");
  await stale.exit();
  assert((await Deno.lstat(stale.socketPath)).isSocket);
  await using daemon = await startDaemon({
    env: { DAEMON_SOCKET_PATH: stale.socketPath, DAEMON_SOCKET_MODE: "0606" },
  });
  for (const path of [stale.socketPath, `${stale.socketPath}.stream`]) {
    assert.equal(((await Deno.lstat(path)).mode ?? 0) & 0o777, 0o606);
  }
  connect(stale.socketPath, "seqpacket").close();
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert.deepEqual(namesIn(stale.folder), []);
});

Deno.test("the path is left alone at the end if it is another's by now", async () => {
  await using daemon = await startDaemon();
  await Deno.remove(daemon.socketPath);
  await Deno.writeTextFile(daemon.socketPath, "another's");
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert.equal(await Deno.readTextFile(daemon.socketPath), "another's");
});

Deno.test("an empty stream_socket_path: only the SEQPACKET socket", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_STREAM_SOCKET_PATH: "" } });
  assert.deepEqual(namesIn(daemon.folder), ["d.sock"]);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]/);
});

Deno.test("metrics.enabled = false: nobody listens for scrapes, streams are served", async () => {
  // Whoever wants to listen there cannot.
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using daemon = await startDaemon({
    env: { DAEMON_METRICS_ENABLED: "false", DAEMON_METRICS_ADDR: `127.0.0.1:${taken.addr.port}` },
  });
  assert.equal((await daemon.logged("Taking handoffs")).fields["metrics"], undefined);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]\n\n$/);
});

Deno.test("--benchmark: no series of the workers on the page, a summary at the end", async () => {
  await using daemon = await startDaemon({ args: ["--benchmark"] });
  using client = daemon.handOff();
  const answer = await client.readAll();
  using refused = daemon.handOff(new TextEncoder().encode("[]")); // by a worker
  const told = await refused.readAll();
  using sender = connect(daemon.socketPath, "seqpacket");
  sender.send(new TextEncoder().encode("{}")); // without a client
  await daemon.logged("Handoff refused");
  const page = await (await daemon.page("/metrics")).text();
  // What only workers count; what the daemon itself counts is there.
  assert.doesNotMatch(page, /daemon_(handoffs_received|backend_|stream_duration|stream_events)/);
  assert.match(page, /^daemon_streams_peak /m);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  const { fields } = await daemon.logged("Benchmark");
  assert.deepEqual(fields, {
    connections: 2,
    streams: 1,
    failed_streams: 0,
    refused_handoffs: 2,
    rejected: 0,
    events: 18,
    bytes: answer.length + told.length,
  });
});

daemonTests("try", {}, {
  "try plays Apache over both kinds: the answer to stdout, times and counts to stderr, exit 0": async (
    daemon,
  ) => {
    const answer = mockPieces("Grüße")
      .join("");
    for (
      const args of [["--socket", daemon.socketPath], ["--socket", `${daemon.socketPath}.stream`, "--stream"]]
    ) {
      const { code, stdout, stderr } = await run(["try", ...args, "Grüße"]);
      assert.equal(code, 0, stderr);
      assert.equal(stdout, `${answer}\n`);
      assert.match(
        stderr,
        /^HTTP\/1\.1 200 OK; first byte after [\d.]+ ms, 19 events and \d+ bytes in [\d.]+ s \(/,
      );
    }
  },

  "try shows the answer in each format": async (daemon) => {
    for (const format of ["content", "openai", "ai-sdk"]) {
      const { code, stdout } = await run([
        "try",
        "--socket",
        daemon.socketPath,
        "--data",
        JSON.stringify({ prompt: "Hi", format }),
      ]);
      assert.deepEqual([code, stdout], [0, `${mockPieces("Hi").join("")}\n`], format);
    }
  },

  "try takes the socket's path from the configuration": async (daemon) => {
    const { code } = await run(["try", "--stream"], { env: { DAEMON_SOCKET_PATH: daemon.socketPath } });
    assert.equal(code, 0);
  },

  "try on a socket that the configuration does not have names the key and exits 2": async () => {
    assert.deepEqual(await run(["try", "--stream"], { env: { DAEMON_STREAM_SOCKET_PATH: "" } }), {
      code: 2,
      stdout: "",
      stderr: `${PREFIX}environment DAEMON_STREAM_SOCKET_PATH: server.stream_socket_path = "": ` +
        "expected a path, on which --stream asks\n",
    });
  },

  "try needs no provider's key, which the daemon's environment has": async (daemon) => {
    const env = {
      DAEMON_SOCKET_PATH: daemon.socketPath,
      DAEMON_BACKEND_PROVIDER: "openai",
      OPENAI_API_KEY: "",
    };
    assert.equal((await run(["try"], { env })).code, 0);
    const { code, stderr } = await run(["--check"], { env });
    assert.deepEqual([code, stderr.includes("expected a key for https://api.openai.com/v1")], [2, true]);
  },
  "try without a daemon, or on the socket of the other kind, says so and exits 1": async (daemon) => {
    assert.deepEqual(await run(["try", "--socket", `${daemon.folder}/none.sock`]), {
      code: 1,
      stdout: "",
      stderr: `${PREFIX}Cannot connect to ${daemon.folder}/none.sock: ENOENT, no such file or directory\n`,
    });
    const wrong = await run(["try", "--socket", daemon.socketPath, "--stream"]);
    assert.equal(wrong.code, 1);
    assert.match(wrong.stderr, /EPROTOTYPE/);
  },

  "try shows an answer that is no stream, and exits 1": async (daemon) => {
    const { code, stdout, stderr } = await run([
      "try",
      "--socket",
      daemon.socketPath,
      "--data",
      '{"prompt":1}',
    ]);
    assert.deepEqual([code, stdout], [1, 'Field "prompt" is 1, expected a string\n']);
    assert.match(stderr, /^HTTP\/1\.1 400 Bad Request; /);
  },
});

Deno.test("try into a pipe that nobody reads any more ends quietly, exit 1", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "100" } });
  const tried = new Deno.Command(Deno.execPath(), {
    args: ["run", ...startFlags([TOOLS]), "main.ts", "try", "--socket", daemon.socketPath],
    cwd: new URL("../..", import.meta.url),
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const reader = tried.stdout.getReader();
  await reader.read();
  await reader.cancel();
  assert.equal(await new Response(tried.stderr).text(), "");
  assert.equal((await tried.status).code, 1);
});

/** Two workers in isolates of their own. */
import assert from "node:assert/strict";
import { ShimError } from "../../src/errors.ts";
import { pairEnds, tcpEnds, type TestClient } from "../support/clients.ts";
import { TestFolder } from "../support/folders.ts";
import { spawnDaemon, startDaemon } from "../support/daemon.ts";
import { mockLlm } from "../support/mock_llm.ts";

/** Fits into handoff data; one character beyond Latin-1 makes V8 keep two bytes for each. */
const LARGE_PROMPT = "\u{43f}" + "x".repeat(120_000);

const EPIPE = -32;

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

Deno.test("a worker whose heap runs full is replaced; the other's streams do not notice", async () => {
  await using mock = await mockLlm({ protocol: "h2c", events: 10_000, delayMs: 20, maxStreams: 2000 });
  await using daemon = await startDaemon({
    ...two({
      DAEMON_BACKEND_PROVIDER: "openai",
      OPENAI_API_BASE: mock.base,
      DAEMON_SHUTDOWN_TIMEOUT_SECS: "0",
    }),
    permissions: ["--v8-flags=--max-semi-space-size=16,--max-old-space-size=96"],
  });
  // The id that a worker makes tells which one it is.
  const isAtFirst = (prompt: string): boolean => {
    const request = mock.requests.find(({ body }) => (body["messages"] as Message[])[0]?.content === prompt);
    return String(request?.headers["x-request-id"]).includes("-0-");
  };
  // Some streams that go on and on, a word each 20 ms, and many of one word and then silence.
  const opened = Array.from({ length: 800 }, (_, index) => {
    const prompt = `${index}`;
    const goesOn = index < 4;
    const client = daemon.handOff({ prompt, test_pattern: goesOn ? "plain" : "stall-1" });
    return { prompt, goesOn, client };
  });
  for (const { client } of opened) await client.readUntil("word0 ");
  const others = opened.filter(({ prompt }) => !isAtFirst(prompt));
  let lastWord = Infinity;
  const heard: number[] = [];
  const followed = others.filter(({ goesOn }) => goesOn).map(async ({ client }, index) => {
    for (let word = 0; word < lastWord; word++) {
      await client.readUntil(`data: {"content":"word${word} "}\n\n`);
      heard[index] = word;
    }
  });
  assert(followed.length > 0);
  // A new client goes to the worker that has fewer: once the first one's are gone, as many are all for it. A stream
  // keeps its prompt, so each is a piece of the heap.
  for (const { prompt, client } of opened) if (isAtFirst(prompt)) client.close();
  await daemon.until(
    "the first worker without clients",
    async () => await daemon.metric("daemon_connections_active") === others.length,
  );
  const large: TestClient[] = [];
  const oneMore = async (): Promise<boolean> => {
    const prompt = `${large.length} ${LARGE_PROMPT}`;
    const ends = pairEnds();
    large.push(ends.near);
    try {
      daemon.handOff({ prompt, test_pattern: "stall-1" }, { ends });
    } catch (error) {
      assert(error instanceof ShimError && error.status === EPIPE, `${error}`); // the dying one had accepted it
      ends.near.close();
      large.pop();
      return false;
    }
    if (await ends.near.read() === undefined) return false; // it was closed with its worker
    if (isAtFirst(prompt)) return true;
    large.pop()?.close(); // its worker had died, and had no successor yet
    return false;
  };
  while (await oneMore()) assert(large.length < others.length, "the heap is not full yet");
  const { level, fields } = await daemon.logged("Worker died");
  assert.deepEqual([level, fields["worker"]], ["error", 0]);
  assert.match(
    (fields["error"] as Error).message,
    /: The heap is full: \d\d MiB of 96 MiB are in use after a collection; raise the limit with --v8-flags/,
  );
  // Cut off, without a word about it.
  for (const client of large) {
    const rest = await client.readAll();
    assert(!rest.includes("error") && !rest.includes("[DONE]"), rest);
    client.close();
  }
  // All others are there, those that go on do so, nothing but one death is in the log, and there is a successor.
  await daemon.until("a client of the successor", async () => {
    const prompt = `after ${mock.requests.length}`;
    using client = daemon.handOff({ prompt, test_pattern: "stall-1" });
    await client.readUntil("word0 ");
    return isAtFirst(prompt);
  });
  lastWord = Math.max(...heard) + 50;
  await Promise.all(followed);
  assert.equal(await daemon.metric("daemon_worker_restarts_total"), 1);
  assert.equal(daemon.log.filter(({ level }) => level !== "info").length, 1);
  daemon.signal("SIGTERM");
  for (const { client } of others) {
    assert((await client.readAll()).endsWith('data: {"error":"Server is shutting down"}\n\n'));
    client.close();
  }
  assert.equal(await daemon.exit(), 0);
});

interface Message {
  readonly content: string;
}

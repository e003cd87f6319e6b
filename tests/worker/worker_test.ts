import assert from "node:assert/strict";
import { planBackends } from "../../src/backend/mod.ts";
import { ConfigError, ShimError } from "../../src/errors.ts";
import { openFds } from "../../src/native/process.ts";
import { closeReactor, makeReactor } from "../../src/native/reactor.ts";
import { StreamGauge } from "../../src/ops/metrics/stream_gauge.ts";
import { Homes } from "../../src/worker/homes.ts";
import { Worker } from "../../src/worker/worker.ts";
import { TestAcceptor, testConfig } from "../support/acceptor.ts";
import { fill, pairEnds, type TestClient } from "../support/clients.ts";
import { listLog, type LoggedLine } from "../support/connections.ts";
import { renderedSnapshot } from "../support/metrics.ts";
import { mockLlm } from "../support/mock_llm.ts";
import { until } from "../support/until.ts";
import { plainResponse } from "../support/wire.ts";

const NOW = AbortSignal.abort();

/** What a configuration has that asks such a provider. */
const askedAt = ({ base }: { readonly base: string }): Readonly<Record<string, string>> => ({
  DAEMON_BACKEND_PROVIDER: "openai",
  OPENAI_API_BASE: base,
  OPENAI_API_KEY: "k",
});
const never = new AbortController().signal;
const SLOW = { DAEMON_TOKEN_DELAY_MS: "3600000" };
const DONE = "data: [DONE]\n\n";
const TOLD = 'data: {"error":"Server is shutting down"}\n\n';

interface Fixture extends AsyncDisposable {
  readonly acceptor: TestAcceptor;
  readonly worker: Worker;
  /** The reactor's handle. */
  readonly reactor: number;
  readonly lines: LoggedLine[];
  metric(name: string): Promise<number | undefined>;
}

/** As of two workers, one of which has all streams. */
function homesOf(reactor: number): SharedArrayBuffer {
  const memory = Homes.allocate(2);
  for (const worker of [0, 1]) new Homes(memory).set(worker, reactor);
  return memory;
}

async function fixture(
  env: Readonly<Record<string, string>> = {},
  { benchmark = false, policy = {} }: {
    benchmark?: boolean;
    policy?: ConstructorParameters<typeof TestAcceptor>[0];
  } = {},
): Promise<Fixture> {
  const acceptor = new TestAcceptor(policy);
  const lines: LoggedLine[] = [];
  const config = await testConfig({ DAEMON_TOKEN_DELAY_MS: "1", ...env });
  const reactor = makeReactor(acceptor.acceptor.handle);
  const worker = new Worker({
    index: 3,
    workers: 4,
    homes: homesOf(reactor),
    config: await planBackends(config),
    reactor,
    streams: StreamGauge.allocate(4),
    benchmark,
  }, listLog(lines));
  return {
    acceptor,
    worker,
    reactor,
    lines,
    metric: async (name) => (await renderedSnapshot(await worker.metrics())).get(name)?.series.get(name),
    [Symbol.asyncDispose]: () => acceptor[Symbol.asyncDispose](),
  };
}

Deno.test("a worker serves handoffs, counts them, and drains", async () => {
  await using it = await fixture();
  using client = it.acceptor.handOff();
  const answer = await client.readAll();
  assert(answer.endsWith(DONE));
  await it.acceptor.drain();
  await it.worker.drain(10_000, never);
  await it.worker.ended;
  assert.equal(await it.metric("daemon_handoffs_received"), 1);
  assert.equal(await it.metric("daemon_stream_bytes_sent"), answer.length);
  assert.match(it.lines[0]?.fields["request_id"] as string, /^[0-9a-f]{8}-3-1$/);
});

Deno.test("of what may be kept of streams with an id, a worker has its part", async () => {
  for (const [bytes, status] of [["3000", "204 No Content"], ["8000", "200 OK"]] as const) {
    await using it = await fixture({ DAEMON_RESUME_MAX_TOTAL_BYTES: bytes });
    using client = it.acceptor.handOff({ stream_id: "s" });
    await client.readAll();
    using again = it.acceptor.handOff({ stream_id: "s", last_event_id: "1" });
    assert((await again.readAll()).startsWith(`HTTP/1.1 ${status}\r\n`), bytes);
    await it.acceptor.drain();
    await it.worker.drain(0, NOW);
  }
});

Deno.test("a drain waits for the streams, those in the backlog included", async () => {
  await using it = await fixture({ DAEMON_TOKEN_DELAY_MS: "5" });
  const clients = Array.from({ length: 50 }, () => it.acceptor.handOff());
  it.acceptor.blockUntilActive(50); // none was handed on yet
  it.acceptor.acceptor.stop(false);
  const drained = it.worker.drain(60_000, never);
  for (const client of clients) assert((await client.readAll()).endsWith(DONE));
  await drained;
  assert(it.lines.every(({ message }) => message === "Stream complete"));
  for (const client of clients) client.close();
});

Deno.test("a drain ends early when it is told to, and tells the streams", async () => {
  await using it = await fixture(SLOW);
  using client = it.acceptor.handOff();
  await client.readUntil("Hello! ");
  await it.acceptor.drain();
  const now = new AbortController();
  const drained = it.worker.drain(3_600_000, now.signal);
  now.abort();
  assert((await client.readAll()).endsWith(TOLD));
  await drained;
  assert(it.lines.some(({ message }) => message === "Streams left at the end of the drain are told so"));
});

Deno.test("who comes while a drain tells the last ones is told as well: 503", async () => {
  await using it = await fixture(SLOW);
  using running = it.acceptor.handOff();
  await running.readUntil("Hello! ");
  // One that does not take its last words holds the drain for a second.
  const ends = pairEnds();
  fill(ends);
  using stuck = it.acceptor.handOff({}, ends);
  it.acceptor.blockUntilActive(2);
  const drained = it.worker.drain(0, NOW);
  assert((await running.readAll()).endsWith(TOLD));
  const newcomers = Array.from({ length: 3 }, () => it.acceptor.handOff());
  for (const client of newcomers) {
    assert.equal(await client.readAll(), plainResponse(503, "Server is shutting down"));
    client.close();
  }
  await drained;
  stuck.close();
});

Deno.test("a client that takes nothing does not hold up a drain for ever", async () => {
  await using it = await fixture(SLOW);
  const ends = pairEnds();
  fill(ends);
  using _client = it.acceptor.handOff({}, ends);
  await it.acceptor.drain();
  const startedMs = performance.now();
  await it.worker.drain(0, NOW);
  assert(performance.now() - startedMs < 10_000);
  assert.deepEqual(it.lines.map(({ message, fields }) => [message, fields["streams"] ?? fields["reason"]]), [
    ["Streams left at the end of the drain are told so", 1],
    ["Clients that did not take their last words are closed", 1],
    ["Stream ended early", "shutdown"],
  ]);
});

Deno.test("a refused handoff's client is told why", async () => {
  await using it = await fixture({}, { policy: { handoffBufferBytes: 100 } });
  using client = it.acceptor.handOff({ prompt: "x".repeat(200) });
  assert.equal(await client.readAll(), plainResponse(413, "Handoff data is too long"));
  await it.acceptor.drain();
  await it.worker.drain(10_000, never);
  assert.deepEqual(it.acceptor.refusals.map(({ reason, count }) => [reason, count]), [[
    "payload_truncated",
    1,
  ]]);
  assert.equal(await it.metric("daemon_handoffs_received"), 0);
});

Deno.test("a handoff beyond the limit is answered 503 and counted", async () => {
  await using it = await fixture(SLOW, { policy: { maxConnections: 1 } });
  using running = it.acceptor.handOff();
  await running.readUntil("Hello! ");
  using client = it.acceptor.handOff();
  assert.equal(await client.readAll(), plainResponse(503, "Too many connections"));
  assert.equal(await it.metric("daemon_connections_rejected_total"), 1);
  await it.worker.drain(0, NOW);
});

Deno.test("a reload holds for connections from then on; those that run keep their backend", async () => {
  await using it = await fixture({ DAEMON_TOKEN_DELAY_MS: "20" });
  using running = it.acceptor.handOff();
  await running.readUntil("Hello! ");
  it.worker.reload(await testConfig({ DAEMON_TOKEN_DELAY_MS: "0" }));
  using next = it.acceptor.handOff();
  assert((await next.readAll()).endsWith(DONE));
  assert((await running.readAll()).endsWith(DONE), "undisturbed");
  it.worker.reload(await testConfig(SLOW));
  using last = it.acceptor.handOff();
  await last.readUntil("Hello! ");
  await it.acceptor.drain();
  await it.worker.drain(0, NOW);
  assert((await last.readAll()).endsWith(TOLD));
  await it.worker.ended;
});

Deno.test("a reload closes the backend that it replaces, with its connections to the provider", async () => {
  // Over HTTP/2, whose server closes no idle connection by itself.
  await using provider = await mockLlm({ protocol: "h2c" });
  await using it = await fixture(askedAt(provider));
  using client = it.acceptor.handOff();
  assert((await client.readAll()).endsWith(DONE));
  assert.equal(await it.metric("daemon_upstream_connections"), 1);
  const before = openFds();
  it.worker.reload(await testConfig());
  await until("the connection's end", () => openFds() <= before - 1);
  await it.worker.drain(0, NOW);
});

Deno.test("a backend that a reload replaced is counted: its connections until they end, its counters for ever", async () => {
  await using provider = await mockLlm({ protocol: "h2c", delayMs: 20 });
  await using it = await fixture(askedAt(provider));
  const figures = (): Promise<(number | undefined)[]> =>
    Promise.all(
      ["streams", "connections", "connections_opened_total"].map((name) =>
        it.metric(`daemon_upstream_${name}`)
      ),
    );
  using client = it.acceptor.handOff();
  await client.readUntil("data: ");
  it.worker.reload(await testConfig());
  assert.deepEqual(await figures(), [1, 1, 1]);
  const before = openFds();
  assert((await client.readAll()).endsWith(DONE));
  await until("the connection's end", () => openFds() <= before - 1);
  assert.deepEqual(await figures(), [0, 0, 1]);
  it.worker.reload(
    await planBackends(
      await testConfig(askedAt(provider)),
    ),
  );
  using next = it.acceptor.handOff();
  assert((await next.readAll()).endsWith(DONE));
  assert.equal(await it.metric("daemon_upstream_connections_opened_total"), 2);
  await it.worker.drain(0, NOW);
});

Deno.test("a drain tells the streams of every backend that there ever was", async () => {
  await using it = await fixture(SLOW);
  const clients: TestClient[] = [];
  for (const ms of ["3599997", "3599998", "3599999"]) {
    clients.push(it.acceptor.handOff());
    await clients.at(-1)?.readUntil("Hello! ");
    it.worker.reload(await testConfig({ DAEMON_TOKEN_DELAY_MS: ms }));
  }
  await it.acceptor.drain();
  await it.worker.drain(0, NOW);
  for (const client of clients) {
    assert((await client.readAll()).endsWith(TOLD));
    client.close();
  }
});

Deno.test("a configuration that makes no backend starts no worker, leaves nothing, and changes nothing in a reload", async () => {
  await using it = await fixture();
  const bad = await testConfig({ DAEMON_BACKEND_PROVIDER: "openai", OPENAI_API_KEY: "k" });
  const openai = { ...bad.backend.openai, apiBase: "x" };
  const config = { ...bad, backend: { ...bad.backend, openai, template: { url: "http://x/", headers: [] } } };
  const init = {
    index: 0,
    workers: 1,
    homes: Homes.allocate(1),
    config,
    reactor: makeReactor(it.acceptor.acceptor.handle),
    benchmark: true,
  };
  const before = openFds();
  assert.throws(() => new Worker({ ...init, streams: StreamGauge.allocate(1) }, listLog([])), ConfigError);
  assert.equal(openFds(), before);
  // Twice: the first attempt is not taken for what holds.
  for (let attempt = 0; attempt < 2; attempt++) assert.throws(() => it.worker.reload(config), ConfigError);
  using client = it.acceptor.handOff();
  assert((await client.readAll()).endsWith(DONE));
  await it.worker.drain(0, NOW);
});

Deno.test("a worker whose reactor fails ends with the reason", async () => {
  await using it = await fixture();
  const failed = assert.rejects(it.worker.ended, /A thread of the shim ended by itself/);
  closeReactor(it.reactor);
  await failed;
});

Deno.test("a drain ends when the reactor fails, by the reason that the worker ended for", async () => {
  await using it = await fixture(SLOW);
  using client = it.acceptor.handOff();
  await client.readUntil("Hello! ");
  closeReactor(it.reactor);
  const drained = it.worker.drain(3_600_000, NOW).catch((error: unknown) => error);
  const ended = it.worker.ended.catch((error: unknown) => error);
  assert((await ended) instanceof ShimError);
  assert.equal(await drained, await ended);
});

Deno.test("with benchmark only sums are counted", async () => {
  await using it = await fixture({}, { benchmark: true });
  using client = it.acceptor.handOff();
  await client.readAll();
  await it.acceptor.drain();
  await it.worker.drain(10_000, never);
  const sums = Object.fromEntries(
    (await it.worker.metrics()).map(({ name, values }) => [name, values[0]?.value]),
  );
  assert.deepEqual([sums["connections"], sums["streams"], sums["events"]], [1, 1, 18]);
});

/** Limits of a backend in the running daemon: places, queue, and one that is left alone. */
import assert from "node:assert/strict";
import { fill, pairEnds } from "../support/clients.ts";
import { mockLlm } from "../support/mock_llm.ts";
import { HELLO, told, UNAVAILABLE } from "../support/openai_daemon.ts";
import { ask, openaiBackend, startSite } from "../support/several_backends.ts";
import { plainResponse } from "../support/wire.ts";

const BUSY = plainResponse(503, "Backend is busy");
const limited = (provider: { readonly base: string }, more: string): string =>
  'backend.selectable = ["a"]\n' + openaiBackend("a", provider, more);

Deno.test("no more than max_streams are at the provider, the others wait in turns of their users, and all are answered", async () => {
  const gate = Promise.withResolvers<void>();
  await using a = await mockLlm({ protocol: "h1", gate: gate.promise });
  await using site = await startSite(limited(a, "max_streams = 2"), { DAEMON_LOG: "backend=debug" });
  const { daemon } = site;
  const first = ["x", "x"].map((user_id) => daemon.handOff({ backend: "a", user_id, test_pattern: "gate" }));
  await a.received(2);
  const users = ["x", "x", "x", "y", "z", "y"];
  const waiting = [];
  for (const [index, user_id] of users.entries()) {
    waiting.push(daemon.handOff({ backend: "a", user_id, model: `${user_id}${index}` }));
    await daemon.until(
      "it waits",
      async () => await daemon.metric("daemon_backend_waiting", { backend: "a" }) === index + 1,
    );
  }
  assert.equal(await daemon.metric("daemon_streams_active"), 8);
  assert.match(await ask(site), /DONE-CONTENT/); // another backend does not notice
  gate.resolve();
  for (const client of [...first, ...waiting]) {
    assert.match(await client.readAll(), /^HTTP\/1\.1 200 [^]*\[DONE\]\n\n$/);
  }
  for (const client of [...first, ...waiting]) client.close();
  assert.equal(a.counts.peakStreams, 2);
  // The daemon's own order: requests on two connections may well reach the provider in another one.
  const asked = () =>
    daemon.log.filter(({ message, fields }) => message === "Backend asked" && fields["backend"] === "a")
      .map(({ fields }) => fields["model"]);
  await daemon.until("all are told of", () => asked().length === 8);
  assert.deepEqual(asked().slice(2), ["x0", "y3", "z4", "x1", "y5", "x2"]);
  assert.equal(await daemon.metric("daemon_backend_waiting", { backend: "a" }), 0);
  assert.equal(await daemon.metric("daemon_backend_refused_total"), 0);
});

Deno.test("a client that leaves gives up its place in the queue, one that waits too long is told 503 with Retry-After", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(limited(a, "max_streams = 1\nqueue_secs = 3"));
  const { daemon } = site;
  using running = daemon.handOff({ backend: "a", test_pattern: "stall-1" });
  await running.readUntil("word0 ");
  const leaving = daemon.handOff({ backend: "a" });
  const waits = (count: number) =>
    daemon.until(
      `${count} wait`,
      async () => await daemon.metric("daemon_backend_waiting", { backend: "a" }) === count,
    );
  await waits(1);
  leaving.close();
  await waits(0);
  assert.equal(await ask(site, { backend: "a", request_id: "r-1" }), BUSY);
  assert.match(BUSY, /\r\nRetry-After: 5\r\n/);
  const refused = { backend: "a", reason: "queue_timeout" };
  assert.equal(await daemon.metric("daemon_backend_refused_total", refused), 1);
  assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "backend_busy" }), 1);
  assert.equal((await daemon.logged("Backend not asked")).fields["request_id"], "r-1");
  assert.equal(a.requests.length, 1);
  running.close();
  assert.equal(await ask(site, { backend: "a" }), HELLO);
});

Deno.test("two workers share max_streams; a reload that raises it lets in those that wait, and keeps those that are in", async () => {
  const gate = Promise.withResolvers<void>();
  await using a = await mockLlm({ protocol: "h1", gate: gate.promise });
  await using site = await startSite(limited(a, "max_streams = 3"), { DAEMON_WORKERS: "2" });
  const { daemon } = site;
  const clients = Array.from({ length: 8 }, () => daemon.handOff({ backend: "a", test_pattern: "gate" }));
  await a.received(3);
  const waiting = () => daemon.metric("daemon_backend_waiting", { backend: "a" });
  await daemon.until("five wait", async () => await waiting() === 5);
  assert.equal(a.counts.peakStreams, 3);
  await site.reload(limited(a, "max_streams = 6"));
  await a.received(6);
  await daemon.until("two wait", async () => await waiting() === 2);
  assert.equal(a.counts.peakStreams, 6);
  gate.resolve();
  for (const client of clients) {
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
    client.close();
  }
  assert.equal(a.counts.peakStreams, 6);
  assert.equal(a.requests.length, 8);
});

Deno.test("a flood of one user does not keep others out, whatever its clients do", async () => {
  await using a = await mockLlm({ protocol: "h1", events: 2, delayMs: 1 });
  await using site = await startSite(limited(a, "max_streams = 4\nqueue_length = 50"));
  const { daemon } = site;
  const flood = Array.from({ length: 300 }, (_, index) => {
    const ends = pairEnds();
    if (index % 3 === 0) fill(ends); // takes nothing
    const client = daemon.handOff({ backend: "a", user_id: "flood", test_pattern: "slow-head-20" }, { ends });
    if (index % 3 === 1) client.close();
    return client;
  });
  const modest = await Promise.all(
    Array.from({ length: 10 }, (_, index) => ask(site, { backend: "a", user_id: `u${index}` })),
  );
  for (const answer of modest) assert.match(answer, /^HTTP\/1\.1 200 [^]*\[DONE\]\n\n$/);
  for (const client of flood) client.close();
  await daemon.until("no stream", async () => await daemon.metric("daemon_streams_active") === 0);
  assert.equal(await daemon.metric("daemon_backend_waiting", { backend: "a" }), 0);
  assert.equal(await ask(site, { backend: "a" }), told("word0 ", "word1 "));
});

Deno.test("a provider that fails is left alone, seen in metrics and log, and asked again once it answers", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(
    limited(a, "circuit_failures = 2\ncircuit_pause_secs = 3") + "[backends.b]\n",
  );
  const { daemon } = site;
  const open = () => daemon.metric("daemon_backend_circuit_open", { backend: "a" });
  assert.equal(await open(), 0);
  for (let count = 0; count < 2; count++) {
    assert.equal(await ask(site, { backend: "a", test_pattern: "status-503" }), UNAVAILABLE);
  }
  assert.equal(await ask(site, { backend: "a" }), BUSY);
  assert.equal(await open(), 1);
  assert.equal(a.requests.length, 2);
  const { level, fields } = await daemon.logged("Backend fails and is left alone");
  assert.deepEqual([level, fields], ["warning", { backend: "a", failures: 2, pause_ms: 3000 }]);
  assert.equal(
    await daemon.metric("daemon_backend_refused_total", { backend: "a", reason: "circuit_open" }),
    1,
  );
  await daemon.until("an answer", async () => await ask(site, { backend: "a" }) === HELLO);
  await daemon.logged("Backend answers again");
  assert.equal(await open(), 0);
  // Of those without limits there is nothing to tell.
  const page = await (await daemon.page("/metrics")).text();
  assert.doesNotMatch(page, /daemon_backend_(waiting|circuit_open)\{[^}]*"(mock|b)"/);
});

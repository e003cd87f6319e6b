/** Many streams from a provider that lets few run on one connection: the real daemon and the stand-in. */
import assert from "node:assert/strict";
import type { TestClient } from "../support/clients.ts";
import { openaiDaemon, told } from "../support/openai_daemon.ts";

const STREAMS = 3_000;
const STREAMS_PER_CONNECTION = 100;
const WORDS = 4;
const DELAY_MS = 50;

Deno.test(`openai: ${STREAMS} streams at ${STREAMS_PER_CONNECTION} per connection all run at once, and end whole`, async () => {
  const gate = Promise.withResolvers<void>();
  await using both = await openaiDaemon("h2", {
    env: { DAEMON_BACKEND_TIMEOUT_SECS: "60" },
    mock: {
      maxStreams: STREAMS_PER_CONNECTION,
      events: WORDS,
      delayMs: DELAY_MS,
      gate: gate.promise,
    },
  });
  const { mock, daemon } = both;
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  const clients: TestClient[] = [];
  for (let i = 0; i < STREAMS; i++) {
    clients.push(daemon.handOff({ prompt: "the same for all", test_pattern: "gate" }));
    // Now and then the provider, which is in this process, has its turn.
    if (i % 50 === 0) await new Promise((next) => setTimeout(next, 0));
  }
  // None can end before the gate is open, so that one which waits for another's end waits for ever.
  await daemon.until(
    `${STREAMS} streams at once`,
    async () => await daemon.metric("daemon_upstream_streams") === STREAMS && mock.counts.streams === STREAMS,
  );
  for (const client of clients) await client.readUntil("first ");
  assert.equal(await daemon.metric("daemon_streams_active"), STREAMS);
  assert.equal(await daemon.metric("daemon_upstream_waiting"), 0);
  assert.ok(mock.counts.connections >= STREAMS / STREAMS_PER_CONNECTION);

  gate.resolve();
  const expected = told("first ", ...Array.from({ length: WORDS }, (_, i) => `word${i} `));
  let unfinished = 0;
  for (const client of clients) {
    if (await client.readAll() !== expected) unfinished++;
    client.close();
  }
  assert.equal(unfinished, 0);
  assert.equal(mock.counts.resets, 0);
  assert.equal(await daemon.metric("daemon_backend_errors"), 0);
  assert.equal(await daemon.metric("daemon_upstream_streams"), 0);
  await daemon.fdsBackTo(fds + mock.counts.connections); // which are kept for the next ones
});

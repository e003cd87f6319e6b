/** LiteLLM's proxy between the daemon and its provider: `deno task test:llm`. */
import assert from "node:assert/strict";
import { startDaemon, type TestDaemon } from "../../support/daemon.ts";
import { LITELLM_KEY, startLiteLlm } from "../../support/llm_servers.ts";
import { mockLlm } from "../../support/mock_llm.ts";
import { answer, broken, HELLO, UNAVAILABLE } from "../../support/openai_daemon.ts";
import { answers, askMany } from "../../support/many_clients.ts";

const STREAMS = 500;

/** What is asked, what the user gets, and what the log says of it. */
const FAILURES: readonly (readonly [pattern: string, model: string, answer: string, logged: string])[] = [
  ["status-429", "mock", UNAVAILABLE, "the provider answered 429 litellm.RateLimitError: .* a made-up 429"],
  [
    "status-500",
    "mock",
    UNAVAILABLE,
    "the provider answered 500 litellm.InternalServerError: .* a made-up 500",
  ],
  ["plain", "unknown", UNAVAILABLE, "the provider answered 400 .*Invalid model name passed in model=unknown"],
  ["plain", "dead", UNAVAILABLE, "the provider answered 500 .*Connection error"],
  ["error-2", "mock", broken(["word0 ", "word1 "]), "the provider reports: .*The server had an error"],
  ["abort-2", "mock", broken(["word0 ", "word1 "]), "the provider reports: .*Connection error"],
  ["badjson-2", "mock", broken(["word0 ", "word1 "]), "the provider reports: .*Expecting value"],
];

Deno.test(`litellm: failures, a limit of its own, keep-alive, and its end with ${STREAMS} streams`, async (t) => {
  await using mock = await mockLlm({ protocol: "h1", gate: new Promise(() => {}) });
  await using server = await startLiteLlm(mock.port);
  await using daemon: TestDaemon = await startDaemon({
    env: {
      DAEMON_BACKEND_PROVIDER: "openai",
      DAEMON_DEFAULT_MODEL: "mock",
      OPENAI_API_KEY: LITELLM_KEY,
      OPENAI_API_BASE: server.base,
      OPENAI_HTTP2_ENABLED: "false",
    },
  });
  const fds = daemon.openFds();

  await t.step("each failure comes as what it is", async () => {
    for (const [pattern, model, expected, logged] of FAILURES) {
      assert.equal(await answer(daemon, pattern, { model }), expected, pattern);
      await daemon.until(
        `${pattern} in the log`,
        () => daemon.stderr.some((line) => line.match(logged) !== null),
      );
    }
  });

  await t.step("of a model that takes one request a minute the second is refused", async () => {
    assert.equal(await answer(daemon, "plain", { model: "limited" }), HELLO);
    assert.equal(await answer(daemon, "plain", { model: "limited" }), UNAVAILABLE);
    await daemon.until(
      "the limit in the log",
      () => daemon.stderr.some((line) => line.includes("RPM limit=1")),
    );
  });

  // A request that crosses the close of a connection that idled is tried again.
  await t.step("all at once, twice, and before the second time it has closed what idles", async () => {
    for (let wave = 0; wave < 2; wave++) {
      assert.deepEqual(await answers(await askMany(daemon, STREAMS, { test_pattern: "plain" })), {
        [HELLO]: STREAMS,
      });
      await daemon.until(
        "the server to close what idles",
        async () => await daemon.metric("daemon_upstream_connections") === 0,
      );
    }
  });

  await t.step("what runs when it dies is told so, and what comes once it is back is answered", async () => {
    const clients = await askMany(daemon, STREAMS, { test_pattern: "gate" });
    for (const client of clients) await client.readUntil("first ");
    await server.stop("SIGKILL");
    assert.deepEqual(await answers(clients), { [broken(["first "])]: STREAMS });
    await server.start();
    assert.equal(await answer(daemon, "plain"), HELLO);
    // A server may end its answer after the last event.
    await daemon.until("no stream is left", async () => await daemon.metric("daemon_upstream_streams") === 0);
    assert.equal(await daemon.metric("daemon_upstream_waiting"), 0);
  });

  await t.step("no descriptor is left over", async () => {
    await daemon.until(
      "the server to close what idles",
      async () => await daemon.metric("daemon_upstream_connections") === 0,
    );
    await daemon.fdsBackTo(fds + 1); // and one of the tests' own client for its metrics
  });
});

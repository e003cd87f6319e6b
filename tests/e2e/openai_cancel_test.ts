/** Clients of the OpenAI backend that go away: the real daemon and the stand-in provider, over each protocol. */
import assert from "node:assert/strict";
import { PROTOCOLS } from "../support/backend_rig.ts";
import type { TestClient } from "../support/clients.ts";
import { answer, HELLO, openaiDaemon, told } from "../support/openai_daemon.ts";

for (const protocol of PROTOCOLS) {
  Deno.test(`openai over ${protocol}: a client that goes away ends its request within a second, and no other`, async (t) => {
    const gate = Promise.withResolvers<void>();
    await using both = await openaiDaemon(protocol, {
      env: { DAEMON_BACKEND_TIMEOUT_SECS: "60", OPENAI_MAX_RETRIES: "2" },
      mock: { gate: gate.promise },
    });
    const { mock, daemon } = both;
    const cancelled = () => daemon.metric("daemon_upstream_cancelled_total");
    const triesOf = (id: string) =>
      mock.requests.filter(({ headers }) => headers["x-request-id"] === id).length;

    // Under way all the time, on the connection that the others are on, where one carries several.
    using bystander = daemon.handOff({ prompt: "x", test_pattern: "gate" });
    await bystander.readUntil("first ");
    assert.equal(await answer(daemon, "plain"), HELLO);
    const connections = mock.counts.connections;

    let [gone, resets] = [0, 0];
    const goes = async (client: TestClient, requestEnds: boolean): Promise<void> => {
      const startMs = performance.now();
      client.close();
      gone++;
      if (requestEnds) resets++;
      await daemon.until(
        "the request's end",
        async () => mock.counts.resets === resets && await cancelled() === gone,
      );
      const tookMs = performance.now() - startMs;
      assert.ok(tookMs < 1_000, `after ${tookMs} ms`);
      assert.equal(
        await daemon.metric("daemon_stream_errors_total", { reason: "client_disconnected" }),
        gone,
      );
      assert.equal(await daemon.metric("daemon_streams_active"), 1);
      assert.equal(await answer(daemon, "plain"), HELLO);
    };
    await t.step("while waiting for the head", async () => {
      const client = daemon.handOff({ prompt: "x", test_pattern: "stall-head", request_id: "headless" });
      await daemon.until("the request", () => triesOf("headless") === 1);
      await goes(client, true);
    });
    await t.step("in the stream", async () => {
      const client = daemon.handOff({ prompt: "x", test_pattern: "stall-2" });
      await client.readUntil("word1 ");
      await goes(client, true);
    });
    // Nothing is on its way then, over whichever protocol.
    if (protocol === "h2") {
      await t.step("in the pause before another try, which does not come", async () => {
        const client = daemon.handOff({
          prompt: "x",
          test_pattern: "retry-after-2-times-1",
          request_id: "paused",
        });
        await daemon.until(
          "the pause",
          async () => await daemon.metric("daemon_upstream_retries_total") === 1,
        );
        await goes(client, false);
        // Whose pause began later and is longer.
        assert.equal(await answer(daemon, "retry-after-3-times-1", { request_id: "later" }), HELLO);
        assert.deepEqual([triesOf("paused"), triesOf("later")], [1, 2]);
      });
    }
    await t.step("the one beside them comes to its end, and no connection was lost", async () => {
      gate.resolve();
      assert.equal(
        await bystander.readAll(),
        told("first ", "word0 ", "word1 ", "word2 ", "word3 ", "word4 "),
      );
      assert.equal(mock.counts.resets, 2);
      // A request over HTTP/1.1 can be cancelled with its connection only.
      if (protocol !== "h1") assert.equal(mock.counts.connections, connections);
    });
    assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "client_disconnected" }), gone);
  });
}

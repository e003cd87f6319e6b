/** A worker without room for more turns newcomers away and serves those whom it has. */
import assert from "node:assert/strict";
import type { TestClient } from "../support/clients.ts";
import { startDaemon, startFlags } from "../support/daemon.ts";
import { mockLlm } from "../support/mock_llm.ts";
import { watched } from "../support/with_daemon.ts";

/** Fits into handoff data; one character beyond Latin-1 makes V8 keep two bytes for each. */
const LARGE_PROMPT = "\u{43f}" + "x".repeat(120_000);
const HEAP_MIB = 96;
const MORE_THAN_FITS = 1000;
const BATCH = 10;
const BUSY = /^HTTP\/1\.1 503 Service Unavailable\r\n[^]*\r\nRetry-After: \d+\r\n[^]*\r\n\r\n[^]+\n$/;

for (const workers of [1, 2]) {
  Deno.test({
    name: `${workers} worker(s): without room on the heap newcomers are told 503, and later ones are served`,
    timeout: 120_000,
    async fn() {
      const gate = Promise.withResolvers<void>();
      await using mock = await mockLlm({ protocol: "h1", gate: gate.promise });
      const v8Flags = startFlags().find((flag) => flag.startsWith("--v8-flags=")) ?? "--v8-flags=";
      await using daemon = await startDaemon({
        permissions: [`${v8Flags},--max-old-space-size=${HEAP_MIB}`],
        env: {
          DAEMON_WORKERS: `${workers}`,
          DAEMON_BACKEND_PROVIDER: "openai",
          OPENAI_API_BASE: mock.base,
          OPENAI_API_KEY: "key",
          OPENAI_HTTP2_ENABLED: "false",
        },
      });
      await watched(daemon, async () => {
        const turnedAway = () => daemon.metric("daemon_connections_rejected_total");
        using early = daemon.handOff({ prompt: "early", test_pattern: "gate" });
        await early.readUntil("first ");

        const held: TestClient[] = [];
        try {
          while (await turnedAway() === 0) {
            assert(held.length < workers * MORE_THAN_FITS, "the heap is never full");
            for (let count = 0; count < BATCH; count++) {
              held.push(daemon.handOff({ prompt: LARGE_PROMPT, test_pattern: "stall-head" }));
            }
            await daemon.until(
              "an answer or a request for each",
              async () => mock.requests.length - 1 + await turnedAway() >= held.length,
            );
          }
          // A collection may make some room, so that one or the other is still served.
          let told = "";
          for (let newcomers = 0; newcomers < 50 && !told.startsWith("HTTP/1.1 503"); newcomers++) {
            using newcomer = daemon.handOff({ prompt: LARGE_PROMPT, test_pattern: "plain" });
            told = await newcomer.readAll();
          }
          assert.match(told, BUSY);
          const { level, fields } = await daemon.logged(/^The heap is nearly full, no new clients for now; /);
          assert.equal(level, "warning");
          // V8 adds the room for what is young.
          const limitMib = fields["limit_mib"] as number;
          assert(limitMib >= HEAP_MIB && limitMib < 2 * HEAP_MIB, `${limitMib} MiB`);
        } finally {
          for (const client of held) client.close();
        }

        await daemon.until("room", async () => {
          using newcomer = daemon.handOff({ prompt: "later", test_pattern: "plain" });
          const told = await newcomer.readAll();
          assert.match(told, /^HTTP\/1\.1 (200|503) /);
          return told.endsWith("data: [DONE]\n\n");
        });
        gate.resolve();
        assert.match(await early.readAll(), /\[DONE\]\n\n$/);
        assert.equal(await daemon.metric("daemon_worker_restarts_total"), 0);
        daemon.signal("SIGTERM");
        assert.equal(await daemon.exit(), 0, daemon.stderr.join("\n"));
      });
    },
  });
}

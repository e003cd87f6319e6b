/** Every fault that a provider can have, all at once and at load, while others have their answers from another one. */
import assert from "node:assert/strict";
import { mockLlm } from "../support/mock_llm.ts";
import { startSite } from "../support/several_backends.ts";
import { watched } from "../support/with_daemon.ts";
import { again, DELAY_MS, SETUP, underAttack } from "./under_attack.ts";

/** By what the client has to see. */
const FAULTS: Readonly<Record<string, readonly string[]>> = {
  "HTTP/1.1 502 Bad Gateway\r\n": [
    "status-500",
    "status-429",
    "status-401",
    "html",
    "json",
    "json-error",
    "gzip",
    "redirect-302",
    "reset-head",
  ],
  "HTTP/1.1 504 Gateway Timeout\r\n": ["stall-head"],
  'data: {"error":"Backend error"}\n\n': ["abort-2", "error-2", "badjson-2", "nofinish-2", "hugeline"],
  'data: {"error":"Backend timeout"}\n\n': ["stall-2"],
  "data: [DONE]\n\n": ["plain", "quirks", "bytes", "open-end", "pieces-4096"],
};
const AT_ONCE = 10;

for (const protocol of ["h2c", "h1"] as const) {
  Deno.test(`providers: every fault at once over ${protocol}`, { timeout: 120_000 }, async () => {
    await using hostile = await mockLlm({ protocol, events: 18, delayMs: DELAY_MS });
    await using site = await startSite(
      `backend.selectable = ["hostile"]
      [backends.hostile]
      provider = "openai"
      timeout_secs = 1
      [backends.hostile.openai]
      api_base = "${hostile.base}"
      http2 = ${protocol === "h2c"}
      max_retries = 0`,
      SETUP.env,
    );
    const { daemon } = site;
    await watched(daemon, async () => {
      const { outcome, counted } = await underAttack(daemon, async () => {
        const seen = { failed: 0, whole: 0 };
        const ask = async (pattern: string, says: string): Promise<void> => {
          using client = daemon.handOff({ backend: "hostile", prompt: "Hello", test_pattern: pattern });
          const answer = await client.readAll();
          assert(answer.startsWith(says) || answer.endsWith(says), `${pattern}: ${answer.slice(0, 2000)}`);
          seen[says.includes("[DONE]") ? "whole" : "failed"]++;
        };
        await Promise.all(
          Object.entries(FAULTS).flatMap(([says, patterns]) =>
            patterns.flatMap((pattern) =>
              Array.from({ length: AT_ONCE }, () => again(() => ask(pattern, says)))
            )
          ),
        );
        return seen;
      });
      assert(outcome.whole > 0);
      assert.equal(counted("daemon_backend_errors"), outcome.failed);
      for (
        const kind of [
          "rate_limited",
          "auth",
          "server_error",
          "malformed",
          "truncated",
          "stream_error",
          "timeout",
        ]
      ) {
        assert(counted("daemon_backend_errors", `kind="${kind}"`) > 0, kind);
      }
    });
  });
}

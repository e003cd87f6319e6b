/** The provider anthropic over the real daemon and the stand-in. */
import assert from "node:assert/strict";
import { answer, broken, HELLO, openaiDaemon } from "../support/openai_daemon.ts";
import { type ProviderCase, providerTests } from "../support/provider_tests.ts";

const ANTHROPIC: ProviderCase = {
  name: "anthropic",
  variables: "ANTHROPIC",
  path: "/v1",
  reasons: {
    end_turn: "stop",
    stop_sequence: "stop",
    max_tokens: "length",
    model_context_window_exceeded: "length",
    tool_use: "tool_calls",
    refusal: "content_filter",
    pause_turn: "pause_turn",
  },
  missing: /the stream ended before message_stop and any stop reason/,
  wholeWithoutMark: true,
  kinds: { error: "server_error", overloaded: "server_error", "rate-limit": "rate_limited" },
};

providerTests(ANTHROPIC);

Deno.test("anthropic: what a handoff asks goes out in its words", async () => {
  await using both = await openaiDaemon("h1", {
    provider: ANTHROPIC,
    env: {
      ANTHROPIC_MAX_TOKENS: "99",
      ANTHROPIC_HEADERS: '{"Anthropic-Beta":"files-api-2025-04-14"}',
      ANTHROPIC_BODY: '{"top_k":5}',
    },
  });
  assert.equal(await answer(both.daemon, "plain", { system: "Be brief.", model: "claude" }), HELLO);
  const [{ path, headers, body } = { path: "", headers: {}, body: {} }] = both.mock.requests;
  assert.equal(path, "/v1/messages");
  assert.equal((headers as Record<string, unknown>)["anthropic-version"], "2023-06-01");
  assert.equal((headers as Record<string, unknown>)["anthropic-beta"], "files-api-2025-04-14");
  assert.deepEqual(body, {
    max_tokens: 99,
    top_k: 5,
    model: "claude",
    system: [{ type: "text", text: "Be brief." }],
    messages: [{ role: "user", content: "Hello" }],
    stream: true,
  });
});

Deno.test("anthropic: what cannot be said to it asks nobody, and is told", async () => {
  await using both = await openaiDaemon("h1", { provider: ANTHROPIC });
  const calls = [{ id: "c", type: "function", function: { name: "f", arguments: "{" } }];
  const messages = [{ role: "user", content: "x" }, { role: "assistant", content: null, tool_calls: calls }];
  assert.match(await answer(both.daemon, "plain", { messages }), /^HTTP\/1\.1 502 /);
  const { fields } = await both.daemon.logged("Backend failed");
  assert.equal(fields["kind"], "bad_request");
  assert.match(JSON.stringify(fields), /messages\[1\]\.tool_calls\[0\]\.function\.arguments is not JSON/);
  assert.equal(both.mock.requests.length, 0);
});

Deno.test("anthropic: what an answer has cost by the time that its connection breaks is counted", async () => {
  await using both = await openaiDaemon("h1", { provider: ANTHROPIC });
  assert.equal(await answer(both.daemon, "abort-2"), broken(["word0 ", "word1 "]));
  const { fields } = await both.daemon.logged("Stream ended early");
  assert.deepEqual([fields["input_tokens"], fields["output_tokens"]], [7, 1]);
});

/** The provider openai-responses over the real daemon and the stand-in. */
import assert from "node:assert/strict";
import { answer, HELLO, openaiDaemon } from "../support/openai_daemon.ts";
import { type ProviderCase, providerTests } from "../support/provider_tests.ts";

const RESPONSES: ProviderCase = {
  name: "openai-responses",
  variables: "OPENAI_RESPONSES",
  path: "/v1",
  reasons: { max_output_tokens: "length", content_filter: "content_filter", "": "stop" },
  missing: /the stream ended before the response did/,
  wholeWithoutMark: false,
  kinds: { error: "server_error", overloaded: "server_error", "rate-limit": "rate_limited" },
};

providerTests(RESPONSES);

Deno.test("openai-responses: what a handoff asks goes out in its words", async () => {
  await using both = await openaiDaemon("h1", {
    provider: RESPONSES,
    env: { OPENAI_RESPONSES_BODY: '{"service_tier":"flex"}', OPENAI_RESPONSES_ORG_ID: "org-1" },
  });
  const data = { system: "Be brief.", model: "o4", max_tokens: 9 };
  assert.equal(await answer(both.daemon, "plain", data), HELLO);
  const [request] = both.mock.requests;
  assert.equal(request?.path, "/v1/responses");
  assert.equal(request?.headers["openai-organization"], "org-1");
  assert.deepEqual(request?.body, {
    store: false,
    service_tier: "flex",
    model: "o4",
    max_output_tokens: 9,
    instructions: "Be brief.",
    input: [{ role: "user", content: "Hello" }],
    stream: true,
  });
});

/** The stand-in speaks each provider's language as the provider's own SDK expects it. */
import Anthropic from "@anthropic-ai/sdk";
import assert from "node:assert/strict";
import { type MockLlm, mockLlm } from "../support/mock_llm.ts";
import { UNICODE_TEXTS } from "../support/mock_llm_patterns.ts";

const ZURICH = { city: "Zürich" };

function anthropic(mock: MockLlm, pattern: string): Anthropic {
  return new Anthropic({
    apiKey: "none",
    baseURL: new URL("/", mock.base).href,
    maxRetries: 0,
    logLevel: "off",
    defaultHeaders: { "x-test-pattern": pattern },
  });
}
const ASKED = { model: "claude", max_tokens: 100, messages: [{ role: "user" as const, content: "Hello" }] };

Deno.test("mock-llm: @anthropic-ai/sdk reads its streams", async (t) => {
  await using mock = await mockLlm({ protocol: "h1" });
  await t.step("text, thinking, a citation, calls, usage", async () => {
    const message = await anthropic(mock, "agent").messages.stream(ASKED).finalMessage();
    assert.deepEqual(
      message.content.map((block) =>
        block.type === "thinking"
          ? block.thinking
          : block.type === "text"
          ? [block.text, block.citations?.map((each) => "url" in each && each.url)]
          : block.type === "tool_use" && [block.id, block.name, block.input]
      ),
      [
        "Let me think. 🤔",
        ["It is sunny.", ["https://weather.example/"]],
        ["call_a", "weather", ZURICH],
        ["call_b", "time", {}],
      ],
    );
    assert.equal(message.stop_reason, "tool_use");
    assert.deepEqual([message.usage.input_tokens, message.usage.output_tokens], [4, 22]);
  });
  await t.step("characters cut at each byte", async () => {
    assert.equal(await anthropic(mock, "bytes").messages.stream(ASKED).finalText(), UNICODE_TEXTS.join(""));
  });
  await t.step("an error in the stream", async () => {
    await assert.rejects(
      anthropic(mock, "overloaded-1").messages.stream(ASKED).finalMessage(),
      (error) => error instanceof Anthropic.APIError && error.type === "overloaded_error",
    );
  });
  await t.step("a status", async () => {
    await assert.rejects(
      anthropic(mock, "status-529").messages.stream(ASKED).finalMessage(),
      (error) =>
        error instanceof Anthropic.APIError && error.status === 529 && error.type === "overloaded_error",
    );
    await assert.rejects(
      anthropic(mock, "status-429").messages.stream(ASKED).finalMessage(),
      Anthropic.RateLimitError,
    );
  });
  await t.step("a stream that is cut", async () => {
    await assert.rejects(anthropic(mock, "abort-2").messages.stream(ASKED).finalMessage());
  });
});

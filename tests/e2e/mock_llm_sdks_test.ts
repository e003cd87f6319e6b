/** The stand-in speaks each provider's language as the provider's own SDK expects it. */
import Anthropic from "@anthropic-ai/sdk";
import assert from "node:assert/strict";
import OpenAI from "openai";
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

Deno.test("mock-llm: openai reads its responses", async (t) => {
  await using mock = await mockLlm({ protocol: "h1" });
  const responses = (pattern: string) =>
    new OpenAI({
      apiKey: "none",
      baseURL: mock.base,
      maxRetries: 0,
      logLevel: "off",
      defaultHeaders: { "x-test-pattern": pattern },
    }).responses;
  const asked = { model: "o4", input: "Hello" };
  await t.step("text, reasoning, a citation, calls, usage", async () => {
    const response = await responses("agent").stream(asked).finalResponse();
    assert.deepEqual(
      response.output.map((item) =>
        item.type === "reasoning"
          ? item.summary.map(({ text }) => text)
          : item.type === "message"
          ? item.content.map((part) => part.type === "output_text" && [part.text, part.annotations.length])
          : item.type === "function_call" && [item.call_id, item.name, JSON.parse(item.arguments)]
      ),
      [
        ["Let me think. 🤔"],
        [["It is sunny.", 1]],
        ["call_a", "weather", ZURICH],
        ["call_b", "time", {}],
      ],
    );
    assert.equal(response.status, "completed");
    assert.deepEqual([response.usage?.input_tokens, response.usage?.output_tokens], [7, 22]);
  });
  await t.step("its helper puts the pieces together to what the end says", async () => {
    const stream = responses("agent").stream(asked);
    let text = "";
    let calls = "";
    stream.on("response.output_text.delta", ({ delta, snapshot }) => {
      text += delta;
      assert.equal(snapshot, text);
    });
    stream.on("response.function_call_arguments.delta", ({ delta }) => calls += delta);
    await stream.finalResponse();
    assert.deepEqual([text, calls], ["It is sunny.", '{"city":"Zürich"}{}']);
  });
  await t.step("characters cut at each byte", async () => {
    const { output_text: text } = await responses("bytes").stream(asked).finalResponse();
    assert.equal(text, UNICODE_TEXTS.join(""));
  });
  await t.step("an answer that is too long", async () => {
    const response = await responses("finish-max_output_tokens").create({ ...asked, stream: true });
    const types: string[] = [];
    for await (const { type } of response) types.push(type);
    assert.equal(types.at(-1), "response.incomplete");
  });
  await t.step("failures in the stream, in either form", async () => {
    const last = async (pattern: string) => {
      let event: OpenAI.Responses.ResponseStreamEvent | undefined;
      for await (event of await responses(pattern).create({ ...asked, stream: true }));
      return event;
    };
    const failed = await last("error-1");
    assert.equal(failed?.type === "response.failed" && failed.response.error?.code, "server_error");
    await assert.rejects(last("overloaded-1"), OpenAI.APIError);
  });
  await t.step("a status", async () => {
    await assert.rejects(responses("status-429").create({ ...asked, stream: true }), OpenAI.RateLimitError);
  });
});

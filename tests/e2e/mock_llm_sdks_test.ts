/** The stand-in speaks each provider's language as the provider's own SDK expects it. */
import Anthropic from "@anthropic-ai/sdk";
import { Client } from "@langchain/langgraph-sdk/client";
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

Deno.test("mock-llm: @langchain/langgraph-sdk reads its runs", async (t) => {
  await using mock = await mockLlm({ protocol: "h1" });
  const runs = (pattern: string) =>
    new Client({
      apiUrl: new URL("/", mock.base).href.replace(/\/$/, ""),
      apiKey: null,
      callerOptions: { maxRetries: 0 },
      defaultHeaders: { "x-test-pattern": pattern },
    }).runs;
  const asked = {
    input: { messages: [{ role: "user", content: "Hello" }] },
    streamMode: "messages-tuple" as const,
    onDisconnect: "cancel" as const,
  };
  const textOf = async (events: AsyncIterable<{ readonly event: string; readonly data: unknown }>) => {
    let text = "";
    const names = new Set<string>();
    for await (const { event, data } of events) {
      names.add(event);
      if (event !== "messages") continue;
      const [{ type, content }] = data as [{ type: string; content: unknown }];
      if (type === "AIMessageChunk" && typeof content === "string") text += content;
    }
    return [text, [...names]];
  };
  await t.step("a run of its own, and one on a thread", async () => {
    const expected = ["It is sunny.", ["metadata", "messages", "end"]];
    assert.deepEqual(await textOf(runs("agent").stream(null, "agent", asked)), expected);
    assert.deepEqual(await textOf(runs("agent").stream("t", "agent", asked)), expected);
    const [own, threaded] = mock.requests;
    assert.deepEqual([own?.path, threaded?.path], ["/runs/stream", "/threads/t/runs/stream"]);
    // What the SDK sends is what the daemon sends, but for the list that a mode may be in.
    assert.deepEqual(own?.body, {
      input: asked.input,
      assistant_id: "agent",
      stream_mode: "messages-tuple",
      on_disconnect: "cancel",
    });
  });
  await t.step("one that is joined", async () => {
    const options = { streamMode: "messages-tuple" as const, lastEventId: "-1" };
    const [text] = await textOf(runs("plain").joinStream("t", "r", options));
    assert.equal(text, "word0 word1 word2 word3 word4 ");
    const joined = mock.requests.at(-1);
    assert.deepEqual([joined?.method, joined?.headers["last-event-id"]], ["GET", "-1"]);
    assert.equal(joined?.path, "/threads/t/runs/r/stream?cancel_on_disconnect=0&stream_mode=messages-tuple");
  });
  await t.step("characters cut at each byte", async () => {
    assert.equal((await textOf(runs("bytes").stream(null, "agent", asked)))[0], UNICODE_TEXTS.join(""));
  });
  await t.step("an error in the stream, and a status", async () => {
    const [, names] = await textOf(runs("error-1").stream(null, "agent", asked));
    assert.deepEqual(names, ["metadata", "messages", "error"]);
    await assert.rejects(textOf(runs("status-404").stream(null, "agent", asked)), /404/);
  });
});

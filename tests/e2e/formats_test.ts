/**
 * The formats over the real daemon and the stand-in provider: byte for byte, and as the packages read them that pages
 * use: `ai` (its version 5, of which the format is, and 7) and `openai`. They get their responses from the front, which
 * hands their sockets over.
 */
import assert from "node:assert/strict";
import {
  AbstractChat,
  DefaultChatTransport,
  readUIMessageStream,
  type UIMessage,
  type UIMessageChunk,
} from "ai";
import * as ai7 from "ai7";
import OpenAI from "openai";
import { Front } from "../../demo/front.ts";
import { startDaemon } from "../support/daemon.ts";
import { AGENT_CHUNKS, chunk, finish, sse, text, usage } from "../support/mock_llm_patterns.ts";
import { answer, HELLO, openaiDaemon, type Pair, type PairSetup } from "../support/openai_daemon.ts";
import { plainResponse, streamHead } from "../support/wire.ts";

const ALL = ["usage", "finish", "reasoning", "tool_calls"];
const WEATHER = { city: "Zürich" };

/** Daemon, provider and front. */
async function behindFront(setup: PairSetup = {}): Promise<Pair & { readonly url: string }> {
  await using started = new AsyncDisposableStack();
  const both = started.use(await openaiDaemon("h1", setup));
  const front = started.use(await Front.start({ port: 0, socketPath: both.daemon.socketPath, lanes: 0 }));
  const all = started.move();
  return { ...both, url: front.url, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

Deno.test("openai: each chunk as the provider sent it", async () => {
  await using both = await openaiDaemon("h1");
  const { daemon } = both;
  const told = (...chunks: readonly string[]): string =>
    streamHead("") + [...chunks, "[DONE]"].map(sse).join("");
  const counts = AGENT_CHUNKS.at(-1) as string;
  assert.equal(await answer(daemon, "agent", { format: "openai" }), told(...AGENT_CHUNKS.slice(0, -1)));
  assert.equal(
    await answer(daemon, "agent", { format: "openai", include: ["usage"] }),
    told(...AGENT_CHUNKS.slice(0, -1), counts),
  );
  const role = chunk([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }]);
  const words = ["word0 ", "word1 ", "word2 ", "word3 ", "word4 "].map(text);
  assert.equal(
    await answer(daemon, "plain", { format: "openai", include: ["usage"], request_id: "r" }),
    told(role, ...words, finish("stop"), usage(7, 5)),
  );
  // The log and the metrics know of it what they know otherwise.
  const lines = () => daemon.log.filter(({ fields }) => fields["request_id"] === "r");
  await daemon.until("the log line", () => lines().length > 0);
  const [line] = lines();
  assert.equal(await daemon.metric("daemon_backend_tokens_total", { direction: "output" }), 22 + 22 + 5);
  assert.deepEqual([line?.fields["finish_reason"], line?.fields["events"]], ["stop", 8]);
});

Deno.test("response.format is for handoffs that do not say", async () => {
  await using both = await openaiDaemon("h1", { env: { DAEMON_RESPONSE_FORMAT: "openai" } });
  assert.equal(await answer(both.daemon, "plain"), await answer(both.daemon, "plain", { format: "openai" }));
  assert.equal(await answer(both.daemon, "plain", { format: "content" }), HELLO);
});

/** An OpenAI client whose requests are the front's; the response is read as it comes. */
function openaiClient(url: string, data: Readonly<Record<string, unknown>>): OpenAI {
  return new OpenAI({
    apiKey: "none",
    baseURL: url,
    maxRetries: 0,
    fetch: () =>
      fetch(`${url}/stream`, { method: "POST", body: JSON.stringify({ format: "openai", ...data }) }),
  });
}
const ASKED: OpenAI.ChatCompletionCreateParamsStreaming = { model: "m", messages: [], stream: true };

Deno.test("openai: the package's stream reader has every chunk, its helper the whole completion", async () => {
  await using all = await behindFront({ env: { DAEMON_HEARTBEAT_SECS: "0.02" }, mock: { delayMs: 60 } });
  const agent = openaiClient(all.url, { test_pattern: "agent", include: ["usage"] });
  const chunks: unknown[] = [];
  for await (const chunk of await agent.chat.completions.create(ASKED)) chunks.push(chunk);
  assert.deepEqual(chunks, AGENT_CHUNKS.map((each) => JSON.parse(each)));

  const { choices: [choice], usage } = await agent.chat.completions.stream({ model: "m", messages: [] })
    .finalChatCompletion();
  assert.deepEqual([choice?.finish_reason, choice?.message.content], ["tool_calls", "It is sunny."]);
  assert.deepEqual(
    choice?.message.tool_calls?.map((call) =>
      call.type === "function" && [call.id, call.function.name, call.function.arguments]
    ),
    [["call_a", "weather", JSON.stringify(WEATHER)], ["call_b", "time", "{}"]],
  );
  assert.deepEqual([usage?.prompt_tokens, usage?.completion_tokens], [11, 22]);

  // With signs of life in between.
  const plain = openaiClient(all.url, { test_pattern: "plain" });
  const whole = await plain.chat.completions.stream({ model: "m", messages: [] }).finalChatCompletion();
  assert.equal(whole.choices[0]?.message.content, "word0 word1 word2 word3 word4 ");
});

Deno.test("openai: the package reads the chunks that are made for the mock backend", async () => {
  await using daemon = await startDaemon();
  await using front = await Front.start({ port: 0, socketPath: daemon.socketPath, lanes: 0 });
  const client = openaiClient(front.url, { prompt: "Hi", request_id: "r7", model: "m7" });
  const whole = await client.chat.completions.stream({ model: "m", messages: [] }).finalChatCompletion();
  assert.match(whole.choices[0]?.message.content ?? "", /^Hello! You said: "Hi"\. .*\[DONE-CONTENT\]$/);
  assert.deepEqual([whole.id, whole.model, whole.choices[0]?.finish_reason], ["chatcmpl-r7", "m7", "stop"]);
});

/** The state of a chat, kept in memory. */
function memory<Message>() {
  let messages: Message[] = [];
  return {
    status: "ready" as const,
    error: undefined,
    get messages() {
      return messages;
    },
    set messages(all) {
      messages = all;
    },
    pushMessage: (message: Message) => void (messages = [...messages, message]),
    popMessage: () => void (messages = messages.slice(0, -1)),
    replaceMessage: (index: number, message: Message) => void (messages = messages.with(index, message)),
    snapshot: <Value>(value: Value): Value => structuredClone(value),
  };
}

/** How a chat asks the front for the format. */
function asking(url: string, data: Readonly<Record<string, unknown>>) {
  return {
    api: `${url}/stream`,
    prepareSendMessagesRequest: () => ({ body: { format: "ai-sdk", ...data } }),
  };
}

/** What `useChat` is, without React. */
class Chat extends AbstractChat<UIMessage> {
  constructor(url: string, data: Readonly<Record<string, unknown>>, errors: Error[]) {
    super({
      transport: new DefaultChatTransport(asking(url, data)),
      onError: (error) => void errors.push(error),
      state: memory<UIMessage>(),
    });
  }
}

/** The same of version 7. */
class Chat7 extends ai7.AbstractChat<ai7.UIMessage> {
  constructor(url: string, data: Readonly<Record<string, unknown>>, errors: Error[]) {
    super({
      transport: new ai7.DefaultChatTransport(asking(url, data)),
      onError: (error) => void errors.push(error),
      state: memory<ai7.UIMessage>(),
    });
  }
}

/** The parts of a message, without what is not set. */
const plainly = (value: unknown): unknown => JSON.parse(JSON.stringify(value));

const MESSAGE_PARTS = [
  { type: "step-start" },
  { type: "reasoning", id: "0", text: "Let me think. 🤔", state: "done" },
  { type: "text", text: "It is sunny.", state: "done" },
  { type: "source-url", sourceId: "0", url: "https://weather.example/", title: "Weather" },
  { type: "tool-weather", toolCallId: "call_a", state: "input-available", input: WEATHER },
  { type: "tool-time", toolCallId: "call_b", state: "input-available", input: {} },
];
const METADATA = {
  finishReason: "tool-calls",
  usage: { inputTokens: 11, outputTokens: 22, totalTokens: 33 },
};

Deno.test("formats beside each other", async (t) => {
  await using all = await behindFront();
  await t.step("what asks for no format is as it was, whatever others ask for", async () => {
    const asked = ["content", "openai", "ai-sdk", undefined, null].map((format) =>
      answer(all.daemon, "plain", format === undefined ? {} : { format })
    );
    const [content, , , absent, none] = await Promise.all(asked);
    assert.deepEqual([content, absent, none], [HELLO, HELLO, HELLO]);
  });
  await t.step("a failure before the head has the same status in each format", async () => {
    for (const format of ["content", "openai", "ai-sdk"]) {
      assert.equal(
        await answer(all.daemon, "status-500", { format }),
        plainResponse(502, "Backend unavailable"),
      );
    }
  });
  await t.step("openai: the package throws what breaks off, and what never began", async () => {
    const broken = await openaiClient(all.url, { test_pattern: "error-1" }).chat.completions.create(ASKED);
    await assert.rejects(
      async () => {
        for await (const _ of broken);
      },
      (error) => error instanceof OpenAI.APIError && error.message.includes("Backend error"),
    );
    await assert.rejects(
      openaiClient(all.url, { test_pattern: "status-500" }).chat.completions.create(ASKED),
      (error) => error instanceof OpenAI.APIError && error.status === 502,
    );
  });
  for (const [version, make] of [[5, Chat], [7, Chat7]] as const) {
    await t.step(`ai-sdk: a chat of the package's version ${version} has the whole message`, async () => {
      const errors: Error[] = [];
      const chat = new make(all.url, { test_pattern: "agent", include: ALL }, errors);
      await chat.sendMessage({ text: "How is the weather?" });
      assert.deepEqual([chat.status, errors], ["ready", []]);
      const [asked, answered, more] = chat.messages;
      assert.deepEqual([asked?.role, answered?.role, more], ["user", "assistant", undefined]);
      assert.deepEqual(plainly(answered?.parts), MESSAGE_PARTS);
      assert.deepEqual(plainly(answered?.metadata), METADATA);
    });
    await t.step(
      `ai-sdk: a chat of the package's version ${version} has an error where an answer breaks off, or never began`,
      async () => {
        const broken: Error[] = [];
        const chat = new make(all.url, { test_pattern: "error-1" }, broken);
        await chat.sendMessage({ text: "?" });
        assert.deepEqual([chat.status, broken.map(({ message }) => message)], ["error", ["Backend error"]]);
        assert.deepEqual(plainly(chat.messages.at(-1)?.parts.at(-1)), {
          type: "text",
          text: "word0 ",
          state: "streaming",
        });
        const failed: Error[] = [];
        const never = new make(all.url, { test_pattern: "status-500" }, failed);
        await never.sendMessage({ text: "?" });
        assert.deepEqual([never.status, failed.map(({ message }) => message)], ["error", [
          "Backend unavailable\n",
        ]]);
      },
    );
  }
});

/** The parts of the stream, as the package's transport checks them. */
class Transport extends DefaultChatTransport<UIMessage> {
  chunks(body: ReadableStream<Uint8Array<ArrayBuffer>>): ReadableStream<UIMessageChunk> {
    return this.processResponseStream(body);
  }
}

Deno.test("ai-sdk: the header says what it is, and readUIMessageStream makes messages of the parts as they come", async () => {
  await using all = await behindFront({ env: { DAEMON_HEARTBEAT_SECS: "0.02" }, mock: { delayMs: 60 } });
  const response = await fetch(`${all.url}/stream`, {
    method: "POST",
    body: JSON.stringify({ format: "ai-sdk", test_pattern: "plain" }),
  });
  assert.equal(response.headers.get("x-vercel-ai-ui-message-stream"), "v1");
  assert.equal(response.headers.get("content-type"), "text/event-stream");
  const texts: string[] = [];
  const stream = new Transport().chunks(response.body as ReadableStream<Uint8Array<ArrayBuffer>>);
  for await (const { parts } of readUIMessageStream({ stream, terminateOnError: true })) {
    const last = parts.at(-1);
    if (last?.type === "text" && last.state === "streaming" && last.text !== texts.at(-1)) {
      texts.push(last.text);
    }
  }
  assert.deepEqual(texts, [
    "",
    ...[1, 2, 3, 4, 5].map((count) => "word0 word1 word2 word3 word4 ".slice(0, 6 * count)),
  ]);
});

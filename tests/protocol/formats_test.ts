/** What the formats write, byte for byte. */
import assert from "node:assert/strict";
import { BackendError } from "../../src/errors.ts";
import { formatFor } from "../../src/protocol/formats/choose.ts";
import { type Include, INCLUDES, type ResponseFormat } from "../../src/protocol/response_choice.ts";
import { SseEncoder } from "../../src/protocol/sse.ts";
import type { ClientEvent, StreamEvent } from "../../src/protocol/stream_event.ts";
import { FakeRecipient } from "../support/fake_clients.ts";
import { plainResponse, streamHead } from "../support/wire.ts";

const HEAD = streamHead("");
const AI_HEAD = streamHead("x-vercel-ai-ui-message-stream: v1\r\n");
const DONE = "data: [DONE]\n\n";
const END: StreamEvent = { kind: "end" };

/** All that a client gets which asked for this. */
function written(
  format: ResponseFormat,
  include: readonly Include[],
  ...events: (string | ClientEvent)[]
): string {
  const request = { requestId: "r1", messages: [], model: "m", format, include };
  const recipient = Object.assign(new FakeRecipient(1), { format: formatFor(request, 1_700_000_000) });
  const encoder = new SseEncoder();
  let out = "";
  // Each in a batch of its own, as over a longer time.
  for (const each of events) {
    const event: ClientEvent = typeof each === "string" ? { kind: "text", text: each } : each;
    const { data, dataBytes } = encoder.encode({ recipients: [recipient], events: [event] });
    out += new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(0, dataBytes));
  }
  return out;
}

const data = (...values: unknown[]): string =>
  values.map((value) => `data: ${JSON.stringify(value)}\n\n`).join("");

const call = (index: number, args: string, id?: string, name?: string): StreamEvent => ({
  kind: "tool_call",
  index,
  arguments: args,
  ...(id === undefined ? {} : { id }),
  ...(name === undefined ? {} : { name }),
});
const USAGE: StreamEvent = { kind: "usage", inputTokens: 3, outputTokens: 4 };
const finish = (reason: string): StreamEvent => ({ kind: "finish", reason });
const failure = (kind: BackendError["kind"]): StreamEvent => ({
  kind: "error",
  error: new BackendError(kind, "for the log"),
});

Deno.test("content without anything besides needs no object", () => {
  const request = { requestId: "r1", messages: [], model: "m", include: [] };
  assert.equal(formatFor({ ...request, format: "content" }, 0), null);
});

Deno.test("content: what is not included is not written, whatever a backend gives", () => {
  const events = [
    { kind: "reasoning", text: "r" },
    "a",
    call(0, "{}", "c", "f"),
    finish("stop"),
    USAGE,
    END,
  ] as const;
  for (const include of [[], ["usage"], ["finish", "reasoning"]] satisfies Include[][]) {
    const names = [...written("content", include, ...events).matchAll(/^event: (.*)$/gm)].map(([, name]) =>
      name
    );
    assert.deepEqual(names.toSorted(), include.toSorted());
  }
});

// --- openai

const made = (choices: readonly unknown[], rest = {}): unknown => ({
  id: "chatcmpl-r1",
  object: "chat.completion.chunk",
  created: 1_700_000_000,
  model: "m",
  choices,
  ...rest,
});
const delta = (delta: unknown): unknown => made([{ index: 0, delta, finish_reason: null }]);
const finished = (reason: string, delta = {}): unknown => made([{ index: 0, delta, finish_reason: reason }]);

Deno.test("openai: a provider's chunks go on as they are, and nothing is made of what else is known", () => {
  const chunk = (data: string): StreamEvent => ({ kind: "chunk", data });
  const events = [
    { kind: "open" },
    chunk('{ "choices": [1],"x":"\\ud83d" }'),
    chunk('{\n"choices":\n[]}'),
    chunk("ü😀"),
    finish("stop"),
    USAGE,
    END,
  ] as const;
  const plain =
    `data: { "choices": [1],"x":"\\ud83d" }\n\ndata: {\ndata: "choices":\ndata: []}\n\ndata: ü😀\n\n`;
  assert.equal(written("openai", [], ...events), HEAD + plain + DONE);
  assert.equal(written("openai", ["usage"], ...events), HEAD + plain + DONE);
});

Deno.test("openai: chunks are made for a backend that has none", () => {
  assert.equal(
    written(
      "openai",
      [...INCLUDES],
      { kind: "reasoning", text: "r" },
      "a\n",
      call(0, "", "c1", "f"),
      call(0, "{}"),
      finish("tool_calls"),
      USAGE,
      END,
    ),
    HEAD + data(
      delta({ role: "assistant", reasoning_content: "r" }),
      delta({ content: "a\n" }),
      delta({
        tool_calls: [{ index: 0, id: "c1", type: "function", function: { name: "f", arguments: "" } }],
      }),
      delta({ tool_calls: [{ index: 0, function: { arguments: "{}" } }] }),
      finished("tool_calls"),
      made([], { usage: { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 } }),
    ) + DONE,
  );
  assert.equal(
    written("openai", [], "a", USAGE, END),
    HEAD + data(delta({ role: "assistant", content: "a" }), finished("stop")) + DONE,
  );
  assert.equal(written("openai", [], END), HEAD + data(finished("stop", { role: "assistant" })) + DONE);
});

Deno.test("openai: a failure is an error object in the stream, and a status before it", () => {
  const error = { message: "Backend error", type: "backend_error", param: null, code: null };
  assert.equal(
    written("openai", [], "a", failure("truncated")),
    HEAD + data(delta({ role: "assistant", content: "a" }), { error }),
  );
  assert.equal(written("openai", [], failure("auth")), plainResponse(502, "Backend unavailable"));
});

// --- ai-sdk

const START = [{ type: "start" }, { type: "start-step" }];
const text = (id: number, ...deltas: string[]): unknown[] => [
  { type: "text-start", id: `${id}` },
  ...deltas.map((delta) => ({ type: "text-delta", id: `${id}`, delta })),
  { type: "text-end", id: `${id}` },
];
const reasoning = (id: number, ...deltas: string[]): unknown[] =>
  text(id, ...deltas).map((part) =>
    JSON.parse(JSON.stringify(part).replace('"type":"text', '"type":"reasoning'))
  );
const ending = (messageMetadata?: unknown): unknown[] => [
  { type: "finish-step" },
  { type: "finish", messageMetadata },
];

Deno.test("ai-sdk: texts are one part, with its own header", () => {
  assert.equal(
    written("ai-sdk", [], "a\n", "😀", finish("stop"), USAGE, END),
    AI_HEAD + data(...START, ...text(0, "a\n", "😀"), ...ending()) + DONE,
  );
  assert.equal(written("ai-sdk", [], END), AI_HEAD + data(...START, ...ending()) + DONE);
});

Deno.test("ai-sdk: reasoning, sources, calls and metadata, where they are included", () => {
  const events = [
    { kind: "reasoning", text: "r" },
    { kind: "reasoning", text: "s" },
    "a",
    { kind: "source", url: "https://x/", title: "X" },
    { kind: "source", url: "https://y/" },
    "b",
    call(0, "", "c1", "f"),
    call(0, '{"a"'),
    call(1, "{}", "c2", "g"),
    call(0, ":1}"),
    finish("tool_calls"),
    USAGE,
    END,
  ] as const;
  const sources = [
    { type: "source-url", sourceId: "0", url: "https://x/", title: "X" },
    { type: "source-url", sourceId: "1", url: "https://y/" },
  ];
  const [start, ...rest] = text(1, "a", "b");
  assert.equal(
    written("ai-sdk", [...INCLUDES], ...events),
    AI_HEAD + data(
      ...START,
      ...reasoning(0, "r", "s"),
      start,
      rest[0],
      ...sources,
      ...rest.slice(1),
      { type: "tool-input-start", toolCallId: "c1", toolName: "f" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: '{"a"' },
      { type: "tool-input-start", toolCallId: "c2", toolName: "g" },
      { type: "tool-input-delta", toolCallId: "c2", inputTextDelta: "{}" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: ":1}" },
      { type: "tool-input-available", toolCallId: "c1", toolName: "f", input: { a: 1 } },
      { type: "tool-input-available", toolCallId: "c2", toolName: "g", input: {} },
      ...ending({
        finishReason: "tool-calls",
        usage: { inputTokens: 3, outputTokens: 4, totalTokens: 7 },
      }),
    ) + DONE,
  );
  const [first, second] = text(0, "a", "b").slice(1);
  assert.equal(
    written("ai-sdk", [], ...events),
    AI_HEAD +
      data(...START, { type: "text-start", id: "0" }, first, ...sources, second, {
        type: "text-end",
        id: "0",
      }, ...ending()) +
      DONE,
  );
});

Deno.test("ai-sdk: calls that all have the index 0, calls without arguments, and arguments that are no JSON", () => {
  assert.equal(
    written(
      "ai-sdk",
      ["tool_calls"],
      call(0, "{}", "c1", "f"),
      call(0, "", "c2", "g"),
      call(1, "{", "c3", "h"),
      "a",
      END,
    ),
    AI_HEAD + data(
      ...START,
      { type: "tool-input-start", toolCallId: "c1", toolName: "f" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: "{}" },
      { type: "tool-input-available", toolCallId: "c1", toolName: "f", input: {} },
      { type: "tool-input-start", toolCallId: "c2", toolName: "g" },
      { type: "tool-input-start", toolCallId: "c3", toolName: "h" },
      { type: "tool-input-delta", toolCallId: "c3", inputTextDelta: "{" },
      ...text(0, "a"),
      { type: "tool-input-available", toolCallId: "c2", toolName: "g", input: {} },
      {
        type: "tool-input-error",
        toolCallId: "c3",
        toolName: "h",
        input: "{",
        errorText: "The arguments of the call are not JSON",
      },
      ...ending(),
    ) + DONE,
  );
});

Deno.test("ai-sdk: a call goes on beside a text, and ends before the next part once it is whole", () => {
  assert.equal(
    written(
      "ai-sdk",
      ["reasoning", "tool_calls"],
      call(0, "", "c1", "f"),
      "a",
      call(0, '{"x":{}'),
      { kind: "reasoning", text: "r" },
      call(0, "}"),
      "b",
      END,
    ),
    AI_HEAD + data(
      ...START,
      { type: "tool-input-start", toolCallId: "c1", toolName: "f" },
      { type: "text-start", id: "0" },
      { type: "text-delta", id: "0", delta: "a" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: '{"x":{}' },
      { type: "text-end", id: "0" },
      { type: "reasoning-start", id: "1" },
      { type: "reasoning-delta", id: "1", delta: "r" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: "}" },
      { type: "reasoning-end", id: "1" },
      { type: "tool-input-available", toolCallId: "c1", toolName: "f", input: { x: {} } },
      ...text(2, "b"),
      ...ending(),
    ) + DONE,
  );
});

/** A piece of a call of a tool that takes text. */
const custom = (...given: Parameters<typeof call>): StreamEvent =>
  ({ ...call(...given), custom: true }) as StreamEvent;

Deno.test("ai-sdk: the arguments of a tool that takes text are a text, whatever it looks like", () => {
  assert.equal(
    written(
      "ai-sdk",
      ["tool_calls"],
      custom(0, "l", "c1", "sh"),
      custom(0, "s"),
      custom(1, "4", "c2", "sh"),
      "a",
      END,
    ),
    AI_HEAD + data(
      ...START,
      { type: "tool-input-start", toolCallId: "c1", toolName: "sh" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: "l" },
      { type: "tool-input-delta", toolCallId: "c1", inputTextDelta: "s" },
      { type: "tool-input-start", toolCallId: "c2", toolName: "sh" },
      { type: "tool-input-delta", toolCallId: "c2", inputTextDelta: "4" },
      { type: "tool-input-available", toolCallId: "c1", toolName: "sh", input: "ls" },
      { type: "tool-input-available", toolCallId: "c2", toolName: "sh", input: "4" },
      ...text(0, "a"),
      ...ending(),
    ) + DONE,
  );
});

Deno.test("openai: calls of a tool that takes text, made of a provider's that has no chunks", () => {
  const out = written("openai", [], custom(0, "l", "c1", "sh"), custom(0, "s"), END);
  const calls = [...out.matchAll(/"tool_calls":\[(.*?)\]/g)].map(([, each]) => JSON.parse(each ?? ""));
  assert.deepEqual(calls, [
    { index: 0, id: "c1", type: "custom", custom: { name: "sh", input: "l" } },
    { index: 0, custom: { input: "s" } },
  ]);
});

Deno.test("ai-sdk: of arguments without end, a bounded amount is kept", () => {
  const piece = "x".repeat(100_000);
  for (const some of [call, custom]) {
    const pieces = Array.from({ length: 30 }, (_, at) => some(0, piece, ...(at === 0 ? ["c", "f"] : [])));
    const out = written("ai-sdk", ["tool_calls"], ...pieces, END);
    const [error] = /data: {"type":"tool-input-error".*too long"}\n/.exec(out) ?? [];
    assert(error !== undefined && error.length < 1024 * 1024 + 1000);
  }
});

for (
  const [reason, told] of [
    ["stop", "stop"],
    ["length", "length"],
    ["content_filter", "content-filter"],
    ["tool_calls", "tool-calls"],
    ["function_call", "tool-calls"],
    ["toString", "other"],
    ["new", "other"],
  ] as const
) {
  Deno.test(`ai-sdk: the finish reason ${reason} is ${told}`, () => {
    assert.equal(
      written("ai-sdk", ["finish"], finish(reason), END),
      AI_HEAD + data(...START, ...ending({ finishReason: told })) + DONE,
    );
  });
}

Deno.test("ai-sdk: a failure is an error part, a cut by the daemon an abort besides, neither has a finish", () => {
  const [start, piece] = text(0, "a");
  const begun = data(...START, start, piece);
  assert.equal(
    written("ai-sdk", [], "a", failure("timeout")),
    AI_HEAD + begun + data({ type: "error", errorText: "Backend timeout" }),
  );
  assert.equal(
    written("ai-sdk", [], "a", { kind: "cut", failure: "shutdown" }),
    AI_HEAD + begun + data({ type: "error", errorText: "Server is shutting down" }, { type: "abort" }),
  );
  assert.equal(
    written("ai-sdk", [], "a", { kind: "cut", failure: "stopped" }),
    AI_HEAD + begun + data({ type: "abort" }), // somebody wanted that
  );
  assert.equal(
    written("ai-sdk", [], { kind: "open" }, failure("other")),
    AI_HEAD + data(...START, { type: "error", errorText: "Backend error" }),
  );
  assert.equal(written("ai-sdk", [], failure("timeout")), plainResponse(504, "Backend timeout"));
});

Deno.test("a heartbeat is a comment in each format, and brings its head", () => {
  const sign: ClientEvent = { kind: "heartbeat" };
  assert.equal(written("openai", [], sign), `${HEAD}:\n\n`);
  assert.equal(written("ai-sdk", [], sign), `${AI_HEAD}:\n\n`);
});

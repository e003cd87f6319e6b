/** What a handoff asks, in the words of the Messages API. */
import assert from "node:assert/strict";
import type { MessageCreateParamsStreaming } from "@anthropic-ai/sdk/resources/messages";
import { messagesBody } from "../../../src/backend/anthropic/request.ts";
import type { BackendRequest } from "../../../src/backend/backend.ts";
import { ask } from "../../support/backend_rig.ts";

const OPTIONS = { maxTokens: 4096, body: {} };

function bodyOf(set: Partial<BackendRequest>): Readonly<Record<string, unknown>> {
  return messagesBody(ask("plain", { model: "claude", ...set }), OPTIONS);
}
const user = (content: unknown) => ({ role: "user", content }) as BackendRequest["messages"][number];
const PNG = "data:image/png;base64,iVBORw0KGgo=";

Deno.test("anthropic request: a whole conversation is one that the API's types allow", () => {
  const expected: MessageCreateParamsStreaming = {
    model: "claude",
    max_tokens: 4096,
    stream: true,
    system: [{ type: "text", text: "Be brief." }, { type: "text", text: "Be kind." }],
    messages: [
      {
        role: "user",
        content: [
          { type: "text", text: "What is on it?" },
          { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" } },
          { type: "image", source: { type: "url", url: "https://a.example/b.jpg" } },
          {
            type: "document",
            source: { type: "base64", media_type: "application/pdf", data: "JVBERi0=" },
            title: "a.pdf",
          },
        ],
      },
      {
        role: "assistant",
        content: [
          { type: "text", text: "I look." },
          { type: "tool_use", id: "c1", name: "f", input: { a: 1 } },
          { type: "tool_use", id: "c2", name: "g", input: {} },
        ],
      },
      {
        role: "user",
        content: [
          { type: "tool_result", tool_use_id: "c1", content: "42" },
          { type: "tool_result", tool_use_id: "c2", content: [{ type: "text", text: "x" }] },
        ],
      },
      { role: "assistant", content: "It is 42." },
      { role: "system", content: "The user is back." },
      { role: "user", content: "Thanks" },
    ],
  };
  const calls = [
    { id: "c1", type: "function", function: { name: "f", arguments: '{"a":1}' } },
    { id: "c2", type: "function", function: { name: "g", arguments: "" } },
  ];
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "developer", content: [{ type: "text", text: "Be kind." }] },
    user([
      { type: "text", text: "What is on it?" },
      { type: "image_url", image_url: { url: PNG, detail: "low" } },
      { type: "image_url", image_url: { url: "https://a.example/b.jpg" } },
      { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,JVBERi0=" } },
    ]),
    { role: "assistant", content: "I look.", tool_calls: calls },
    { role: "tool", tool_call_id: "c1", content: "42" },
    { role: "tool", tool_call_id: "c2", content: [{ type: "text", text: "x" }] },
    { role: "assistant", content: "It is 42.", refusal: null },
    { role: "developer", content: "The user is back." },
    user("Thanks"),
  ];
  assert.deepEqual(bodyOf({ messages }), expected);
});

Deno.test("anthropic request: results of two turns are two messages", () => {
  const called = (id: string) => ({
    role: "assistant",
    content: null,
    tool_calls: [{ id, type: "function", function: { name: "f", arguments: "{}" } }],
  });
  const result = (id: string) => ({ role: "tool", tool_call_id: id, content: id });
  const { messages } = bodyOf({
    messages: [user("a"), called("c1"), result("c1"), called("c2"), result("c2")],
  });
  const use = (id: string) => ({
    role: "assistant",
    content: [{ type: "tool_use", id, name: "f", input: {} }],
  });
  const told = (id: string) => ({
    role: "user",
    content: [{ type: "tool_result", tool_use_id: id, content: id }],
  });
  assert.deepEqual(messages, [user("a"), use("c1"), told("c1"), use("c2"), told("c2")]);
});

Deno.test("anthropic request: what is the API's own already goes on as it is", () => {
  const content = [
    { type: "text", text: "a", cache_control: { type: "ephemeral" } },
    { type: "image", source: { type: "file", file_id: "file_1" } },
    { type: "tool_result", tool_use_id: "c1", content: "42", is_error: true },
    { type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } },
    "odd",
  ];
  const members = {
    tools: [{ type: "web_search_20250305", name: "web_search" }, {
      name: "f",
      input_schema: { type: "object" },
    }],
    tool_choice: { type: "any" },
    thinking: { type: "enabled", budget_tokens: 2048 },
    stop_sequences: ["END"],
  };
  const { messages, ...rest } = bodyOf({ messages: [user(content)], members });
  assert.deepEqual(messages, [{ role: "user", content }]);
  assert.deepEqual(rest, { ...members, model: "claude", max_tokens: 4096, stream: true });
});

Deno.test("anthropic request: a file by its id, and a cached image", () => {
  const parts = [
    { type: "file", file: { file_id: "file_1" } },
    { type: "image_url", image_url: PNG, cache_control: { type: "ephemeral" } },
    { type: "image_url", image_url: {} },
    { type: "file", file: {} },
    { type: "file" },
  ];
  const { messages } = bodyOf({ messages: [user(parts)] });
  assert.deepEqual(messages, [{
    role: "user",
    content: [
      { type: "document", source: { type: "file", file_id: "file_1" } },
      {
        type: "image",
        source: { type: "base64", media_type: "image/png", data: "iVBORw0KGgo=" },
        cache_control: { type: "ephemeral" },
      },
      ...parts.slice(2),
    ],
  }]);
});

const MEMBERS:
  readonly (readonly [name: string, given: Record<string, unknown>, sent: Record<string, unknown>])[] = [
    ["a function", {
      tools: [{
        type: "function",
        function: { name: "f", description: "d", parameters: { type: "object" } },
      }],
    }, { tools: [{ name: "f", description: "d", input_schema: { type: "object" } }] }],
    ["a function without parameters", {
      tools: [{ type: "function", function: { name: "f", strict: true } }],
    }, {
      tools: [{ name: "f", input_schema: { type: "object", properties: {} }, strict: true }],
    }],
    ["no choice of tools", { tool_choice: "none", parallel_tool_calls: false }, {
      tool_choice: { type: "none" },
    }],
    ["a free choice", { tool_choice: "auto" }, { tool_choice: { type: "auto" } }],
    ["some tool", { tool_choice: "required" }, { tool_choice: { type: "any" } }],
    ["this tool", { tool_choice: { type: "function", function: { name: "f" } } }, {
      tool_choice: { type: "tool", name: "f" },
    }],
    ["one call at a time", { parallel_tool_calls: false }, {
      tool_choice: { type: "auto", disable_parallel_tool_use: true },
    }],
    ["one call of this tool", {
      parallel_tool_calls: false,
      tool_choice: { type: "function", function: { name: "f" } },
    }, { tool_choice: { type: "tool", name: "f", disable_parallel_tool_use: true } }],
    ["calls at once", { parallel_tool_calls: true }, {}],
    ["a stop", { stop: "END" }, { stop_sequences: ["END"] }],
    ["stops", { stop: ["a", "b"] }, { stop_sequences: ["a", "b"] }],
    ["an effort", { reasoning_effort: "low" }, { output_config: { effort: "low" } }],
    ["a schema", {
      response_format: { type: "json_schema", json_schema: { name: "a", schema: { type: "object" } } },
    }, { output_config: { format: { type: "json_schema", schema: { type: "object" } } } }],
    ["text", { response_format: { type: "text" } }, {}],
    ["a format that it has not, which it refuses by name", { response_format: { type: "json_object" } }, {
      response_format: { type: "json_object" },
    }],
    ["whose it is", { metadata: { user_id: "u-1", team: "web" } }, { metadata: { user_id: "u-1" } }],
    ["metadata that it has not", { metadata: { team: "web" } }, {}],
    ["a seed, which it has not", { seed: 7 }, {}],
    ["top_p", { top_p: 0.3 }, { top_p: 0.3 }],
  ];
for (const [name, members, sent] of MEMBERS) {
  Deno.test(`anthropic request: of the request's members, ${name}`, () => {
    const { messages: _, ...rest } = bodyOf({ members });
    assert.deepEqual(rest, { ...sent, model: "claude", max_tokens: 4096, stream: true });
  });
}

Deno.test("anthropic request: of one name, the handoff's fields win over its request, that over the configuration", () => {
  const options = { maxTokens: 10, body: { max_tokens: 20, top_p: 0.1, top_k: 1, temperature: 0.1 } };
  const request = ask("plain", {
    members: { top_p: 0.2 },
    temperature: 0.3,
    maxTokens: 30,
    maxCompletionTokens: 40,
  });
  const { max_tokens, top_p, top_k, temperature } = messagesBody(request, options);
  assert.deepEqual([max_tokens, top_p, top_k, temperature], [40, 0.2, 1, 0.3]);
  assert.equal(messagesBody(ask("plain", { maxTokens: 30 }), options)["max_tokens"], 30);
  assert.equal(messagesBody(ask("plain"), options)["max_tokens"], 20);
  assert.equal(messagesBody(ask("plain"), OPTIONS)["max_tokens"], 4096);
});

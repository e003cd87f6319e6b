/** What a handoff asks, in the words of the Responses API. */
import assert from "node:assert/strict";
import type OpenAI from "openai";
import type { BackendRequest } from "../../../src/backend/backend.ts";
import { responsesBody } from "../../../src/backend/openai_responses/request.ts";
import { ask } from "../../support/backend_rig.ts";

type Body = OpenAI.Responses.ResponseCreateParamsStreaming;

function bodyOf(set: Partial<BackendRequest>): Readonly<Record<string, unknown>> {
  return responsesBody(ask("plain", { model: "o4", ...set }), { body: {}, pads: false });
}
const user = (content: unknown) => ({ role: "user", content }) as BackendRequest["messages"][number];
const PNG = "data:image/png;base64,iVBORw0KGgo=";
const FILE = { filename: "a.pdf", file_data: "data:application/pdf;base64,JVBERi0=" };

Deno.test("openai-responses request: a whole conversation is one that the API's types allow", () => {
  const expected: Body = {
    model: "o4",
    store: false,
    stream: true,
    instructions: "Be brief.\n\nBe kind.",
    input: [
      {
        role: "user",
        content: [
          { type: "input_text", text: "What is on it?" },
          { type: "input_image", image_url: PNG, detail: "low" },
          { type: "input_image", image_url: "https://a.example/b.jpg", detail: "auto" },
          { type: "input_file", ...FILE },
        ],
      },
      { role: "assistant", content: "I look." },
      { type: "function_call", call_id: "c1", name: "f", arguments: '{"a":1}' },
      { type: "function_call", call_id: "c2", name: "g", arguments: "" },
      { type: "function_call_output", call_id: "c1", output: "42" },
      { type: "function_call_output", call_id: "c2", output: [{ type: "input_text", text: "x" }] },
      { type: "function_call", call_id: "c3", name: "h", arguments: "{}" },
      { role: "developer", content: "The user is back." },
      { role: "user", content: "Thanks" },
    ],
  };
  const call = (id: string, name: string, text: string) => ({
    id,
    type: "function",
    function: { name, arguments: text },
  });
  const messages = [
    { role: "system", content: "Be brief." },
    { role: "developer", content: [{ type: "text", text: "Be kind." }] },
    user([
      { type: "text", text: "What is on it?" },
      { type: "image_url", image_url: { url: PNG, detail: "low" } },
      { type: "image_url", image_url: { url: "https://a.example/b.jpg" } },
      { type: "file", file: FILE },
    ]),
    { role: "assistant", content: "I look.", tool_calls: [call("c1", "f", '{"a":1}'), call("c2", "g", "")] },
    { role: "tool", tool_call_id: "c1", content: "42" },
    { role: "tool", tool_call_id: "c2", content: [{ type: "text", text: "x" }] },
    { role: "assistant", content: null, tool_calls: [call("c3", "h", "{}")] },
    { role: "developer", content: "The user is back." },
    user("Thanks"),
  ];
  assert.deepEqual(bodyOf({ messages }), expected);
});

Deno.test("openai-responses request: what is the API's own already goes on as it is", () => {
  const content = [{ type: "input_text", text: "a" }, { type: "input_image", file_id: "f" }, "odd"];
  const members = {
    tools: [{ type: "web_search" }, { type: "function", name: "f", parameters: null, strict: true }],
    tool_choice: { type: "function", name: "f" },
    reasoning: { effort: "low", summary: "auto" },
    previous_response_id: "resp_1",
    store: true,
    metadata: { team: "web" },
  };
  assert.deepEqual(bodyOf({ messages: [user(content)], members }), {
    ...members,
    input: [{ role: "user", content }],
    model: "o4",
    stream: true,
  });
});

Deno.test("openai-responses request: texts of an assistant are output; instructions with more than texts stay", () => {
  const messages = [
    { role: "system", content: [{ type: "image_url", image_url: PNG }] },
    { role: "assistant", content: [{ type: "text", text: "a" }, { type: "refusal", refusal: "b" }] },
  ];
  const { input, instructions } = bodyOf({ messages });
  assert.equal(instructions, undefined);
  assert.deepEqual(input, [
    { role: "system", content: [{ type: "input_image", image_url: PNG, detail: "auto" }] },
    { role: "assistant", content: [{ type: "output_text", text: "a" }, { type: "refusal", refusal: "b" }] },
  ]);
});

const MEMBERS: readonly (readonly [name: string, given: Record<string, unknown>, sent: Partial<Body>])[] = [
  ["a function, which is not strict where it does not say", {
    tools: [{ type: "function", function: { name: "f", description: "d", parameters: { type: "object" } } }],
  }, {
    tools: [{ type: "function", name: "f", description: "d", parameters: { type: "object" }, strict: false }],
  }],
  ["a strict function", { tools: [{ type: "function", function: { name: "f", strict: true } }] }, {
    tools: [{ type: "function", name: "f", parameters: null, strict: true }],
  }],
  ["this tool", { tool_choice: { type: "function", function: { name: "f" } } }, {
    tool_choice: { type: "function", name: "f" },
  }],
  ["a free choice", { tool_choice: "auto" }, { tool_choice: "auto" }],
  ["an effort, with what else is said of reasoning", {
    reasoning_effort: "low",
    reasoning: { summary: "auto" },
  }, { reasoning: { effort: "low", summary: "auto" } }],
  ["a schema, with what else is said of text", {
    response_format: {
      type: "json_schema",
      json_schema: { name: "a", schema: { type: "object" }, strict: true },
    },
    text: { verbosity: "low" },
  }, {
    text: {
      verbosity: "low",
      format: { type: "json_schema", name: "a", schema: { type: "object" }, strict: true },
    },
  }],
  ["JSON", { response_format: { type: "json_object" } }, { text: { format: { type: "json_object" } } }],
  ["a seed, which it has not", { seed: 7 }, {}],
  ["what has the same name", { top_p: 0.3, parallel_tool_calls: false, metadata: { a: "b" } }, {
    top_p: 0.3,
    parallel_tool_calls: false,
    metadata: { a: "b" },
  }],
];
for (const [name, members, sent] of MEMBERS) {
  Deno.test(`openai-responses request: of the request's members, ${name}`, () => {
    const { input: _, ...rest } = bodyOf({ members });
    assert.deepEqual(rest, { ...sent, model: "o4", store: false, stream: true });
  });
}

Deno.test("openai-responses request: of one name, the handoff's fields win over its request, that over the configuration", () => {
  const options = { body: { store: true, max_output_tokens: 1, top_p: 0.1 }, pads: true };
  const request = ask("plain", {
    members: { top_p: 0.2 },
    maxTokens: 30,
    maxCompletionTokens: 40,
    temperature: 0,
  });
  const { store, max_output_tokens, top_p, temperature, stream_options } = responsesBody(request, options);
  assert.deepEqual([store, max_output_tokens, top_p, temperature], [true, 40, 0.2, 0]);
  assert.deepEqual(stream_options, { include_obfuscation: false });
  assert.equal(responsesBody(ask("plain"), options)["max_output_tokens"], 1);
});

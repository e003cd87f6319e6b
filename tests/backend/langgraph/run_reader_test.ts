/** Streams of LangGraph's runs, as its servers send them, become events. */
import assert from "node:assert/strict";
import { ONLY_TEXT } from "../../../src/backend/http/dialect.ts";
import { RunReader } from "../../../src/backend/langgraph/run_reader.ts";
import { EVERYTHING, heardOf, sameWhereverCut } from "../../support/heard_events.ts";

const event = (name: string, data: string): string => `event: ${name}\r\ndata: ${data}\r\n\r\n`;
const META = event("metadata", '{"run_id":"1f0c-1","attempt":1}');
const END = event("end", "null");
const METADATA = '{"graph_id":"agent","langgraph_node":"agent","tags":[],"content":"Hello"}';
/** A piece of a message, with what every piece has. */
const piece = (set: Readonly<Record<string, unknown>>, id = "run--1"): string =>
  event(
    "messages",
    `[${
      JSON.stringify({
        content: "",
        additional_kwargs: {},
        response_metadata: {},
        type: "AIMessageChunk",
        name: null,
        id,
        tool_calls: [],
        invalid_tool_calls: [],
        usage_metadata: null,
        tool_call_chunks: [],
        ...set,
      })
    },${METADATA}]`,
  );
const whole = (message: unknown): string => event("messages", `[${JSON.stringify(message)},${METADATA}]`);
const stops = (reason: string, id?: string): string =>
  piece({ response_metadata: { finish_reason: reason } }, id);
const call = (chunk: Readonly<Record<string, unknown>>, id?: string): string =>
  piece({ tool_call_chunks: [{ name: null, id: null, type: "tool_call_chunk", ...chunk }] }, id);
const counts = (input: number, output: number, id?: string): string =>
  piece({ usage_metadata: { input_tokens: input, output_tokens: output, total_tokens: input + output } }, id);
const read = (text: string, wanted = EVERYTHING): string[] => heardOf(RunReader, [text], wanted);

const BASIC = META + piece({ content: "Hello" }) + piece({ content: " Zürich" }) +
  piece({ content: " 🌍!" }) +
  stops("stop") + counts(12, 3) + END;
/** A model that calls a tool, the tool's answer, and the model again. */
const AGENT = META +
  piece({ content: "I look." }) +
  call({ name: "weather", id: "call_a", args: "", index: 0 }) +
  call({ args: '{"city":', index: 0 }) +
  call({ args: '"Zürich"}', index: 0 }) +
  call({ name: "time", id: "call_b", args: "{}", index: 1 }) +
  stops("tool_calls") + counts(10, 20) +
  whole({ type: "tool", id: "tool-1", content: "sunny", tool_call_id: "call_a" }) +
  piece({ content: "It is" }, "run--2") + piece({ content: " sunny." }, "run--2") +
  call({ name: "map", id: "call_c", args: "{}", index: 0 }, "run--2") +
  stops("stop", "run--2") + counts(30, 5, "run--2") + END;

const CASES: readonly (readonly [name: string, stream: string, heard: readonly string[]])[] = [
  ["text", BASIC, ["Hello", " Zürich", " 🌍!", "<finish stop>", "<usage 12 3>", "<done>"]],
  ["several messages are paragraphs, their calls and counts those of one answer", AGENT, [
    "I look.",
    "<call 0 call_a weather >",
    '<call 0 - - {"city":>',
    '<call 0 - - "Zürich"}>',
    "<call 1 call_b time {}>",
    "\n\n",
    "It is",
    " sunny.",
    "<call 2 call_c map {}>",
    "<finish stop>",
    "<usage 40 25>",
    "<done>",
  ]],
  [
    "what others say is not shown",
    META + whole({ type: "human", id: "h", content: "Hi" }) +
    whole({ type: "system", content: "x" }) + whole({ type: "tool", content: "x" }) + END,
    ["<done>"],
  ],
  [
    "a whole message, once, and none whose pieces came",
    META + piece({ content: "a" }) +
    whole({ type: "ai", id: "run--1", content: "a" }) +
    whole({
      type: "ai",
      id: "m2",
      content: "b",
      tool_calls: [{ id: "c", name: "f", args: { x: 1 } }, { id: "d", name: "g" }],
    }) + whole({ type: "ai", id: "m2", content: "b" }) + whole({ type: "ai", content: "c" }) + END,
    [
      "a",
      "\n\n",
      "b",
      '<call 0 c f {"x":1}>',
      "<call 1 d g {}>",
      "\n\n",
      "c",
      "<done>",
    ],
  ],
  [
    "messages of two nodes at once: each begins once",
    META + piece({ content: "a" }, "1") +
    piece({ content: "b" }, "2") + piece({ content: "c" }, "1") + piece({ content: "d" }, "2") + END,
    [
      "a",
      "\n\n",
      "b",
      "c",
      "d",
      "<done>",
    ],
  ],
  [
    "content in parts, and reasoning by each of its names",
    META +
    piece({ additional_kwargs: { reasoning_content: "r1" } }) +
    piece({ content: [{ type: "thinking", thinking: "r2", index: 0 }] }) +
    piece({ content: [{ type: "reasoning", reasoning: "r3", index: 0 }] }) +
    piece({
      content: [
        { type: "text", text: "a", index: 1, annotations: [{ url: "https://a.example/", title: "A" }, {}] },
        { type: "input_json_delta", partial_json: "{" },
        "b",
        null,
      ],
    }) + END,
    [
      "<reasoning r1>",
      "<reasoning r2>",
      "<reasoning r3>",
      "a",
      "<source https://a.example/ A>",
      "b",
      "<done>",
    ],
  ],
  [
    "the same reasoning beside each text, though the pieces are alike but for their text",
    META +
    ["a", "b", "c"].map((content) => piece({ content, additional_kwargs: { reasoning_content: "r" } })).join(
      "",
    ) +
    END,
    ["<reasoning r>", "a", "<reasoning r>", "b", "<reasoning r>", "c", "<done>"],
  ],
  [
    "a refusal is what the user sees, in a part or beside the content",
    META + piece({ content: [{ type: "refusal", refusal: "No." }] }) +
    ["a", "b", "c"].map((content) => piece({ content, additional_kwargs: { refusal: "!" } })).join("") + END,
    ["No.", "a", "!", "b", "!", "c", "!", "<done>"],
  ],
  [
    "calls of two messages whose pieces come mixed",
    META + call({ name: "f", id: "a", args: "", index: 0 }, "A") +
    call({ name: "g", id: "b", args: "", index: 0 }, "B") +
    call({ args: '{"x":', index: 0 }, "A") + call({ args: '{"y":', index: 0 }, "B") +
    call({ args: "1}", index: 0 }, "A") + call({ args: "2}", index: 0 }, "B") + END,
    [
      "<call 0 a f >",
      "<call 1 b g >",
      '<call 0 - - {"x":>',
      '<call 1 - - {"y":>',
      "<call 0 - - 1}>",
      "<call 1 - - 2}>",
      "<done>",
    ],
  ],
  [
    "calls without an index",
    META + call({ name: "f", id: "c1", args: "" }) + call({ args: "{}" }) +
    call({ name: "g", id: "c2", args: "" }) + call({ args: "[]" }) + END,
    [
      "<call 0 c1 f >",
      "<call 0 - - {}>",
      "<call 1 c2 g >",
      "<call 1 - - []>",
      "<done>",
    ],
  ],
  [
    "subgraphs",
    event("metadata|x", "{}") + piece({ content: "a" }).replace("messages", "messages|node:1") + END,
    [
      "a",
      "<done>",
    ],
  ],
  [
    "halves of a surrogate pair",
    META + piece({ content: "x" }).replace('"x"', '"\\ud83c"') +
    piece({ content: "x" }).replace('"x"', '"\\udf0d"') + END,
    ["🌍", "<done>"],
  ],
  [
    "what else a run can stream",
    META + event("values", '{"messages":[]}') + event("updates", "{}") +
    ": heartbeat\r\n\r\n" + END,
    ["<done>"],
  ],
  [
    "members that are null or of another type",
    META + event("messages", "[]") + event("messages", "[null]") +
    event("messages", '{"content":"x"}') + whole({}) +
    piece({
      content: 5,
      additional_kwargs: null,
      response_metadata: null,
      usage_metadata: { input_tokens: "x" },
      tool_call_chunks: [null, { args: "{}" }],
    }) + END,
    ["<usage 0 0>", "<done>"],
  ],
  ["an end without its mark", META + piece({ content: "a" }) + stops("stop"), [
    "a",
    "<finish stop>",
    "<done>",
  ]],
  ["… where a tool waits for a person", META + piece({ content: "a" }) + stops("tool_calls"), [
    "a",
    "<finish tool_calls>",
    "<done>",
  ]],
  [
    "the counts and the reason in one piece",
    META + piece({ content: "a" }) +
    piece({
      response_metadata: { stop_reason: "max_tokens" },
      usage_metadata: { input_tokens: 3, output_tokens: 4 },
    }) + END,
    ["a", "<finish length>", "<usage 3 4>", "<done>"],
  ],
  ["… by a model that gives no reason", META + piece({ content: "a" }), ["a", "<done>"]],
  ["… of a run without a word", META, ["<done>"]],
  ["an end before all", "", ["<truncated: the stream ended before its first event>"]],
  ["an end with its status", META + event("end", '{"run_id":"r","status":"success"}'), ["<done>"]],
  ["an end that waits for a person", META + event("end", '{"run_id":"r","status":"interrupted"}'), [
    "<done>",
  ]],
  ["an end that is none", META + event("end", '{"run_id":"r","status":"timeout"}'), [
    "<stream_error: the provider reports: the run ended with the status timeout>",
  ]],
  [
    "an error",
    META + piece({ content: "a" }) + event("error", '{"error":"ValueError","message":"Oh"}') + END,
    [
      "a",
      "<stream_error: the provider reports: Oh (ValueError)>",
    ],
  ],
  ["an error of another form", META + event("error", '{"detail":"Oh"}'), [
    '<stream_error: the provider reports: "{\\"detail\\":\\"Oh\\"}">',
  ]],
  ["nothing after the end", META + END + piece({ content: "late" }), ["<done>"]],
  ["no JSON", META + event("messages", "[{"), ['<malformed: an event that is not JSON: "[{">']],
];
for (const [name, text, heard] of CASES) {
  Deno.test(`langgraph events: ${name}`, () => assert.deepEqual(read(text), heard));
}

Deno.test("langgraph events: who wants the text alone gets nothing else but usage and reason", () => {
  assert.deepEqual(read(AGENT, ONLY_TEXT), [
    "I look.",
    "\n\n",
    "It is",
    " sunny.",
    "<finish stop>",
    "<usage 40 25>",
    "<done>",
  ]);
});

Deno.test("langgraph events: the same wherever the stream is cut", () => {
  for (const text of [BASIC, AGENT]) sameWhereverCut(RunReader, text);
});

Deno.test("langgraph events: of more than a thousand calls, those that came last go on", () => {
  const calls = Array.from(
    { length: 1_001 },
    (_, at) => call({ name: "f", id: "c", args: "", index: 0 }, `${at}`),
  );
  const heard = read(META + calls.join("") + call({ args: "{}", index: 0 }, "999") + END);
  assert.equal(heard.at(-2), "<call 999 - - {}>");
});

Deno.test("langgraph events: a text in a hundred pieces is whole, and so is one like what stands beside it", () => {
  const texts = Array.from(
    { length: 100 },
    (_, i) => ['"', "\\", "\n", "é", "{}", "Hello"][i % 6] as string + i,
  );
  const heard = read(META + texts.map((content) => piece({ content })).join("") + END);
  assert.deepEqual(heard.slice(0, -1), texts);
});

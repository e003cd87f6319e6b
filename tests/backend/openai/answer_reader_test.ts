import assert from "node:assert/strict";
import { ONLY_TEXT } from "../../../src/backend/http/dialect.ts";
import { AnswerReader } from "../../../src/backend/openai/answer_reader.ts";
import { EVERYTHING, heardOf } from "../../support/heard_events.ts";
import { chunk, finish, sse, text, usage } from "../../support/mock_llm_patterns.ts";
import { randomCuts, randomInts } from "../../support/random.ts";

const encoder = new TextEncoder();

const read = (pieces: readonly (string | Uint8Array)[], wanted = ONLY_TEXT): string[] =>
  heardOf(AnswerReader, pieces, wanted);

const stream = (...data: string[]): string[] => data.map(sse);
const DONE = "[DONE]";
const delta = (delta: unknown): string => chunk([{ index: 0, delta, finish_reason: null }]);

const CASES: readonly [name: string, pieces: readonly string[], heard: string[]][] = [
  ["texts, finish and usage", stream(text("a"), text("b"), finish("stop"), usage(3, 2), DONE), [
    "a",
    "b",
    "<finish stop>",
    "<usage 3 2>",
    "<done>",
  ]],
  ["choices that are empty, null or missing", stream(chunk([]), '{"choices":null}', "{}", DONE), ["<done>"]],
  ["null usage", stream(chunk([], { usage: null }), DONE), ["<done>"]],
  ["usage of another shape", stream(chunk([], { usage: { prompt_tokens: "x", total_tokens: 4 } }), DONE), [
    "<done>",
  ]],
  [
    "a running count: the last holds",
    stream(chunk([], { usage: { prompt_tokens: 3, completion_tokens: 1 } }), usage(3, 2), DONE),
    [
      "<usage 3 2>",
      "<done>",
    ],
  ],
  ["a role alone", stream(delta({ role: "assistant" }), DONE), ["<done>"]],
  [
    "empty, null and missing content",
    stream(delta({ content: "" }), delta({ content: null }), delta({}), delta(null), DONE),
    [
      "<done>",
    ],
  ],
  ["content that is no text", stream(delta({ content: 5 }), delta({ content: ["a"] }), DONE), ["<done>"]],
  [
    "content in parts",
    stream(
      delta({ content: [{ type: "text", text: "a" }, { type: "refusal", refusal: "No." }] }),
      delta({ content: [{ type: "text", text: 5 }, { type: "image_url", text: "x" }, null] }),
      text("b"),
      DONE,
    ),
    ["a", "No.", "b", "<done>"],
  ],
  [
    "a choice whose index is null",
    stream(chunk([{ index: null, delta: { content: "a" }, finish_reason: "stop" }]), DONE),
    ["a", "<finish stop>", "<done>"],
  ],
  ["a refusal is what the user sees", stream(delta({ refusal: "No." }), DONE), ["No.", "<done>"]],
  [
    "tool calls are passed over",
    stream(delta({ content: null, tool_calls: [{ index: 0 }] }), finish("tool_calls"), DONE),
    [
      "<finish tool_calls>",
      "<done>",
    ],
  ],
  ["another choice than the first", stream(chunk([{ index: 1, delta: { content: "x" } }]), DONE), ["<done>"]],
  [
    "text and finish in one chunk",
    stream(chunk([{ delta: { content: "a" }, finish_reason: "length" }]), DONE),
    [
      "a",
      "<finish length>",
      "<done>",
    ],
  ],
  ["halves of a surrogate pair in two chunks", [
    sse('{"choices":[{"delta":{"content":"\\ud83c"}}]}'),
    sse('{"choices":[{"delta":{"content":"\\udf0d"}}]}'),
    sse(DONE),
  ], [
    "🌍",
    "<done>",
  ]],
  ["a half that stays alone", [
    sse('{"choices":[{"delta":{"content":"a\\ud83c"}}]}'),
    sse('{"choices":[{"delta":{"content":"b\\udf0d"}}]}'),
    sse('{"choices":[{"delta":{"content":"\\ud83c"}}]}'),
    sse(DONE),
  ], [
    "a",
    "\ufffdb\ufffd",
    "\ufffd",
    "<done>",
  ]],
  ["nothing after the end mark", stream(DONE, text("late"), "{"), ["<done>"]],
  ["an end mark without its blank line", [...stream(text("a")), "data: [DONE]"], ["a", "<done>"]],
  ["data that is empty", stream("", DONE), ["<done>"]],
  ["an end without the mark, though the model had finished", stream(text("a"), finish("stop"), usage(1, 1)), [
    "a",
    "<finish stop>",
    "<usage 1 1>",
    "<done>",
  ]],
  ["an end in the middle of an event", [sse(text("a")), "data: {"], [
    "a",
    "<truncated: the stream ended before [DONE] and any finish reason>",
  ]],
  [
    "an error object",
    stream(text("a"), '{"error":{"message":"Overloaded","type":"server_error","code":null}}', DONE),
    [
      "a",
      "<stream_error: the provider reports: Overloaded (server_error)>",
    ],
  ],
  ["an error text", stream('{"error":"out of memory"}'), [
    "<stream_error: the provider reports: out of memory>",
  ]],
  ["an error as vLLM has it", stream('{"object":"error","message":"bad","code":400}'), [
    "<stream_error: the provider reports: bad (400)>",
  ]],
  ["an event of the name error", ['event: error\ndata: {"message":"oops"}\n\n'], [
    "<stream_error: the provider reports: oops>",
  ]],
  ["an error that is null", stream(chunk([{ delta: { content: "a" } }], { error: null }), DONE), [
    "a",
    "<done>",
  ]],
  ["no JSON", stream(text("a"), '{"choices": ['), [
    "a",
    '<malformed: an event that is not JSON: "{\\"choices\\": [">',
  ]],
  ["JSON that is no object", stream("42"), ['<malformed: an event that is not an object: "42">']],
  ["a line of 1 MB", stream(text("a"), text("x".repeat(1_048_576)), DONE), [
    "a",
    "<malformed: an event of more than 524288 bytes>",
  ]],
];
for (const [name, pieces, heard] of CASES) {
  Deno.test(`openai events: ${name}`, () => {
    assert.deepEqual(read([pieces.join("")]), heard);
  });
}

for (const reason of ["stop", "length", "content_filter", "tool_calls", "function_call", "something_new"]) {
  Deno.test(`openai events: finish_reason ${reason}`, () => {
    assert.deepEqual(read(stream(finish(reason), DONE)), [`<finish ${reason}>`, "<done>"]);
  });
}

const call = (call: unknown, rest = {}): string => delta({ ...rest, tool_calls: [call] });

const WANTED: readonly [name: string, pieces: readonly string[], heard: string[]][] = [
  ["reasoning by either name", stream(delta({ reasoning_content: "a" }), delta({ reasoning: "b" }), DONE), [
    "<reasoning a>",
    "<reasoning b>",
    "<done>",
  ]],
  [
    "reasoning beside the other name, which is empty",
    stream(delta({ reasoning_content: "", reasoning: "c" }), DONE),
    [
      "<reasoning c>",
      "<done>",
    ],
  ],
  [
    "reasoning that is empty, null or no text",
    stream(delta({ reasoning_content: "" }), delta({ reasoning: null }), delta({ reasoning: [1] }), DONE),
    ["<done>"],
  ],
  [
    "thoughts in parts",
    stream(
      delta({ content: [{ type: "thinking", thinking: [{ type: "text", text: "H" }, { text: "m" }] }] }),
      delta({ content: [{ type: "thinking", thinking: [null, 5, { type: "reference" }] }] }),
      delta({ content: [{ type: "thinking", thinking: null }, { type: "text", text: "Hello" }] }),
      DONE,
    ),
    ["<reasoning H>", "<reasoning m>", "Hello", "<done>"],
  ],
  [
    "the pieces of two calls",
    stream(
      call({ index: 0, id: "c0", type: "function", function: { name: "f", arguments: "" } }, {
        content: null,
      }),
      call({ index: 0, function: { arguments: '{"a":' } }),
      call({ index: 1, id: "c1", type: "function", function: { name: "g", arguments: "{}" } }),
      call({ index: 0, function: { arguments: "1}" } }),
      finish("tool_calls"),
      DONE,
    ),
    [
      "<call 0 c0 f >",
      '<call 0 - - {"a":>',
      "<call 1 c1 g {}>",
      "<call 0 - - 1}>",
      "<finish tool_calls>",
      "<done>",
    ],
  ],
  [
    "calls that all have the index 0, or none, and an id of their own",
    stream(
      call({ index: 0, id: "a", function: { name: "f", arguments: '{"x":' } }),
      call({ index: 0, id: "", function: { name: "", arguments: "1}" } }),
      call({ index: 0, id: "b", function: { name: "g", arguments: "" } }),
      call({ index: 0, id: "b", function: { arguments: '{"y":' } }),
      call({ index: 0, id: null, function: { name: null, arguments: "2}" } }),
      delta({
        tool_calls: [{ id: "c", function: { name: "f", arguments: "{}" } }, {
          id: "d",
          function: { name: "f", arguments: "[]" },
        }],
      }),
      call({ index: 1, id: "e", function: { name: "g", arguments: "{" } }),
      call({ index: 1, function: { arguments: "}" } }),
      DONE,
    ),
    [
      '<call 0 a f {"x":>',
      "<call 0 - - 1}>",
      "<call 1 b g >",
      '<call 1 b - {"y":>',
      "<call 1 - - 2}>",
      "<call 2 c f {}>",
      "<call 3 d f []>",
      "<call 4 e g {>",
      "<call 4 - - }>",
      "<done>",
    ],
  ],
  [
    "a call whose id comes late, and one with another id in each piece",
    stream(
      call({ index: 0, function: { name: "f", arguments: "" } }),
      call({ index: 0, id: "a", function: { arguments: "{}" } }),
      call({ index: 1, id: "b", function: { name: "g", arguments: "{" } }),
      call({ index: 1, id: "c", function: { arguments: "}" } }),
      DONE,
    ),
    ["<call 0 - f >", "<call 0 a - {}>", "<call 1 b g {>", "<call 1 - - }>", "<done>"],
  ],
  [
    "calls of tools that take text",
    stream(
      call({ index: 0, id: "a", type: "custom", custom: { name: "sh", input: "l" } }),
      call({ index: 0, custom: { input: "s" } }),
      call({ index: 0, id: "b", type: "custom", custom: { name: "sh", input: "ps" } }),
      DONE,
    ),
    ["<custom call 0 a sh l>", "<custom call 0 - - s>", "<custom call 1 b sh ps>", "<done>"],
  ],
  ["calls of other shapes", stream(delta({ tool_calls: [null, 5, {}, { function: null }] }), DONE), [
    "<call 0 - - >",
    "<call 0 - - >",
    "<done>",
  ]],
  [
    "empty calls beside each text",
    stream(...["a", "b", "c"].map((content) => delta({ content, tool_calls: [] })), DONE),
    [
      "a",
      "b",
      "c",
      "<done>",
    ],
  ],
  [
    "the same reasoning beside each text, though the chunks are alike but for their text",
    stream(...["a", "b", "c"].map((content) => delta({ content, reasoning: "r" })), text("d"), DONE),
    ["<reasoning r>", "a", "<reasoning r>", "b", "<reasoning r>", "c", "d", "<done>"],
  ],
];
for (const [name, pieces, heard] of WANTED) {
  Deno.test(`openai events: where they are wanted, ${name}`, () => {
    assert.deepEqual(read([pieces.join("")], EVERYTHING), heard);
  });
  Deno.test(`openai events: where they are not wanted, ${name}`, () => {
    assert.deepEqual(
      read([pieces.join("")]),
      heard.filter((each) => !/^<(?:custom call|call|reasoning)/.test(each)),
    );
  });
}

Deno.test("openai events: a thousand calls and one are as many, and those that came last go on", () => {
  const first = Array.from(
    { length: 1_001 },
    (_, index) => call({ index, id: `c${index}`, function: { name: "f", arguments: "" } }),
  );
  const heard = read(
    stream(...first, call({ index: 1_000, function: { arguments: "{}" } }), DONE),
    EVERYTHING,
  );
  assert.deepEqual(heard.slice(-3), ["<call 1000 c1000 f >", "<call 1000 - - {}>", "<done>"]);
});

Deno.test("openai events: pages that the answer cites", () => {
  const citation = (url_citation: unknown) =>
    delta({ annotations: [{ type: "url_citation", url_citation }] });
  const pieces = stream(
    citation({ url: "https://x/", title: "X" }),
    citation({ url: "https://y/", title: null }),
    citation({ title: "none" }),
    citation(null),
    delta({ annotations: [null] }),
    DONE,
  );
  assert.deepEqual(read(pieces, EVERYTHING), [
    "<source https://x/ X>",
    "<source https://y/ undefined>",
    "<done>",
  ]);
  assert.deepEqual(read(pieces), ["<done>"]);
});

Deno.test("openai events: chunks as they came, in the place of what they say; an error is none", () => {
  const chunks = { reasoning: false, toolCalls: false, sources: false, chunks: true, counts: false };
  const all = [
    text("a"),
    text("b"),
    text("c"),
    delta({ content: "x", tool_calls: [{ index: 0 }] }),
    chunk([]),
  ];
  assert.deepEqual(read(stream(...all, finish("stop"), usage(3, 2), DONE), chunks), [
    ...all,
    finish("stop"),
    "<finish stop>",
    "<usage 3 2>",
    "<done>",
  ]);
  assert.deepEqual(read(stream(finish("stop"), usage(3, 2), DONE), { ...chunks, counts: true }), [
    finish("stop"),
    "<finish stop>",
    usage(3, 2),
    "<usage 3 2>",
    "<done>",
  ]);
  // Some say both in one.
  const last = chunk([{ index: 0, delta: {}, finish_reason: "stop" }], { usage: { prompt_tokens: 1 } });
  assert.deepEqual(read(stream(last), chunks), [last, "<finish stop>", "<usage 1 0>", "<done>"]);
  assert.deepEqual(read(stream(text("a"), '{"error":"oops"}'), chunks), [
    text("a"),
    "<stream_error: the provider reports: oops>",
  ]);
});

Deno.test("openai events: chunks that say nothing come with the first that does, so that a failure before it shows nothing", () => {
  const chunks = { reasoning: false, toolCalls: false, sources: false, chunks: true, counts: false };
  const filter = chunk([], { prompt_filter_results: [] });
  const role = delta({ role: "assistant", content: "", refusal: null, tool_calls: [] });
  for (
    const first of [
      text("a"),
      delta({ tool_calls: [{ index: 0 }] }),
      delta({ reasoning: "r" }),
      finish("stop"),
    ]
  ) {
    assert.deepEqual(read(stream(filter, role), chunks), [
      "<truncated: the stream ended before [DONE] and any finish reason>",
    ]);
    assert.deepEqual(read(stream(filter, role, first, role), chunks).slice(0, 3), [filter, role, first]);
  }
  assert.deepEqual(read(stream(filter, role, '{"error":"oops"}'), chunks), [
    "<stream_error: the provider reports: oops>",
  ]);
  assert.deepEqual(read(stream(role, DONE), chunks), [role, "<done>"]);
  // A server that says nothing again and again is heard.
  assert.deepEqual(read(stream(role, role, role, role, role, '{"error":"oops"}'), chunks).slice(0, 5), [
    role,
    role,
    role,
    role,
    role,
  ]);
});

Deno.test("openai events: any valid stream, cut at any bytes, gives the same events", () => {
  const random = randomInts(44);
  const parts = ["a", "é", "你好", "🌍", "👩‍👩‍👧", " ", '"\\\n', "\u2028"];
  for (let round = 0; round < 500; round++) {
    const ends = ["\n", "\r\n", "\r"];
    const end = ends[random(3)] ?? "\n";
    const expected: string[] = [];
    let all = random(2) === 0 ? "\ufeff" : "";
    for (let i = 0; i < 1 + random(8); i++) {
      const words = Array.from({ length: 1 + random(4) }, () => parts[random(parts.length)]).join("");
      expected.push(words);
      if (random(3) === 0) all += `: comment${end}${end}`;
      all += `data:${random(2) === 0 ? " " : ""}${text(words)}${end}${end}`;
    }
    all += `data: ${finish("stop")}${end}${end}data: ${usage(1, 2)}${end}${end}data: [DONE]${end}${end}`;
    expected.push("<finish stop>", "<usage 1 2>", "<done>");
    assert.deepEqual(read(randomCuts(encoder.encode(all), random)), expected);
  }
});

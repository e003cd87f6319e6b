/** Streams of the Responses API, as its documents have them, become events. */
import assert from "node:assert/strict";
import { ONLY_TEXT } from "../../../src/backend/http/dialect.ts";
import { ResponseReader } from "../../../src/backend/openai_responses/response_reader.ts";
import { EVERYTHING, heardOf, sameWhereverCut } from "../../support/heard_events.ts";

/** Events by their data, each with the name that is its type. */
const stream = (...events: readonly string[]): string =>
  events.map((data) => `event: ${/"type":"([\w.]+)"/.exec(data)?.[1]}\ndata: ${data}\n\n`).join("");
const CREATED =
  '{"type":"response.created","sequence_number":0,"response":{"id":"resp_1","object":"response","status":"in_progress","error":null,"incomplete_details":null,"output":[],"usage":null}}';
const text = (delta: string): string =>
  `{"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_1","output_index":0,"content_index":0,"delta":${
    JSON.stringify(delta)
  },"logprobs":[],"obfuscation":"x7"}`;
const COMPLETED =
  '{"type":"response.completed","sequence_number":9,"response":{"id":"resp_1","status":"completed","usage":{"input_tokens":37,"input_tokens_details":{"cached_tokens":0},"output_tokens":11,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":48}}}';
const read = (text: string, wanted = EVERYTHING): string[] => heardOf(ResponseReader, [text], wanted);
const call = (place: number, id: string, name: string): string =>
  `{"type":"response.output_item.added","sequence_number":2,"output_index":${place},"item":{"id":"fc_${place}","type":"function_call","status":"in_progress","arguments":"","call_id":"${id}","name":"${name}"}}`;
const piece = (place: number, delta: string): string =>
  `{"type":"response.function_call_arguments.delta","sequence_number":3,"item_id":"fc_${place}","output_index":${place},"delta":${
    JSON.stringify(delta)
  }}`;

const BASIC = stream(
  CREATED,
  '{"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_1"}}',
  '{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"msg_1","type":"message","status":"in_progress","role":"assistant","content":[]}}',
  '{"type":"response.content_part.added","sequence_number":3,"item_id":"msg_1","output_index":0,"content_index":0,"part":{"type":"output_text","text":"","annotations":[]}}',
  text("Hi"),
  text(" there, Zürich 🌍!"),
  '{"type":"response.output_text.annotation.added","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"annotation_index":0,"annotation":{"type":"url_citation","url":"https://a.example/","title":"A","start_index":0,"end_index":2}}',
  '{"type":"response.output_text.annotation.added","sequence_number":6,"item_id":"msg_1","output_index":0,"content_index":0,"annotation_index":1,"annotation":{"type":"file_citation","file_id":"f","filename":"a","index":0}}',
  '{"type":"response.output_text.done","sequence_number":7,"item_id":"msg_1","output_index":0,"content_index":0,"text":"Hi there, Zürich 🌍!"}',
  '{"type":"response.output_item.done","sequence_number":8,"output_index":0,"item":{"id":"msg_1","type":"message","status":"completed","role":"assistant","content":[]}}',
  COMPLETED,
);
const AGENT = stream(
  CREATED,
  '{"type":"response.output_item.added","sequence_number":2,"output_index":0,"item":{"id":"rs_1","type":"reasoning","summary":[]}}',
  '{"type":"response.reasoning_summary_part.added","sequence_number":3,"item_id":"rs_1","output_index":0,"summary_index":0,"part":{"type":"summary_text","text":""}}',
  '{"type":"response.reasoning_summary_text.delta","sequence_number":4,"item_id":"rs_1","output_index":0,"summary_index":0,"delta":"**First**"}',
  '{"type":"response.reasoning_summary_part.added","sequence_number":5,"item_id":"rs_1","output_index":0,"summary_index":1,"part":{"type":"summary_text","text":""}}',
  '{"type":"response.reasoning_summary_text.delta","sequence_number":6,"item_id":"rs_1","output_index":0,"summary_index":1,"delta":"**Then**"}',
  '{"type":"response.reasoning_text.delta","sequence_number":6,"item_id":"rs_1","output_index":0,"content_index":0,"delta":" raw"}',
  call(1, "call_a", "weather"),
  call(2, "call_b", "time"),
  piece(2, "{}"),
  piece(1, '{"city":'),
  piece(1, '"Zürich"}'),
  piece(1, ""),
  '{"type":"response.function_call_arguments.done","sequence_number":8,"item_id":"fc_1","output_index":1,"arguments":"{}"}',
  '{"type":"response.output_item.done","sequence_number":9,"output_index":1,"item":{"type":"function_call"}}',
  COMPLETED,
);

const callOver = (place: number, item: string): string =>
  `{"type":"response.output_item.done","sequence_number":5,"output_index":${place},"item":{${item}}}`;

const CASES: readonly (readonly [name: string, stream: string, heard: readonly string[]])[] = [
  [
    "calls whose input comes with their end alone",
    stream(
      CREATED,
      call(0, "call_a", "weather"),
      callOver(0, '"type":"function_call","arguments":"{\\"city\\":1}"'),
      '{"type":"response.output_item.added","output_index":1,"item":{"type":"custom_tool_call","call_id":"call_b","name":"sh","input":""}}',
      callOver(1, '"type":"custom_tool_call","input":"ls"'),
      call(2, "call_c", "time"),
      piece(2, "{}"),
      callOver(2, '"type":"function_call","arguments":"{}"'),
      '{"type":"response.output_item.added","output_index":3,"item":{"type":"function_call","call_id":"call_d","name":"now","arguments":"{}"}}',
      callOver(3, '"type":"function_call","arguments":"{}"'),
      COMPLETED,
    ),
    [
      "<call 0 call_a weather >",
      '<call 0 - - {"city":1}>',
      "<custom call 1 call_b sh >",
      "<custom call 1 - - ls>",
      "<call 2 call_c time >",
      "<call 2 - - {}>",
      "<call 3 call_d now {}>",
      "<finish tool_calls>",
      "<usage 37 11>",
      "<done>",
    ],
  ],
  ["text, and a page that it cites", BASIC, [
    "Hi",
    " there, Zürich 🌍!",
    "<source https://a.example/ A>",
    "<finish stop>",
    "<usage 37 11>",
    "<done>",
  ]],
  ["reasoning in paragraphs, and calls whose pieces are mixed", AGENT, [
    "<reasoning **First**>",
    "<reasoning \n\n>",
    "<reasoning **Then**>",
    "<reasoning  raw>",
    "<call 0 call_a weather >",
    "<call 1 call_b time >",
    "<call 1 - - {}>",
    '<call 0 - - {"city":>',
    '<call 0 - - "Zürich"}>',
    "<finish tool_calls>",
    "<usage 37 11>",
    "<done>",
  ]],
  [
    "a refusal is what the user sees",
    stream(
      '{"type":"response.refusal.delta","item_id":"msg_1","output_index":0,"content_index":0,"delta":"No.","sequence_number":1}',
      COMPLETED,
    ),
    ["No.", "<finish stop>", "<usage 37 11>", "<done>"],
  ],
  [
    "too long",
    stream(
      text("a"),
      '{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":1,"output_tokens":2}}}',
    ),
    ["a", "<finish length>", "<usage 1 2>", "<done>"],
  ],
  [
    "filtered",
    stream(
      '{"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}',
    ),
    ["<finish content_filter>", "<done>"],
  ],
  [
    "halves of a surrogate pair",
    stream(
      '{"type":"response.output_text.delta","delta":"\\ud83c"}',
      '{"type":"response.output_text.delta","delta":"\\udf0d"}',
      COMPLETED,
    ),
    ["🌍", "<finish stop>", "<usage 37 11>", "<done>"],
  ],
  [
    "a call of a tool that takes text",
    stream(
      '{"type":"response.output_item.added","output_index":0,"item":{"type":"custom_tool_call","id":"ctc_1","call_id":"call_a","name":"sh","input":""}}',
      '{"type":"response.custom_tool_call_input.delta","item_id":"ctc_1","output_index":0,"delta":"l"}',
      '{"type":"response.custom_tool_call_input.delta","item_id":"ctc_1","output_index":0,"delta":"s"}',
      '{"type":"response.custom_tool_call_input.done","item_id":"ctc_1","output_index":0,"input":"ls"}',
      '{"type":"response.output_item.done","output_index":0,"item":{"type":"custom_tool_call"}}',
      call(1, "call_b", "time"),
      piece(1, "{}"),
      COMPLETED,
    ),
    [
      "<custom call 0 call_a sh >",
      "<custom call 0 - - l>",
      "<custom call 0 - - s>",
      "<call 1 call_b time >",
      "<call 1 - - {}>",
      "<finish tool_calls>",
      "<usage 37 11>",
      "<done>",
    ],
  ],
  [
    "what may be added to the API, and what its own tools do",
    stream(
      '{"type":"response.web_search_call.searching","output_index":0,"item_id":"ws_1"}',
      '{"type":"response.output_item.added","output_index":0,"item":{"type":"web_search_call","id":"ws_1"}}',
      '{"type":"response.something_new","delta":"x"}',
      "{}",
      COMPLETED,
    ),
    ["<finish stop>", "<usage 37 11>", "<done>"],
  ],
  [
    "members that are null or of another type",
    stream(
      '{"type":"response.output_item.added","item":null}',
      '{"type":"response.output_text.delta","delta":5}',
      '{"type":"response.function_call_arguments.delta","output_index":7,"delta":"x"}',
      '{"type":"response.output_text.annotation.added","annotation":null}',
      '{"type":"response.completed","response":null}',
    ),
    ["<finish stop>", "<done>"],
  ],
  ["nothing after the end", stream(COMPLETED, text("late")), ["<finish stop>", "<usage 37 11>", "<done>"]],
  ["a [DONE] that some servers add", `${BASIC}data: [DONE]\n\n`, [
    "Hi",
    " there, Zürich 🌍!",
    "<source https://a.example/ A>",
    "<finish stop>",
    "<usage 37 11>",
    "<done>",
  ]],
  ["an end before the response's", stream(CREATED, text("a")), [
    "a",
    "<truncated: the stream ended before the response did>",
  ]],
  ["no JSON", "event: x\ndata: {\n\n", ['<malformed: an event that is not JSON: "{">']],
];
for (const [name, text, heard] of CASES) {
  Deno.test(`openai-responses events: ${name}`, () => assert.deepEqual(read(text), heard));
}

for (
  const [code, kind] of [
    ["rate_limit_exceeded", "rate_limited"],
    ["insufficient_quota", "rate_limited"],
    ["server_error", "server_error"],
    ["server_is_overloaded", "server_error"],
    ["invalid_prompt", "bad_request"],
    ["image_too_large", "bad_request"],
    ["context_length_exceeded", "bad_request"],
    ["bio_policy", "stream_error"],
  ] as const
) {
  Deno.test(`openai-responses events: ${code} is ${kind}, in either form`, () => {
    const said = [`<${kind}: the provider reports: Oh (${code})>`];
    assert.deepEqual(
      read(stream(`{"type":"response.failed","response":{"error":{"code":"${code}","message":"Oh"}}}`)),
      said,
    );
    assert.deepEqual(
      read(stream(`{"type":"error","code":"${code}","message":"Oh","param":null,"sequence_number":1}`)),
      said,
    );
  });
}

Deno.test("openai-responses events: an error without a code, or within one", () => {
  assert.deepEqual(read('event: error\ndata: {"type":"error","code":null,"message":"Oh"}\n\n'), [
    "<stream_error: the provider reports: Oh>",
  ]);
  assert.deepEqual(read('event: error\ndata: {"error":{"message":"Oh","code":"server_error"}}\n\n'), [
    "<server_error: the provider reports: Oh (server_error)>",
  ]);
});

Deno.test("openai-responses events: an error whose code is no text, nor can become one", () => {
  assert.deepEqual(read(stream('{"type":"error","code":{"toString":1},"message":"m"}')), [
    "<stream_error: the provider reports: m>",
  ]);
});

Deno.test("openai-responses events: calls that never end are bounded", () => {
  const heard = read(stream(...Array.from({ length: 1_001 }, (_, place) => call(place, "c", "f"))));
  assert.equal(heard.at(-1), "<malformed: more than 1000 calls under way at once>");
});

Deno.test("openai-responses events: who wants the text alone gets nothing else but usage and reason", () => {
  assert.deepEqual(read(AGENT, ONLY_TEXT), ["<finish tool_calls>", "<usage 37 11>", "<done>"]);
  assert.deepEqual(read(BASIC, ONLY_TEXT).filter((each) => /source/.test(each)), []);
});

Deno.test("openai-responses events: the same wherever the stream is cut", () => {
  for (const text of [BASIC, AGENT]) sameWhereverCut(ResponseReader, text);
});

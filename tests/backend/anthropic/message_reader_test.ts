/** Streams of the Messages API, as its documents have them, become events. */
import assert from "node:assert/strict";
import { MessageReader } from "../../../src/backend/anthropic/message_reader.ts";
import { ONLY_TEXT } from "../../../src/backend/http/dialect.ts";
import { EVERYTHING, heardOf, sameWhereverCut } from "../../support/heard_events.ts";

/** Events by their data, each with the name that is its type. */
const stream = (...events: readonly string[]): string =>
  events.map((data) => `event: ${/"type": ?"(\w+)"/.exec(data)?.[1]}\ndata: ${data}\n\n`).join("");
const START =
  '{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","content":[],"model":"claude","stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":25,"output_tokens":1}}}';
const TEXT = '{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}';
const delta = (text: string, index = 0): string =>
  `{"type":"content_block_delta","index":${index},"delta":{"type":"text_delta","text":${
    JSON.stringify(text)
  }}}`;
const stop = (index: number): string => `{"type":"content_block_stop","index":${index}}`;
const end = (reason: string, output = 15): string =>
  `{"type":"message_delta","delta":{"stop_reason":"${reason}","stop_sequence":null},"usage":{"output_tokens":${output}}}`;
const STOP = '{"type":"message_stop"}';
const PING = '{"type": "ping"}';
const read = (text: string, wanted = EVERYTHING): string[] => heardOf(MessageReader, [text], wanted);

/** From the documents' page on streaming: text, a call, a search of the provider's own, thinking. */
const BASIC = stream(START, TEXT, PING, delta("Hello"), delta("!"), stop(0), end("end_turn"), STOP);
const TOOL = stream(
  START,
  TEXT,
  delta("Okay"),
  delta(", let's check the weather for Zürich 🌦:"),
  stop(0),
  '{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_01T1x1fJ34qAmk2tNTrN7Up6","name":"get_weather","input":{}}}',
  '{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}',
  '{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"location\\":"}}',
  '{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":" \\"Zürich\\"}"}}',
  stop(1),
  '{"type":"content_block_start","index":2,"content_block":{"type":"tool_use","id":"toolu_2","name":"get_time","input":{}}}',
  '{"type":"content_block_delta","index":2,"delta":{"type":"input_json_delta","partial_json":"{}"}}',
  stop(2),
  end("tool_use", 89),
  STOP,
);
const SEARCH = stream(
  START,
  TEXT,
  delta("I look."),
  stop(0),
  '{"type":"content_block_start","index":1,"content_block":{"type":"server_tool_use","id":"srvtoolu_1","name":"web_search","input":{}}}',
  '{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\\"query\\":\\"x\\"}"}}',
  stop(1),
  '{"type":"content_block_start","index":2,"content_block":{"type":"web_search_tool_result","tool_use_id":"srvtoolu_1","content":[{"type":"web_search_result","title":"T","url":"https://a.example/","encrypted_content":"E","page_age":null}]}}',
  stop(2),
  '{"type":"content_block_start","index":3,"content_block":{"citations":[],"type":"text","text":""}}',
  '{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"web_search_result_location","cited_text":"c","url":"https://a.example/","title":"T","encrypted_index":"E"}}}',
  '{"type":"content_block_delta","index":3,"delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"c","document_index":0}}}',
  delta("Found.", 3),
  stop(3),
  '{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"input_tokens":10682,"cache_creation_input_tokens":0,"cache_read_input_tokens":5,"output_tokens":510,"server_tool_use":{"web_search_requests":1}}}',
  STOP,
);
const THINKING = stream(
  START,
  '{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}',
  '{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"I need the GCD"}}',
  '{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":" of 1071 … 🤔"}}',
  '{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"EqQBCgIYAhIM"}}',
  stop(0),
  '{"type":"content_block_start","index":1,"content_block":{"type":"redacted_thinking","data":"EmwKAhgB"}}',
  stop(1),
  '{"type":"content_block_start","index":2,"content_block":{"type":"text","text":""}}',
  delta("It is 21.", 2),
  stop(2),
  end("end_turn"),
  STOP,
);

const CASES: readonly (readonly [name: string, stream: string, heard: readonly string[]])[] = [
  ["text, with a ping", BASIC, ["Hello", "!", "<finish stop>", "<usage 25 15>", "<done>"]],
  ["calls, numbered without the blocks of text", TOOL, [
    "Okay",
    ", let's check the weather for Zürich 🌦:",
    "<call 0 toolu_01T1x1fJ34qAmk2tNTrN7Up6 get_weather >",
    '<call 0 - - {"location":>',
    '<call 0 - -  "Zürich"}>',
    "<call 1 toolu_2 get_time >",
    "<call 1 - - {}>",
    "<finish tool_calls>",
    "<usage 25 89>",
    "<done>",
  ]],
  [
    "the input of a call without pieces, as of a tool without parameters, is JSON as well",
    stream(
      START,
      '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"toolu_1","name":"now","input":{}}}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":""}}',
      stop(0),
      '{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_2","name":"find","input":{"q":"é"}}}',
      stop(1),
      end("tool_use"),
      STOP,
    ),
    [
      "<call 0 toolu_1 now >",
      "<call 0 - - {}>",
      "<call 1 toolu_2 find >",
      '<call 1 - - {"q":"é"}>',
      "<finish tool_calls>",
      "<usage 25 15>",
      "<done>",
    ],
  ],
  ["a search of the provider's own is no call; a page is cited", SEARCH, [
    "I look.",
    "<source https://a.example/ T>",
    "Found.",
    "<finish stop>",
    "<usage 10687 510>",
    "<done>",
  ]],
  ["thinking", THINKING, [
    "<reasoning I need the GCD>",
    "<reasoning  of 1071 … 🤔>",
    "It is 21.",
    "<finish stop>",
    "<usage 25 15>",
    "<done>",
  ]],
  [
    "tokens of caches are input",
    stream(
      '{"type":"message_start","message":{"usage":{"input_tokens":3,"cache_creation_input_tokens":10,"cache_read_input_tokens":100,"output_tokens":2}}}',
      STOP,
    ),
    ["<usage 113 2>", "<done>"],
  ],
  [
    "blocks that begin with something",
    stream(
      '{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"a"}}',
      '{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"b"}}',
      STOP,
    ),
    ["<reasoning a>", "b", "<done>"],
  ],
  [
    "halves of a surrogate pair",
    stream(
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83c"}}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\udf0d"}}',
      STOP,
    ),
    ["🌍", "<done>"],
  ],
  [
    "what may be added to the API",
    stream(
      '{"type":"something_new","index":0}',
      '{"type":"content_block_start","index":0,"content_block":{"type":"new_block"}}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"new_delta","text":"x"}}',
      "{}",
      STOP,
    ),
    ["<done>"],
  ],
  [
    "members that are null or of another type",
    stream(
      '{"type":"message_start","message":null}',
      '{"type":"message_start","message":{"usage":{"input_tokens":"5"}}}',
      '{"type":"content_block_start","index":0,"content_block":null}',
      '{"type":"content_block_delta","index":0,"delta":null}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":5}}',
      '{"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":null}}',
      '{"type":"message_delta","delta":null,"usage":null}',
      STOP,
    ),
    ["<done>"],
  ],
  ["nothing after the end", stream(STOP, delta("late")), ["<done>"]],
  ["an end without its mark, though the model had finished", stream(delta("a"), end("max_tokens", 1)), [
    "a",
    "<finish length>",
    "<usage 0 1>",
    "<done>",
  ]],
  ["an end before any reason", stream(START, delta("a")), [
    "a",
    "<usage 25 1>",
    "<truncated: the stream ended before message_stop and any stop reason>",
  ]],
  ["no JSON", stream(delta("a")) + "event: x\ndata: {\n\n", [
    "a",
    '<malformed: an event that is not JSON: "{">',
  ]],
];
for (const [name, text, heard] of CASES) {
  Deno.test(`anthropic events: ${name}`, () => assert.deepEqual(read(text), heard));
}

for (
  const [type, kind] of [
    ["overloaded_error", "server_error"],
    ["api_error", "server_error"],
    ["timeout_error", "server_error"],
    ["rate_limit_error", "rate_limited"],
    ["authentication_error", "auth"],
    ["permission_error", "auth"],
    ["not_found_error", "not_found"],
    ["invalid_request_error", "bad_request"],
    ["request_too_large", "bad_request"],
    ["a_new_error", "stream_error"],
  ] as const
) {
  Deno.test(`anthropic events: ${type} in the stream is ${kind}`, () => {
    assert.deepEqual(read(stream(delta("a"), `{"type":"error","error":{"type":"${type}","message":"Oh"}}`)), [
      "a",
      `<${kind}: the provider reports: Oh (${type})>`,
    ]);
  });
}

Deno.test("anthropic events: who wants the text alone gets nothing else but usage and reason", () => {
  assert.deepEqual(read(THINKING, ONLY_TEXT), ["It is 21.", "<finish stop>", "<usage 25 15>", "<done>"]);
  assert.deepEqual(read(TOOL, ONLY_TEXT).filter((each) => /call|source/.test(each)), ["<finish tool_calls>"]);
  assert.deepEqual(read(SEARCH, ONLY_TEXT).filter((each) => /call|source/.test(each)), []);
});

Deno.test("anthropic events: the same wherever the stream is cut", () => {
  for (const text of [BASIC, TOOL, SEARCH, THINKING]) sameWhereverCut(MessageReader, text);
});

Deno.test("anthropic events: a text that comes in a hundred pieces is whole, whatever stands in it", () => {
  const texts = Array.from(
    { length: 100 },
    (_, i) => ['"', "\\", "\n", "é", "{}", "text_delta"][i % 6] as string + i,
  );
  const heard = read(stream(START, TEXT, ...texts.map((text) => delta(text)), STOP));
  assert.deepEqual(heard.slice(0, -2), texts);
});

import assert from "node:assert/strict";
import { HandoffRequestError } from "../../src/errors.ts";
import {
  DEFAULT_PROMPT,
  type HandoffRequest,
  parseHandoffRequest,
  requestIdOf,
  type RequestRules,
} from "../../src/protocol/handoff_request.ts";

const rules: RequestRules = {
  model: "default-model",
  members: ["tools", "stop"],
  format: "content",
  include: [],
  makeRequestId: () => "made-1",
};

function parse(payload: string | Uint8Array): HandoffRequest {
  return parseHandoffRequest(
    typeof payload === "string" ? new TextEncoder().encode(payload) : payload,
    rules,
  );
}

function refusal(payload: string | Uint8Array): string {
  try {
    parse(payload);
  } catch (error) {
    assert(error instanceof HandoffRequestError);
    return error.message;
  }
  throw new assert.AssertionError({ message: "it was accepted" });
}

const everythingDefault = {
  requestId: "made-1",
  messages: [{ role: "user", content: DEFAULT_PROMPT }],
  model: "default-model",
  format: "content",
  include: [],
};

for (
  const [name, payload] of [
    ["empty", ""],
    ["one NUL byte", "\0"],
    ["a NUL byte, whatever follows it", '\0{"prompt":"x"}'],
    ["an empty object", "{}"],
    ["texts that are empty", '{"prompt":"","system":"","model":"","request_id":"","test_pattern":""}'],
  ] as const
) {
  Deno.test(`${name} stands for the defaults`, () => assert.deepEqual(parse(payload), everythingDefault));
}

Deno.test("every field is taken", () => {
  const fields = {
    prompt: "ignored, messages win",
    system: "ignored as well",
    messages: [{ role: "system", content: "Be brief" }, {
      role: "user",
      content: [{ type: "text", text: "Hi" }],
    }],
    model: "m",
    max_tokens: 7,
    max_completion_tokens: 8,
    temperature: 0.5,
    user_id: 42,
    request_id: "r-1",
    test_pattern: "unicode",
    traceparent: "any text",
    thread_id: "t-1",
    run_id: "r-1",
    unknown: { x: 1 },
  };
  assert.deepEqual(parse(JSON.stringify(fields)), {
    requestId: "r-1",
    messages: fields.messages,
    model: "m",
    format: "content",
    include: [],
    maxTokens: 7,
    maxCompletionTokens: 8,
    temperature: 0.5,
    userId: "42",
    testPattern: "unicode",
    traceparent: "any text",
    threadId: "t-1",
    runId: "r-1",
  });
});

Deno.test("system and prompt become messages", () => {
  assert.deepEqual(parse('{"system":"S","prompt":"P"}').messages, [
    { role: "system", content: "S" },
    { role: "user", content: "P" },
  ]);
});

Deno.test("an empty list of messages leaves the word to the prompt", () => {
  assert.deepEqual(parse('{"messages":[],"prompt":"P"}').messages, [{ role: "user", content: "P" }]);
});

Deno.test("messages are taken as they are: parts, null content, none beside tool calls, further members", () => {
  const messages = [
    {
      role: "user",
      content: [
        { type: "text", text: "What is this?" },
        { type: "image_url", image_url: { url: "data:image/png;base64,AA==", detail: "low" } },
        { type: "input_audio", input_audio: { data: "AA==", format: "wav" } },
        { type: "file", file: { file_id: "file-1" } },
      ],
    },
    { role: "assistant", content: null, tool_calls: [{ id: "c1" }] },
    { role: "assistant", tool_calls: [{ id: "c2" }] },
    { role: "tool", tool_call_id: "c1", content: "42" },
  ];
  assert.deepEqual(parse(JSON.stringify({ messages })).messages, messages);
});

Deno.test("members of the provider's request are taken if they are allowed, null ones left out", () => {
  const tools = [{ type: "function", function: { name: "f" } }];
  assert.deepEqual(parse(JSON.stringify({ request: { tools, stop: null } })).members, { tools });
  for (const request of [{}, [], null, { stop: null }]) {
    assert.deepEqual(parse(JSON.stringify({ request })), everythingDefault);
  }
});

Deno.test("what is included is the handoff's word, that of the configuration without it", () => {
  const parseWith = (payload: string) =>
    parseHandoffRequest(new TextEncoder().encode(payload), { ...rules, include: ["usage"] });
  assert.deepEqual(parseWith("{}").include, ["usage"]);
  assert.deepEqual(parseWith('{"include":null}').include, ["usage"]);
  assert.deepEqual(parseWith('{"include":[]}').include, []);
  assert.equal(parseWith('{"format":"ai-sdk"}').format, "ai-sdk");
  assert.equal(parseWith('{"format":null}').format, "content");
  assert.deepEqual(parseWith('{"include":["finish","tool_calls"]}').include, ["finish", "tool_calls"]);
});

Deno.test("further lines of the response's head are taken as they go out", () => {
  const response_headers = { "X-Trace": "a", "Set-Cookie": ["b=1", "c=2"], Vary: null };
  const { responseHeaders } = parse(JSON.stringify({ response_headers }));
  assert.equal(responseHeaders, "X-Trace: a\r\nSet-Cookie: b=1\r\nSet-Cookie: c=2\r\n");
  for (const none of [{}, [], null]) {
    assert.deepEqual(parse(JSON.stringify({ response_headers: none })), everythingDefault);
  }
});

Deno.test("null, which PHP makes of what is not set, means absent", () => {
  assert.deepEqual(
    parse('{"prompt":null,"messages":null,"model":null,"max_tokens":null,"user_id":null}'),
    everythingDefault,
  );
});

Deno.test("an id of 1 to 128 characters is taken, a longer one refused", () => {
  for (const length of [1, 128]) {
    const id = "x".repeat(length);
    assert.equal(parse(JSON.stringify({ request_id: id })).requestId, id);
  }
  assert.equal(
    refusal(JSON.stringify({ request_id: "x".repeat(129) })),
    'Field "request_id" is not 1 to 128 characters of printable ASCII',
  );
});

Deno.test("a temperature of 0 is one, and so is a single token", () => {
  const { temperature, maxTokens } = parse('{"temperature":0,"max_tokens":1}');
  assert.deepEqual([temperature, maxTokens], [0, 1]);
});

Deno.test("the id of what is refused is told apart from what is none", () => {
  const idOf = (payload: string) => requestIdOf(new TextEncoder().encode(payload));
  assert.equal(idOf('{"request_id":"r-1","prompt":1}'), "r-1");
  for (const payload of ["", "\0", "no JSON", "[]", "{}", '{"request_id":1}', '{"request_id":"a\\nb"}']) {
    assert.equal(idOf(payload), undefined, payload);
  }
});

Deno.test("spaces around an id are no part of it: over HTTP/2 they would end a connection", () => {
  const { requestId, testPattern } = parse('{"request_id":" lead and trail ","test_pattern":" plain"}');
  assert.deepEqual([requestId, testPattern], ["lead and trail", "plain"]);
  assert.equal(parse('{"request_id":"  "}').requestId, parse("{}").requestId);
});

Deno.test("a user id may be a string", () => assert.equal(parse('{"user_id":"u"}').userId, "u"));

Deno.test("a user id of more than 53 bits keeps its digits", () => {
  const data =
    '{"user":{"user_id":9223372036854775801},"user_id":1234567890123456789,"more":[{"user_id":1}]}';
  assert.equal(parse(data).userId, "1234567890123456789");
  assert.equal(parse('{"user_id":-9223372036854775808}').userId, "-9223372036854775808");
  assert.deepEqual([parse('{"user_id":1e3}').userId, parse('{"user_id":1.5}').userId], ["1000", "1.5"]);
});

for (
  const [payload, message] of [
    ['{"prompt":"x"', "Handoff data is not valid JSON (13 bytes)"],
    ["[1]", "Handoff data is an array, expected a JSON object"],
    ['"x"', "Handoff data is a string, expected a JSON object"],
    ["null", "Handoff data is null, expected a JSON object"],
    [new Uint8Array([0x7b, 0xff, 0x7d]), "Handoff data is not valid UTF-8"],
    ['{"prompt":1}', 'Field "prompt" is 1, expected a string'],
    ['{"system":{}}', 'Field "system" is an object, expected a string'],
    ['{"model":true}', 'Field "model" is a boolean, expected a string'],
    ['{"messages":"x"}', 'Field "messages" is a string, expected an array of {role, content}'],
    ['{"messages":["x"]}', 'Field "messages[0]" is a string, expected an object with role and content'],
    ['{"messages":[{"content":"x"}]}', 'Field "messages[0].role" is missing, expected a string'],
    [
      '{"messages":[{"role":"user","content":"x"},{"role":"user","content":7}]}',
      'Field "messages[1].content" is 7, expected a string, an array of parts or null',
    ],
    [
      '{"messages":[{"role":"user"}]}',
      'Field "messages[0].content" is missing, expected a string, an array of parts or null',
    ],
    ['{"request":"x"}', 'Field "request" is a string, expected an object'],
    ['{"request":[1]}', 'Field "request" is an array, expected an object'],
    [
      '{"request":{"stop":"x","stream":false}}',
      'Field "request.stream" is not among the daemon\'s backend.request_members',
    ],
    [
      '{"request":{"a\\r\\nb":1}}',
      'Field "request" with a member that is not among the daemon\'s backend.request_members',
    ],
    ['{"response_headers":"X-A: b"}', 'Field "response_headers" is not an object of names and values'],
    ['{"format":1}', 'Field "format" is 1, expected a string'],
    ['{"format":"xml"}', 'Field "format" is not one of content, openai, ai-sdk'],
    [
      '{"include":"usage"}',
      'Field "include" is a string, expected an array of usage, finish, reasoning, tool_calls',
    ],
    [
      '{"include":["usage","cost"]}',
      'Field "include[1]" is not one of usage, finish, reasoning, tool_calls',
    ],
    ['{"max_tokens":"7"}', 'Field "max_tokens" is a string, expected a number'],
    ['{"max_tokens":0}', 'Field "max_tokens" is 0, expected a positive integer'],
    ['{"max_tokens":1.5}', 'Field "max_tokens" is 1.5, expected a positive integer'],
    ['{"temperature":-1}', 'Field "temperature" is -1, expected a number from 0 up'],
    ['{"temperature":1e400}', 'Field "temperature" is Infinity, expected a number from 0 up'],
    ['{"user_id":[]}', 'Field "user_id" is an array, expected a number or a string'],
    ['{"thread_id":7}', 'Field "thread_id" is 7, expected a string'],
    ['{"thread_id":"ü"}', 'Field "thread_id" is not 1 to 128 characters of printable ASCII'],
    ['{"run_id":"r"}', 'Field "run_id" needs a "thread_id" beside it'],
    ['{"request_id":"a\\r\\nX-Evil: 1"}', 'Field "request_id" is not 1 to 128 characters of printable ASCII'],
    ['{"test_pattern":"é"}', 'Field "test_pattern" is not 1 to 128 characters of printable ASCII'],
  ] as const
) {
  Deno.test(`refused: ${message}`, () => assert.equal(refusal(payload), message));
}

Deno.test("a user id whose digits cannot be looked up, since the data nests too deeply, is refused", () => {
  const deep = "[".repeat(60_000) + "]".repeat(60_000);
  assert.equal(
    refusal(`{"user_id":1234567890123456789,"a":${deep}}`),
    'Handoff data is nested too deeply for a "user_id" of so many digits',
  );
  assert.equal(parse(`{"user_id":1,"a":${deep}}`).userId, "1");
});

Deno.test("a refusal quotes nothing of the data", () => {
  assert(!refusal('{"prompt":"my secret').includes("secret"));
});

const several: RequestRules = {
  ...rules,
  backends: [
    { name: "default", model: "default-model", members: ["tools"], models: ["gpt-"], selectable: false },
    { name: "mini", model: "mini-model", members: [], models: ["gpt-4o-mini", "o3"], selectable: true },
    { name: "local", model: "local-model", members: ["seed"], models: ["llama"], selectable: true },
  ],
};

Deno.test("backend: the one that is named, or else the one with the longest beginning of the model, or none", () => {
  const cases: [fields: Record<string, unknown>, backend: string | undefined, model: string][] = [
    [{}, undefined, "default-model"],
    [{ backend: null, model: "" }, undefined, "default-model"],
    [{ model: "unknown" }, undefined, "unknown"],
    [{ model: "gpt-4o" }, "default", "gpt-4o"],
    [{ model: "gpt-4o-mini-2" }, "mini", "gpt-4o-mini-2"],
    [{ model: "llama" }, "local", "llama"],
    [{ backend: "local" }, "local", "local-model"],
    [{ backend: "local", model: "gpt-4o" }, "local", "gpt-4o"],
  ];
  for (const [fields, backend, model] of cases) {
    const request = parseHandoffRequest(new TextEncoder().encode(JSON.stringify(fields)), several);
    assert.deepEqual([request.backend, request.model], [backend, model], JSON.stringify(fields));
  }
});

Deno.test("backend: what request may have is what that one takes", () => {
  const payload = (fields: unknown) => new TextEncoder().encode(JSON.stringify(fields));
  const seed = { backend: "local", request: { seed: 1 } };
  assert.deepEqual(parseHandoffRequest(payload(seed), several).members, { seed: 1 });
  assert.throws(
    () => parseHandoffRequest(payload({ model: "o3", request: { seed: 1 } }), several),
    /Field "request\.seed" is not among/,
  );
});

Deno.test("backend: a name that is not selectable is refused, and the message says which are", () => {
  for (const backend of ["default", "other", "constructor"]) {
    const payload = new TextEncoder().encode(JSON.stringify({ backend }));
    assert.throws(() => parseHandoffRequest(payload, several), {
      name: "HandoffRequestError",
      message: 'Field "backend" is not one of mini, local',
    });
  }
  assert.equal(
    refusal('{"backend":"x"}'),
    'Field "backend" is given, and the daemon\'s backend.selectable names none',
  );
  assert.equal(refusal('{"backend":7}'), 'Field "backend" is 7, expected a string');
});

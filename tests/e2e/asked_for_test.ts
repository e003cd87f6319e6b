/** What a handoff may ask for besides an answer, over the real daemon and the stand-in provider. */
import assert from "node:assert/strict";
import { answer, HELLO, openaiDaemon, told } from "../support/openai_daemon.ts";
import { plainResponse, streamHead } from "../support/wire.ts";

const MESSAGES = [
  { role: "system", content: "Be brief." },
  {
    role: "user",
    content: [
      { type: "text", text: "What is on it? 😀" },
      { type: "image_url", image_url: { url: "data:image/png;base64,iVBORw0KGgo=", detail: "low" } },
      { type: "input_audio", input_audio: { data: "UklGRg==", format: "wav" } },
      { type: "file", file: { filename: "a.pdf", file_data: "data:application/pdf;base64,JVBERi0=" } },
    ],
  },
  { role: "assistant", content: null, tool_calls: [{ id: "c1", type: "function", function: { name: "f" } }] },
  { role: "tool", tool_call_id: "c1", content: "42" },
];

const REQUEST = {
  tools: [{ type: "function", function: { name: "f", parameters: { type: "object" }, strict: true } }],
  tool_choice: { type: "function", function: { name: "f" } },
  parallel_tool_calls: false,
  response_format: { type: "json_schema", json_schema: { name: "a", schema: { type: "object" } } },
  stop: ["\n\n", "END"],
  top_p: 0.3,
  seed: 7,
  metadata: { team: "web" },
  reasoning_effort: "low",
};

const HEADERS = {
  "Access-Control-Allow-Origin": "https://app.example",
  "Set-Cookie": ["a=1; HttpOnly", "b=2"],
};
const LINES =
  "Access-Control-Allow-Origin: https://app.example\r\nSet-Cookie: a=1; HttpOnly\r\nSet-Cookie: b=2\r\n";

Deno.test("a handoff's messages, request and response_headers", async (t) => {
  await using both = await openaiDaemon("h1");
  await t.step("messages and the request object reach the provider as the handoff has them", async () => {
    using client = both.daemon.handOff({ messages: MESSAGES, request: REQUEST, model: "m" });
    assert.equal(await client.readAll(), HELLO);
    assert.deepEqual(both.mock.requests[0]?.body, {
      ...REQUEST,
      model: "m",
      messages: MESSAGES,
      stream: true,
      stream_options: { include_usage: true },
    });
  });
  await t.step(
    "response_headers are in the stream's head, and in the failure's that comes in its place",
    async () => {
      using whole = both.daemon.handOff({ response_headers: HEADERS });
      assert.equal(await whole.readAll(), streamHead(LINES) + HELLO.slice(streamHead("").length));
      using failed = both.daemon.handOff({ response_headers: HEADERS, test_pattern: "status-500" });
      assert.equal(await failed.readAll(), plainResponse(502, "Backend unavailable", LINES));
      using refused = both.daemon.handOff({ response_headers: { "X-A": "b\r\nContent-Length: 0" } });
      assert.equal(
        await refused.readAll(),
        plainResponse(
          400,
          'Field "response_headers.X-A" is not a string, or an array of strings, of printable ASCII',
        ),
      );
    },
  );
});

Deno.test("a member of the request that the configuration does not list is a 400, and asks nobody", async () => {
  await using both = await openaiDaemon("h1", { env: { DAEMON_REQUEST_MEMBERS: "seed" } });
  using refused = both.daemon.handOff({ request: { seed: 1, tools: [] } });
  assert.equal(
    await refused.readAll(),
    plainResponse(400, `Field "request.tools" is not among the daemon's backend.request_members`),
  );
  assert.equal(both.mock.requests.length, 0);
  using taken = both.daemon.handOff({ request: { seed: 1 } });
  assert.equal(await taken.readAll(), HELLO);
});

const named = (name: string, value: unknown): string =>
  `event: ${name}\ndata: ${JSON.stringify({ [name]: value })}\n\n`;
const INCLUDED: Readonly<Record<string, readonly string[]>> = {
  reasoning: ["Let me ", "think. 🤔"].map((text) => named("reasoning", text)),
  tool_calls: [
    { index: 0, id: "call_a", name: "weather", arguments: "" },
    { index: 0, arguments: '{"city":"Zü' },
    { index: 0, arguments: 'rich"}' },
    { index: 1, id: "call_b", name: "time", arguments: "{}" },
  ].map((call) => named("tool_calls", [call])),
  finish: [named("finish", "tool_calls")],
  usage: [named("usage", { input_tokens: 11, output_tokens: 22 })],
};

/** An answer to the pattern `agent` with these included. */
function agent(include: readonly string[]): string {
  const [head, ...plain] = told("It is ", "sunny.").split("data: ");
  const [first, second, done] = plain.map((each) => `data: ${each}`);
  const included = (name: string): string => include.includes(name) ? (INCLUDED[name] ?? []).join("") : "";
  return [
    head,
    included("reasoning"),
    first,
    second,
    included("tool_calls"),
    included("finish"),
    included("usage"),
    done,
  ].join("");
}

Deno.test("what is included comes in events of its name, and nothing else changes", async (t) => {
  await using both = await openaiDaemon("h1", { env: { OPENAI_INCLUDE_USAGE: "0" } });
  const { daemon, mock } = both;
  const lists = [[], ...Object.keys(INCLUDED).map((name) => [name]), Object.keys(INCLUDED)];
  for (const include of lists) {
    await t.step(`[${include}]`, async () => {
      assert.equal(await answer(daemon, "agent", { include }), agent(include));
      // Counts of tokens are asked for where somebody wants them.
      assert.deepEqual(
        mock.requests.at(-1)?.body["stream_options"],
        include.includes("usage") ? { include_usage: true } : undefined,
      );
    });
  }
  await t.step("not said", async () => assert.equal(await answer(daemon, "agent"), agent([])));
});

Deno.test("response.include is for handoffs that do not say", async () => {
  await using both = await openaiDaemon("h1", { env: { DAEMON_RESPONSE_INCLUDE: "finish" } });
  assert.equal(await answer(both.daemon, "agent"), agent(["finish"]));
  assert.equal(await answer(both.daemon, "agent", { include: [] }), agent([]));
});

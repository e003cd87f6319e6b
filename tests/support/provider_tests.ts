/**
 * What a provider that speaks another language than chat completions is tested by, over the real daemon and the
 * stand-in: what a browser receives is the same as from any other.
 * @module
 */
import assert from "node:assert/strict";
import OpenAI from "openai";
import { PROTOCOLS } from "./backend_rig.ts";
import type { LogLine, TestDaemon } from "./daemon.ts";
import { LONG_TEXT, UNICODE_TEXTS } from "./mock_llm_patterns.ts";
import {
  answer,
  broken,
  HELLO,
  KEY,
  openaiDaemon,
  type Pair,
  type Provider,
  told,
  UNAVAILABLE,
} from "./openai_daemon.ts";
import { plainResponse } from "./wire.ts";

/** A provider, and what is its own. */
export interface ProviderCase extends Provider {
  /** Its words for why a model stops, and what a page is told. */
  readonly reasons: Readonly<Record<string, string>>;
  /** What the stream lacks that ends too early; null: an end in order is always whole. */
  readonly missing: RegExp | null;
  /** Whether an answer that has its reason is whole without an end mark. */
  readonly wholeWithoutMark: boolean;
  /** Kinds of the errors that are reported in a stream. */
  readonly kinds: Readonly<Record<string, string>>;
}

const ALL = ["reasoning", "tool_calls", "finish", "usage"];

/** The fields of the line that says this of a request; waits for it. */
async function logOf(
  daemon: TestDaemon,
  requestId: string,
  message: string,
): Promise<Readonly<Record<string, unknown>>> {
  let found: LogLine | undefined;
  await daemon.until(`"${message}" of ${requestId}`, () => {
    found = daemon.log.find((line) =>
      line.fields["request_id"] === requestId && line.message.startsWith(message)
    );
    return found !== undefined;
  });
  return { ...found?.fields, message: found?.message };
}

/** The protocol over which all is tested. */
const WHOLE = "h1";

/** What is seen over each protocol. */
const SMOKE: readonly (readonly [pattern: string, answer: string])[] = [
  ["plain", HELLO],
  ["status-429", UNAVAILABLE],
  ["reset-head", UNAVAILABLE],
  ["abort-2", broken(["word0 ", "word1 "])],
  ["error-1", broken(["word0 "])],
];

/** Registers the tests: all of them over one protocol, over the others a few. */
export function providerTests(provider: ProviderCase): void {
  const { name } = provider;

  Deno.test(`${name} over ${WHOLE}: answers`, async (t) => {
    await using both = await openaiDaemon(WHOLE, {
      provider,
      env: { DAEMON_METRICS_MODELS: "m-1", [`${provider.variables}_MAX_RETRIES`]: "1" },
    });
    await t.step(`${name}: what it says, to the last byte`, (t) => saysAll(both, t));
    await t.step(
      `${name}: what is included is as from chat completions, in each format`,
      (t) => includesTheSame(both, t),
    );
    await t.step(
      `${name}: the format openai has chunks, which the package openai reads`,
      () => isReadByOpenAi(both),
    );
    await t.step(
      `${name}: why the model stopped, in the words of chat completions; usage in the log`,
      (t) => saysWhyAndHowMuch(both, provider, t),
    );
    await t.step(
      `${name}: a failure before the head is tried again, after the head not`,
      (t) => triesAgain(both, t),
    );
  });

  Deno.test(`${name} over ${WHOLE}: failures`, async (t) => {
    await using both = await openaiDaemon(WHOLE, {
      provider,
      env: { DAEMON_BACKEND_TIMEOUT_SECS: "2" },
      mock: { delayMs: 200 },
    });
    await t.step(`${name}: what takes longer than the time-out`, (t) => takesLong(both, provider, t));
    await t.step(`${name}: what each failure becomes`, (t) => fails(both, provider, t));
  });

  for (const protocol of PROTOCOLS) {
    Deno.test(`${name} over ${protocol}: an answer, failures, a client that goes away`, async (t) => {
      const gate = Promise.withResolvers<void>();
      await using both = await openaiDaemon(protocol, { provider, mock: { gate: gate.promise } });
      await t.step(
        `${name}: a client that goes away ends its request, and no other`,
        () => goesAway(both, gate.resolve),
      );
      for (const [pattern, expected] of SMOKE) {
        await t.step(pattern, async () => assert.equal(await answer(both.daemon, pattern), expected));
      }
      const versions = new Set(both.mock.requests.map(({ httpVersion }) => httpVersion));
      assert.deepEqual(versions, new Set([protocol === "h1" ? "1.1" : "2.0"]));
    });
  }
}

async function saysAll({ daemon, mock }: Pair, t: Deno.TestContext): Promise<void> {
  const answers: readonly (readonly [pattern: string, answer: string])[] = [
    ["plain", HELLO],
    ["unicode", told(...UNICODE_TEXTS)],
    ["bytes", told(...UNICODE_TEXTS)],
    ["pieces-4096", told(...Array<string>(4).fill(LONG_TEXT))],
    ["burst-20", told(...Array.from({ length: 20 }, (_, i) => `word${i} `))],
    ["open-end", told("word ")],
    ["think-2", told("word0 ")],
    ["agent", told("It is ", "sunny.")],
  ];
  for (const [pattern, expected] of answers) {
    await t.step(pattern, async () => assert.equal(await answer(daemon, pattern), expected));
  }
  await t.step("which has the key, the id and the pattern with each request", () => {
    const headers = mock.requests[0]?.headers ?? {};
    assert.equal(headers["x-api-key"] ?? headers["authorization"]?.toString().replace("Bearer ", ""), KEY);
    assert.equal(headers["accept-encoding"], "identity");
    assert.equal(headers["content-type"], "application/json");
    assert.equal(headers["x-test-pattern"], "plain");
    assert.match(String(headers["x-request-id"]), /./);
  });
}

/** Some fail by the time-out of two seconds, others go on for longer. */
async function takesLong({ daemon }: Pair, { name }: ProviderCase, t: Deno.TestContext): Promise<void> {
  const stalls = [
    ["stall-head", plainResponse(504, "Backend timeout")],
    ["stall-1", broken(["word0 "], "Backend timeout")],
  ] as const;
  // A model that thinks, and a provider that only says that it is there, are waited for.
  const patterns = [...stalls, ["think-12", told("word0 ")], ["comments-12", told("word0 ")]] as const;
  const answers = patterns.map(([pattern]) => answer(daemon, pattern, { request_id: pattern }));
  for (const [i, [pattern, expected]] of patterns.entries()) {
    await t.step(pattern, async () => assert.equal(await answers[i], expected));
  }
  assert.equal(await daemon.metric("daemon_backend_errors", { backend: name, kind: "timeout" }), 2);
  for (const [pattern] of stalls) {
    assert.match(JSON.stringify(await logOf(daemon, pattern, "Backend ")), /gave nothing for 2000 ms/);
  }
}

async function fails({ daemon }: Pair, provider: ProviderCase, t: Deno.TestContext): Promise<void> {
  const { name, kinds, wholeWithoutMark, missing } = provider;
  const failures: readonly (readonly [pattern: string, answer: string, kind: string, said: RegExp])[] = [
    ["status-400", UNAVAILABLE, "bad_request", /the provider answered 400 .*a made-up 400/],
    ["status-401", UNAVAILABLE, "auth", /the provider answered 401 .*a made-up 401/],
    ["echo-key", UNAVAILABLE, "auth", /Incorrect API key provided: \[key\]/],
    ["status-404", UNAVAILABLE, "not_found", /the provider answered 404 .*a made-up 404/],
    ["status-429", UNAVAILABLE, "rate_limited", /the provider answered 429 .*a made-up 429/],
    ["status-529", UNAVAILABLE, "server_error", /the provider answered 529 .*a made-up 529/],
    ["html", UNAVAILABLE, "malformed", /the answer is text\/html; expected text\/event-stream/],
    ["json", UNAVAILABLE, "malformed", /the answer is application\/json; expected text\/event-stream/],
    ["gzip", UNAVAILABLE, "malformed", /in the coding gzip, which was not asked for/],
    ["reset-head", UNAVAILABLE, "unavailable", /reset|closed/],
    ["abort-2", broken(["word0 ", "word1 "]), "truncated", /reset|closed|ended/],
    ["badjson-1", broken(["word0 "]), "malformed", /an event that is not JSON: /],
    ["hugeline", broken(["word0 "]), "malformed", /an event of more than 524288 bytes/],
    ...(missing === null ? [] : [["nofinish-1", broken(["word0 "]), "truncated", missing] as const]),
    ...(missing === null || wholeWithoutMark
      ? []
      : [["nodone-1", broken(["word0 "]), "truncated", missing] as const]),
    ["error-1", broken(["word0 "]), kinds["error"] ?? "", /the provider reports: The server had an error/],
    ["overloaded-1", broken(["word0 "]), kinds["overloaded"] ?? "", /the provider reports: Overloaded/],
    ["rate-limit-1", broken(["word0 "]), kinds["rate-limit"] ?? "", /the provider reports: Too many/],
  ];
  for (const [pattern, expected, kind, said] of failures) {
    await t.step(pattern, async () => {
      const before = await daemon.metric("daemon_backend_errors", { backend: name, kind });
      assert.equal(await answer(daemon, pattern, { request_id: pattern }), expected);
      assert.equal(await daemon.metric("daemon_backend_errors", { backend: name, kind }) - before, 1);
      assert.match(JSON.stringify(await logOf(daemon, pattern, "Backend ")), said);
    });
  }
  if (wholeWithoutMark) {
    await t.step("an answer that has its reason is whole without an end mark", async () => {
      assert.equal(await answer(daemon, "nodone-1"), told("word0 "));
      if (missing === null) assert.equal(await answer(daemon, "nofinish-1"), told("word0 "));
    });
  }
  assert.ok(!daemon.stderr.some((line) => line.includes(KEY)), "no key in the log");
  assert.equal(await answer(daemon, "plain"), HELLO);
}

async function goesAway({ daemon, mock }: Pair, openGate: () => void): Promise<void> {
  using bystander = daemon.handOff({ prompt: "x", test_pattern: "gate" });
  await bystander.readUntil("first ");
  for (const [pattern, seen, resets] of [["stall-head", "", 1], ["stall-2", "word1 ", 2]] as const) {
    const asked = mock.requests.length + 1;
    const client = daemon.handOff({ prompt: "x", test_pattern: pattern });
    await daemon.until("the request", () => mock.requests.length === asked);
    if (seen !== "") await client.readUntil(seen);
    client.close();
    await daemon.until("the end of the request", () => mock.counts.resets === resets);
  }
  await daemon.until(
    "both are counted",
    async () => await daemon.metric("daemon_upstream_cancelled_total") === 2,
  );
  openGate();
  assert.equal(
    await bystander.readAll(),
    told("first ", "word0 ", "word1 ", "word2 ", "word3 ", "word4 "),
  );
}

async function includesTheSame({ daemon }: Pair, t: Deno.TestContext): Promise<void> {
  await using chat = await openaiDaemon(WHOLE);
  const lists = [[], ...ALL.map((each) => [each]), ALL];
  for (const format of ["content", "ai-sdk"]) {
    for (const include of lists) {
      await t.step(`${format} [${include}]`, async () => {
        const data = { format, include };
        const expected = (await answer(chat.daemon, "agent", data))
          .replace('"input_tokens":11', '"input_tokens":7')
          .replace(
            '"inputTokens":11,"outputTokens":22,"totalTokens":33',
            '"inputTokens":7,"outputTokens":22,"totalTokens":29',
          );
        assert.equal(oneCallInOne(await answer(daemon, "agent", data)), expected);
      });
    }
  }
}

async function isReadByOpenAi({ daemon }: Pair): Promise<void> {
  const client = new OpenAI({
    apiKey: "none",
    baseURL: "http://in.the.way.invalid",
    maxRetries: 0,
    fetch: async () => {
      const data = { format: "openai", include: ["usage"] };
      const [, body = ""] = (await answer(daemon, "agent", data)).split("\r\n\r\n");
      return new Response(body, { headers: { "content-type": "text/event-stream" } });
    },
  });
  const whole = await client.chat.completions.stream({ model: "m", messages: [] }).finalChatCompletion();
  const [choice] = whole.choices;
  assert.deepEqual([choice?.finish_reason, choice?.message.content], ["tool_calls", "It is sunny."]);
  assert.deepEqual(
    choice?.message.tool_calls?.map((call) =>
      call.type === "function" && [call.id, call.function.name, call.function.arguments]
    ),
    [["call_a", "weather", '{"city":"Zürich"}'], ["call_b", "time", "{}"]],
  );
  assert.deepEqual([whole.usage?.prompt_tokens, whole.usage?.completion_tokens], [7, 22]);
  assert.match(await answer(daemon, "agent", { format: "openai" }), /"reasoning_content":"Let me "/);
}

async function saysWhyAndHowMuch(
  { daemon }: Pair,
  { reasons }: ProviderCase,
  t: Deno.TestContext,
): Promise<void> {
  for (const [theirs, ours] of Object.entries(reasons)) {
    await t.step(theirs, async () => {
      const expected = told("word ").replace(
        "data: [DONE]",
        `event: finish\ndata: {"finish":"${ours}"}\n\ndata: [DONE]`,
      );
      assert.equal(await answer(daemon, `finish-${theirs}`, { include: ["finish"] }), expected);
    });
  }
  await t.step("usage", async () => {
    assert.equal(await answer(daemon, "plain", { model: "m-1", request_id: "counted" }), HELLO);
    const fields = await logOf(daemon, "counted", "Stream complete");
    assert.deepEqual([fields["input_tokens"], fields["output_tokens"]], [7, 5]);
    const labels = { model: "m-1", direction: "input" };
    assert.equal(await daemon.metric("daemon_backend_tokens_total", labels), 7);
  });
}

async function triesAgain(both: Pair, t: Deno.TestContext): Promise<void> {
  for (
    const [pattern, expected, tries] of [
      ["status-529-times-1", HELLO, 2],
      ["retry-after-1-times-1", HELLO, 2],
      ["status-400", UNAVAILABLE, 1],
      ["overloaded-1", broken(["word0 "]), 1],
    ] as const
  ) {
    await t.step(pattern, async () => {
      assert.equal(await answer(both.daemon, pattern, { request_id: pattern }), expected);
      assert.equal(triesOf(both, pattern), tries);
    });
  }
}

function triesOf({ mock }: Pair, requestId: string): number {
  return mock.requests.filter(({ headers }) => headers["x-request-id"] === requestId).length;
}

/** Chat completions may say a call and its arguments in one piece, where others need two. */
function oneCallInOne(answer: string): string {
  return answer.replace(
    '"id":"call_b","name":"time","arguments":""}]}\n\nevent: tool_calls\ndata: {"tool_calls":[{"index":1,"arguments":"{}"}]}',
    '"id":"call_b","name":"time","arguments":"{}"}]}',
  );
}

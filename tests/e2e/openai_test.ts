/**
 * The OpenAI backend over the real daemon and the stand-in provider: all of it over HTTP/2 and TLS, over HTTP/1.1 and h2c
 * what differs there. `tests/backend/openai/openai_test.ts` has the backend alone, over each of them.
 */
import assert from "node:assert/strict";
import { spawnDaemon, type TestDaemon } from "../support/daemon.ts";
import { LONG_TEXT, UNICODE_TEXTS } from "../support/mock_llm_patterns.ts";
import { answer, broken, HELLO, KEY, openaiDaemon, told, UNAVAILABLE } from "../support/openai_daemon.ts";
import { plainResponse } from "../support/wire.ts";

/** What providers really send. The quirks are of every kind: see the pattern. */
const ANSWERS: readonly (readonly [pattern: string, answer: string])[] = [
  ["plain", HELLO],
  ["unicode", told(...UNICODE_TEXTS)],
  ["bytes", told(...UNICODE_TEXTS)],
  ["surrogates", told("🌍!")],
  ["pieces-4096", told(...Array<string>(4).fill(LONG_TEXT))],
  ["burst-20", told(...Array.from({ length: 20 }, (_, i) => `word${i} `))],
  ["quirks", told("Hel", "lo", ", ", "world")],
  ["quirks-1", told("Hel", "lo", ", ", "world")],
  ["quirks-7", told("Hel", "lo", ", ", "world")],
  ["refusal", told("I will not.")],
  ["open-end", told("word ")],
  ["nodone-2", told("word0 ", "word1 ")],
];

const FINISH_REASONS = ["stop", "length", "content_filter", "tool_calls", "function_call", "another"];

/** The client reads this, the metrics count that, and the log says what the provider said. */
const FAILURES: readonly (readonly [pattern: string, answer: string, kind: string, said: RegExp])[] = [
  ["status-400", UNAVAILABLE, "bad_request", /the provider answered 400 a made-up 400/],
  ["status-401", UNAVAILABLE, "auth", /the provider answered 401 a made-up 401/],
  ["echo-key", UNAVAILABLE, "auth", /Incorrect API key provided: \[key\]/],
  ["status-403", UNAVAILABLE, "auth", /the provider answered 403 a made-up 403/],
  ["status-404", UNAVAILABLE, "not_found", /the provider answered 404 a made-up 404/],
  ["status-429", UNAVAILABLE, "rate_limited", /the provider answered 429 a made-up 429/],
  ["status-500", UNAVAILABLE, "server_error", /the provider answered 500 a made-up 500/],
  ["status-503", UNAVAILABLE, "server_error", /the provider answered 503 a made-up 503/],
  ["html", UNAVAILABLE, "malformed", /the answer is text\/html; expected text\/event-stream/],
  ["reset-head", UNAVAILABLE, "unavailable", /reset|closed/],
  ["abort-2", broken(["word0 ", "word1 "]), "truncated", /reset|closed|ended/],
  ["badjson-1", broken(["word0 "]), "malformed", /an event that is not JSON: .*choices/],
  ["hugeline", broken(["word0 "]), "malformed", /an event of more than 524288 bytes/],
  ["error-1", broken(["word0 "]), "stream_error", /the provider reports: The server had an error/],
  ["nofinish-1", broken(["word0 "]), "truncated", /the stream ended before \[DONE\] and any finish reason/],
  ["gzip", UNAVAILABLE, "malformed", /the provider's answer is in the coding gzip, which was not asked for/],
  [
    "redirect-307",
    UNAVAILABLE,
    "other",
    /answered 307, a redirect to https:\/\/llm.example\/v2\/chat; expected/,
  ],
  [
    "json",
    UNAVAILABLE,
    "malformed",
    /the answer is application\/json; expected text\/event-stream; it is .*Hello/,
  ],
  ["json-error", UNAVAILABLE, "stream_error", /the provider reports, with status 200: no such engine/],
  ["sse-error-400", UNAVAILABLE, "bad_request", /the provider answered 400 too many/],
];

/** What takes longer than the time-out of two seconds. A model that thinks, or a provider that only says that it is there, is waited for. */
const LONG: readonly (readonly [pattern: string, answer: string])[] = [
  ["stall-head", plainResponse(504, "Backend timeout")],
  ["stall-2", broken(["word0 ", "word1 "], "Backend timeout")],
  ["think-12", told("word0 ")],
  ["tools-12", told("word0 ")],
  ["comments-12", told("word0 ")],
];

/** What a line of the log says of a request, its error included; waits for it. */
async function logOf(
  daemon: TestDaemon,
  requestId: string,
  message: RegExp,
): Promise<Readonly<Record<string, unknown>>> {
  let found: Readonly<Record<string, unknown>> | undefined;
  await daemon.until(`${message} of ${requestId}`, () => {
    found = daemon.log.find((line) => line.fields["request_id"] === requestId && message.test(line.message))
      ?.fields;
    return found !== undefined;
  });
  return found as Readonly<Record<string, unknown>>;
}

/** What the log says of why a request failed. */
async function reasonOf(daemon: TestDaemon, requestId: string): Promise<string> {
  const { error } = await logOf(daemon, requestId, /^Backend /);
  const line = daemon.stderr.find((each) => each.includes(`"${requestId}"`) && each.includes("Backend "));
  return error === undefined ? line ?? "" : JSON.stringify(error);
}

Deno.test("openai: what providers send, to the last byte", async (t) => {
  await using both = await openaiDaemon("h2", { env: { DAEMON_METRICS_MODELS: "gpt-x" } });
  const { mock, daemon } = both;
  for (const [pattern, expected] of ANSWERS) {
    await t.step(pattern, async () => assert.equal(await answer(daemon, pattern), expected));
  }
  for (const reason of FINISH_REASONS) {
    await t.step(`finish_reason ${reason}`, async () => {
      assert.equal(await answer(daemon, `finish-${reason}`, { request_id: reason }), told("word "));
      assert.equal((await logOf(daemon, reason, /^Stream complete$/))["finish_reason"], reason);
    });
  }
  assert.equal(await daemon.metric("daemon_backend_errors"), 0);
  await t.step("the request carries key, id, model and pattern", async () => {
    const asked = { request_id: "id-7", model: "gpt-x", max_tokens: 5, temperature: 1 };
    assert.equal(await answer(daemon, "plain", asked), HELLO);
    const sent = mock.requests.at(-1);
    assert.deepEqual(sent?.body, {
      model: "gpt-x",
      messages: [{ role: "user", content: "Hello" }],
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 5,
      temperature: 1,
    });
    assert.equal(sent.headers["authorization"], `Bearer ${KEY}`);
    assert.equal(sent.headers["x-request-id"], "id-7");
    assert.equal(sent.headers["x-test-pattern"], "plain");
    assert.equal(sent.httpVersion, "2.0");
  });
  await t.step("usage is in the log line, and in the metrics by model", async () => {
    const { input_tokens, output_tokens, finish_reason } = await logOf(daemon, "id-7", /^Stream complete$/);
    assert.deepEqual([input_tokens, output_tokens, finish_reason], [7, 5, "stop"]);
    for (const [direction, count] of [["input", 7], ["output", 5]] as const) {
      assert.equal(
        await daemon.metric("daemon_backend_tokens_total", { model: "gpt-x", direction }),
        count,
        direction,
      );
    }
  });
  await t.step(
    "a model that refuses stream_options or max_tokens is asked without, or by the other name",
    async () => {
      const asked = { model: "choosy", max_tokens: 5 };
      const pattern = "refuses-stream_options-max_tokens";
      for (const tries of [3, 1]) {
        const before = mock.requests.length;
        assert.equal(await answer(daemon, pattern, asked), HELLO);
        assert.equal(mock.requests.length - before, tries);
        const body = mock.requests.at(-1)?.body ?? {};
        assert.ok(!("stream_options" in body) && body["max_completion_tokens"] === 5);
      }
      assert.equal(await answer(daemon, "plain", { max_completion_tokens: 6 }), HELLO);
      assert.equal(mock.requests.at(-1)?.body["max_completion_tokens"], 6);
    },
  );
  await t.step("a 400 that only quotes stream_options changes nothing for others", async () => {
    assert.equal(await answer(daemon, "quotes"), UNAVAILABLE);
    assert.equal(await answer(daemon, "plain"), HELLO);
    assert.ok("stream_options" in (mock.requests.at(-1)?.body ?? {}));
  });
});

Deno.test("openai: what each failure becomes", async (t) => {
  await using both = await openaiDaemon("h2", {
    env: { DAEMON_BACKEND_TIMEOUT_SECS: "2" },
    mock: { delayMs: 200 },
  });
  const { daemon } = both;
  // All at once: two that fail by the time-out, and others that go on for longer.
  const answers = LONG.map(([pattern]) => answer(daemon, pattern, { request_id: pattern }));
  for (const [i, [pattern, expected]] of LONG.entries()) {
    await t.step(pattern, async () => assert.equal(await answers[i], expected));
  }
  assert.equal(await daemon.metric("daemon_backend_errors", { backend: "openai", kind: "timeout" }), 2);
  for (const pattern of ["stall-head", "stall-2"]) {
    assert.match(await reasonOf(daemon, pattern), /gave nothing for 2000 ms/);
  }
  for (const [pattern, expected, kind, said] of FAILURES) {
    await t.step(pattern, async () => {
      const labels = { backend: "openai", kind };
      const before = await daemon.metric("daemon_backend_errors", labels);
      assert.equal(await answer(daemon, pattern, { request_id: pattern }), expected);
      assert.equal(await daemon.metric("daemon_backend_errors", labels) - before, 1);
      assert.match(await reasonOf(daemon, pattern), said);
    });
  }
  assert.ok(!daemon.stderr.some((line) => line.includes(KEY)), "no key in the log");
  assert.equal(await answer(daemon, "plain"), HELLO);
});

Deno.test("openai: tries are repeated before the head only, so often, with pauses", async (t) => {
  await using both = await openaiDaemon("h2", {
    env: { OPENAI_MAX_RETRIES: "2" },
  });
  const { mock, daemon } = both;
  const cases: readonly [pattern: string, answer: string, tries: number, pausesMs: number][] = [
    ["reset-head", UNAVAILABLE, 3, 375 + 750],
    ["retry-after-1-times-1", HELLO, 2, 1_000],
    ["retry-after-30-times-1", UNAVAILABLE, 1, 0], // longer than the time-out is not waited for
    ["status-503-times-1", HELLO, 2, 375],
    ["status-500-times-9", UNAVAILABLE, 3, 375 + 750],
    ["status-401", UNAVAILABLE, 1, 0],
    ["abort-1", broken(["word0 "]), 1, 0],
    ["error-1", broken(["word0 "]), 1, 0],
  ];
  let repeated = 0;
  for (const [pattern, expected, tries, pausesMs] of cases) {
    await t.step(pattern, async () => {
      const startMs = performance.now();
      assert.equal(await answer(daemon, pattern, { request_id: pattern }), expected);
      assert.ok(performance.now() - startMs >= pausesMs, `pauses of ${pausesMs} ms`);
      const sent = mock.requests.filter(({ headers }) => headers["x-request-id"] === pattern);
      assert.equal(sent.length, tries);
      repeated += tries - 1;
      assert.equal(await daemon.metric("daemon_upstream_retries_total"), repeated);
    });
  }
});

for (const protocol of ["h1", "h2c"] as const) {
  Deno.test(`openai over ${protocol}: an answer, failures, a try that is repeated`, async (t) => {
    await using both = await openaiDaemon(protocol, { env: { OPENAI_MAX_RETRIES: "1" } });
    const { mock, daemon } = both;
    const cases: readonly [pattern: string, answer: string, tries: number][] = [
      ["plain", HELLO, 1],
      ["bytes", told(...UNICODE_TEXTS), 1],
      ["open-end", told("word "), 1],
      ["status-401", UNAVAILABLE, 1],
      ["status-503-times-1", HELLO, 2],
      ["reset-head", UNAVAILABLE, 2],
      ["abort-2", broken(["word0 ", "word1 "]), 1],
      ["nofinish-1", broken(["word0 "]), 1],
    ];
    for (const [pattern, expected, tries] of cases) {
      await t.step(pattern, async () => {
        assert.equal(await answer(daemon, pattern, { request_id: pattern }), expected);
        const sent = mock.requests.filter(({ headers }) => headers["x-request-id"] === pattern);
        assert.equal(sent.length, tries);
      });
    }
    const versions = new Set(mock.requests.map(({ httpVersion }) => httpVersion));
    assert.deepEqual(versions, new Set([protocol === "h1" ? "1.1" : "2.0"]));
    for (const [kind, count] of [["auth", 1], ["unavailable", 1], ["truncated", 2]] as const) {
      assert.equal(await daemon.metric("daemon_backend_errors", { backend: "openai", kind }), count, kind);
    }
  });
}

Deno.test("openai: a backend that cannot be made is one clear line, exit 2", async () => {
  const cases: readonly [env: Readonly<Record<string, string>>, line: string][] = [
    [
      { OPENAI_CA_FILE: "/srv/ca.pem" },
      "backend.openai.ca_file /srv/ca.pem cannot be read: NotCapable: Requires read access to " +
      '"/srv/ca.pem", run again with the --allow-read flag',
    ],
    [
      {
        OPENAI_API_BASE: "https://llm.example/v1",
        HTTPS_PROXY: "socks5://user:pass@proxy.example",
        NO_PROXY: "",
      },
      "HTTPS_PROXY names a proxy of kind socks5://, which is not supported; expected http://host[:port], " +
      "or llm.example in NO_PROXY",
    ],
    [
      { OPENAI_HEADERS: '{"X-Fine":"1","Transfer-Encoding":"chunked"}' },
      'backend.openai.headers has "Transfer-Encoding", which the daemon sets itself; expected none of ' +
      "accept-encoding, connection, content-length, expect, host, keep-alive, proxy-connection, te, trailer, " +
      "transfer-encoding, upgrade",
    ],
  ];
  for (const [env, line] of cases) {
    await using daemon = spawnDaemon({
      env: { DAEMON_BACKEND_PROVIDER: "openai", OPENAI_API_KEY: KEY, DAEMON_WORKERS: "2", ...env },
    });
    assert.equal(await daemon.exit(), 2);
    assert.deepEqual(daemon.stderr, [`streaming-daemon-ts: ${line}`]);
  }
});

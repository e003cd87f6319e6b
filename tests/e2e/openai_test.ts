/** The OpenAI backend over the real daemon and the stand-in provider: HTTP/1.1, h2c and HTTP/2 over TLS alike. */
import assert from "node:assert/strict";
import { certificate, PROTOCOLS } from "../support/backend_rig.ts";
import { spawnDaemon, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { type MockLlm, mockLlm, type MockProtocol } from "../support/mock_llm.ts";
import { LONG_TEXT, UNICODE_TEXTS } from "../support/mock_llm_patterns.ts";

const KEY = "sk-very-secret-0123456789";
const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
  "Connection: close\r\nX-Accel-Buffering: no\r\n\r\n";
const DONE = "data: [DONE]\n\n";
const BROKEN = 'data: {"error":"Backend error"}\n\n';
const SILENT = 'data: {"error":"Backend timeout"}\n\n';

const says = (...texts: string[]): string =>
  texts.map((content) => `data: ${JSON.stringify({ content })}\n\n`).join("");
const plain = (status: string, line: string): string =>
  `HTTP/1.1 ${status}\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ${line.length}\r\n\r\n${line}`;
const HELLO = HEAD + says("word0 ", "word1 ", "word2 ", "word3 ", "word4 ") + DONE;

interface Pair extends AsyncDisposable {
  readonly mock: MockLlm;
  readonly daemon: TestDaemon;
}

/** A daemon whose provider is the stand-in; it waits 1 s for the provider, and tries no second time. */
async function pair(
  protocol: MockProtocol,
  env: Readonly<Record<string, string>> = {},
  mockOptions: { maxStreams?: number; delayMs?: number } = {},
): Promise<Pair> {
  const secure = protocol === "h2" || protocol === "h1s";
  const pem = secure ? await certificate() : undefined;
  const caFile = secure ? await Deno.makeTempFile() : "";
  if (pem !== undefined) await Deno.writeTextFile(caFile, pem.cert);
  const mock = await mockLlm({
    protocol,
    ...mockOptions,
    ...(pem === undefined ? {} : { certificate: pem }),
  });
  const daemon = await startDaemon({
    env: {
      DAEMON_BACKEND_PROVIDER: "openai",
      DAEMON_BACKEND_TIMEOUT_SECS: "1",
      OPENAI_API_KEY: KEY,
      OPENAI_API_BASE: mock.base,
      OPENAI_MAX_RETRIES: "0",
      OPENAI_CA_FILE: caFile,
      ...env,
    },
    permissions: secure ? [`--allow-read=config,/etc/streaming-daemon-ts,src,${caFile}`] : [],
  });
  return {
    mock,
    daemon,
    async [Symbol.asyncDispose](): Promise<void> {
      await daemon[Symbol.asyncDispose]();
      await mock.close();
      if (caFile !== "") await Deno.remove(caFile);
    },
  };
}

async function answer(
  daemon: TestDaemon,
  test_pattern: string,
  data: Record<string, unknown> = {},
): Promise<string> {
  using client = daemon.handOff({ prompt: "Hello", test_pattern, ...data });
  return await client.readAll();
}

for (const protocol of PROTOCOLS) {
  Deno.test(`openai over ${protocol}: what each answer and each failure becomes`, async (t) => {
    await using both = await pair(protocol);
    const { mock, daemon } = both;
    const cases: readonly [pattern: string, answer: string, kind?: string][] = [
      ["plain", HELLO],
      ["unicode", HEAD + says(...UNICODE_TEXTS) + DONE],
      ["bytes", HEAD + says(...UNICODE_TEXTS) + DONE],
      ["pieces-4096", HEAD + says(...Array<string>(4).fill(LONG_TEXT)) + DONE],
      ["quirks", HEAD + says("Hel", "lo", ", world") + DONE],
      ["refusal", HEAD + says("I will not.") + DONE],
      ["finish-length", HEAD + says("word ") + DONE],
      ["status-400", plain("502 Bad Gateway", "Backend unavailable\n"), "bad_request"],
      ["status-401", plain("502 Bad Gateway", "Backend unavailable\n"), "auth"],
      ["status-404", plain("502 Bad Gateway", "Backend unavailable\n"), "not_found"],
      ["status-429", plain("502 Bad Gateway", "Backend unavailable\n"), "rate_limited"],
      ["status-500", plain("502 Bad Gateway", "Backend unavailable\n"), "server_error"],
      ["reset-head", plain("502 Bad Gateway", "Backend unavailable\n"), "unavailable"],
      ["stall-head", plain("504 Gateway Timeout", "Backend timeout\n"), "timeout"],
      ["abort-2", HEAD + says("word0 ", "word1 ") + BROKEN, "truncated"],
      ["stall-2", HEAD + says("word0 ", "word1 ") + SILENT, "timeout"],
      ["badjson-1", HEAD + says("word0 ") + BROKEN, "malformed"],
      ["hugeline", HEAD + says("word0 ") + BROKEN, "malformed"],
      ["error-1", HEAD + says("word0 ") + BROKEN, "stream_error"],
      ["nodone-1", HEAD + says("word0 ") + BROKEN, "truncated"],
    ];
    for (const [pattern, expected, kind] of cases) {
      await t.step(pattern, async () => {
        const labels = { backend: "openai", kind: kind ?? "none" };
        const before = await daemon.metric("daemon_backend_errors", labels);
        const got = await answer(daemon, pattern);
        // How a plain line ends, and the words of a status, are the daemon's own tests' affair.
        if (expected.startsWith("HTTP/1.1 5")) {
          assert.equal(got.slice(0, 12), expected.slice(0, 12));
          assert.match(got, pattern === "stall-head" ? /Backend timeout/ : /Backend unavailable/);
        } else assert.equal(got, expected);
        assert.equal(
          await daemon.metric("daemon_backend_errors", labels) - before,
          kind === undefined ? 0 : 1,
        );
      });
    }
    await t.step("the log says what the provider said, and no key", async () => {
      await answer(daemon, "echo-key");
      for (const words of ["the provider answered 404 a made-up 404", "Incorrect API key provided: [key]"]) {
        await daemon.until(`"${words}" in the log`, () => daemon.stderr.some((line) => line.includes(words)));
      }
      assert.ok(!daemon.stderr.some((line) => line.includes(KEY)));
    });
    await t.step("the request carries key, id, model and pattern", async () => {
      assert.equal(
        await answer(daemon, "plain", { request_id: "id-7", model: "gpt-x", max_tokens: 5, temperature: 1 }),
        HELLO,
      );
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
      assert.equal(sent.httpVersion, protocol === "h1" ? "1.1" : "2.0");
    });
    await t.step("usage and finish reason are in the log line", async () => {
      let fields: Readonly<Record<string, unknown>> | undefined;
      await daemon.until("the log line of id-7", () => {
        fields = daemon.log.find((line) =>
          line.message === "Stream complete" && line.fields["request_id"] === "id-7"
        )?.fields;
        return fields !== undefined;
      });
      assert.deepEqual([fields?.["input_tokens"], fields?.["output_tokens"], fields?.["finish_reason"]], [
        7,
        5,
        "stop",
      ]);
    });
  });

  Deno.test(`openai over ${protocol}: a client that goes away ends its request, and no other`, async (t) => {
    await using both = await pair(protocol, { DAEMON_BACKEND_TIMEOUT_SECS: "30", OPENAI_MAX_RETRIES: "2" });
    const { mock, daemon } = both;
    let resets = 0;
    const gone = async (client: Disposable): Promise<void> => {
      const startMs = performance.now();
      client[Symbol.dispose]();
      await mock.resets(++resets);
      assert.ok(performance.now() - startMs < 1_000);
      assert.equal(await answer(daemon, "plain"), HELLO);
    };
    await t.step("while waiting for the head", async () => {
      const client = daemon.handOff({ prompt: "x", test_pattern: "stall-head" });
      await mock.received(1);
      await gone(client);
    });
    await t.step("in the stream", async () => {
      const client = daemon.handOff({ prompt: "x", test_pattern: "stall-2" });
      await client.readUntil("word1 ");
      await gone(client);
    });
    await t.step("in the pause before another try", async () => {
      const client = daemon.handOff({
        prompt: "x",
        test_pattern: "retry-after-2-times-1",
        request_id: "paused",
      });
      await daemon.until(
        "the first try",
        () => mock.requests.some(({ headers }) => headers["x-request-id"] === "paused"),
      );
      client[Symbol.dispose]();
      await new Promise((next) => setTimeout(next, 2_800));
      assert.equal(mock.requests.filter(({ headers }) => headers["x-request-id"] === "paused").length, 1);
    });
    assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "client_disconnected" }), 3);
    if (protocol !== "h1") assert.ok(mock.counts.connections <= 2, "the connection stays usable");
  });

  Deno.test(`openai over ${protocol}: 429 is tried again, after Retry-After`, async () => {
    await using both = await pair(protocol, { DAEMON_BACKEND_TIMEOUT_SECS: "10", OPENAI_MAX_RETRIES: "2" });
    const startMs = performance.now();
    assert.equal(await answer(both.daemon, "retry-after-1-times-1"), HELLO);
    assert.ok(performance.now() - startMs >= 1_000);
    assert.match(await answer(both.daemon, "retry-after-30-times-1"), /^HTTP\/1.1 502 /);
    assert.ok(performance.now() - startMs < 9_000, "longer than the time-out is not waited for");
  });
}

Deno.test("openai: 200 streams at a limit of 10 per connection all run at once", async () => {
  await using both = await pair("h2c", { DAEMON_BACKEND_TIMEOUT_SECS: "30" }, { maxStreams: 10 });
  const clients = Array.from(
    { length: 200 },
    () => both.daemon.handOff({ prompt: "x", test_pattern: "stall-1" }),
  );
  await Promise.all(clients.map((client) => client.readUntil("word0 ")));
  assert.equal(both.mock.counts.streams, 200);
  for (const client of clients) client[Symbol.dispose]();
  await both.mock.resets(200);
});

Deno.test("openai: nobody listens, a name that is none, a certificate that nobody vouches for", async () => {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  listener.close();
  const mock = await mockLlm({ protocol: "h2", certificate: await certificate() });
  const bases: [base: string, message: RegExp][] = [
    [`http://127.0.0.1:${listener.addr.port}/v1`, /cannot connect to 127.0.0.1:\d+: .*refused/],
    ["http://no-such-host.invalid/v1", /cannot connect to no-such-host.invalid:80: /],
    [mock.base, /cannot connect to 127.0.0.1:\d+: .*certificate/],
  ];
  for (const [base, message] of bases) {
    await using daemon = await startDaemon({
      env: {
        DAEMON_BACKEND_PROVIDER: "openai",
        OPENAI_API_KEY: KEY,
        OPENAI_API_BASE: base,
        OPENAI_MAX_RETRIES: "1",
      },
      permissions: ["--allow-net=127.0.0.1,no-such-host.invalid"],
    });
    assert.match(await answer(daemon, "plain"), /^HTTP\/1.1 502 /);
    await daemon.until(`a line like ${message}`, () => daemon.stderr.some((line) => message.test(line)));
  }
  await mock.close();
});

Deno.test("openai: a backend that cannot be made is one clear line, exit 2", async () => {
  await using daemon = spawnDaemon({
    env: {
      DAEMON_BACKEND_PROVIDER: "openai",
      OPENAI_API_KEY: KEY,
      OPENAI_CA_FILE: "/srv/ca.pem",
      DAEMON_WORKERS: "2",
    },
  });
  assert.equal(await daemon.exit(), 2);
  assert.deepEqual(daemon.stderr, [
    "streaming-daemon-ts: backend.openai.ca_file /srv/ca.pem cannot be read: NotCapable: Requires read access to " +
    '"/srv/ca.pem", run again with the --allow-read flag',
  ]);
});

import assert from "node:assert/strict";
import { requestTemplate } from "../../../src/backend/openai/template.ts";
import { ConfigError } from "../../../src/errors.ts";
import { ask, backendRig, Ears, HELLO, makeOpenAi, PROTOCOLS } from "../../support/backend_rig.ts";
import { LONG_TEXT, UNICODE_TEXTS } from "../../support/mock_llm_patterns.ts";
import { openaiOptions } from "../../support/openai_options.ts";
import { until } from "../../support/until.ts";

for (const protocol of PROTOCOLS) {
  Deno.test(`openai over ${protocol}: what providers send`, async (t) => {
    await using rig = await backendRig({ protocol });
    const texts = UNICODE_TEXTS.map((text) => `"${text}"`);
    const cases: Readonly<Record<string, string[]>> = {
      "plain": HELLO,
      "unicode": ["open", ...texts, "finish stop", "usage 7 8", "end"],
      "bytes": ["open", ...texts, "finish stop", "usage 7 8", "end"],
      "pieces-4096": ["open", ...Array(4).fill(`"${LONG_TEXT}"`), "finish stop", "usage 7 4", "end"],
      "quirks": ["open", '"Hel"', '"lo"', '", "', '"world"', "finish stop", "usage 5 3", "end"],
      "refusal": ["open", '"I will not."', "finish stop", "end"],
      "surrogates": ["open", '"🌍!"', "end"],
      "finish-length": ["open", '"word "', "finish length", "usage 7 1", "end"],
      "finish-content_filter": ["open", '"word "', "finish content_filter", "usage 7 1", "end"],
      "burst-3": ["open", '"word0 "', '"word1 "', '"word2 "', "finish stop", "end"],
      "nodone-2": ["open", '"word0 "', '"word1 "', "finish stop", "end"],
      "open-end": ["open", '"word "', "finish stop", "usage 7 1", "end"],
    };
    for (const [pattern, expected] of Object.entries(cases)) {
      await t.step(pattern, async () => {
        assert.deepEqual(await rig.ears.hear(ask(pattern)), expected);
      });
    }
  });

  Deno.test(`openai over ${protocol}: every failure has its kind`, async (t) => {
    await using rig = await backendRig({ protocol }, { maxRetries: 0 });
    const reset = protocol === "h1"
      ? "the server closed the connection"
      : "the server reset the stream (INTERNAL_ERROR)";
    const cases: Readonly<Record<string, string[]>> = {
      "status-400": ["bad_request: the provider answered 400 a made-up 400"],
      "status-401": ["auth: the provider answered 401 a made-up 401"],
      "status-403": ["auth: the provider answered 403 a made-up 403"],
      "status-404": ["not_found: the provider answered 404 a made-up 404"],
      "status-429": ["rate_limited: the provider answered 429 a made-up 429"],
      "status-500": ["server_error: the provider answered 500 a made-up 500"],
      "status-503": ["server_error: the provider answered 503 a made-up 503"],
      "status-302": ["other: the provider answered 302 a made-up 302"],
      "echo-key": ["auth: the provider answered 401 Incorrect API key provided: [key]"],
      "html": ["malformed: the answer is text/html; expected text/event-stream"],
      "reset-head": [`unavailable: ${reset}`],
      "abort-1": ["open", '"word0 "', `truncated: ${reset}`],
      "error-1": [
        "open",
        '"word0 "',
        "stream_error: the provider reports: The server had an error (server_error)",
      ],
      "badjson-1": ["open", '"word0 "', 'malformed: an event that is not JSON: "{\\"choices\\": ["'],
      "nofinish-1": ["open", '"word0 "', "truncated: the stream ended before [DONE] and any finish reason"],
      "hugeline": ["open", '"word0 "', "malformed: an event of more than 524288 bytes"],
    };
    for (const [pattern, expected] of Object.entries(cases)) {
      await t.step(pattern, async () => {
        assert.deepEqual(await rig.ears.hear(ask(pattern)), expected);
      });
    }
    await t.step("and the next request is answered", async () => {
      assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
    });
    assert.equal(rig.backend.stats().retries, 0);
  });

  Deno.test(`openai over ${protocol}: what is sent`, async () => {
    await using rig = await backendRig({ protocol }, {
      organization: "org-1",
      project: "proj-1",
      headers: { "X-Extra": "é", "Authorization": "Bearer other" },
      body: { top_k: 5, model: "not this one" },
    });
    const messages = [{ role: "system", content: "Be brief." }, {
      role: "user",
      content: "x".repeat(200_000),
    }];
    const request = ask("plain", { messages, maxTokens: 9, temperature: 0.5, userId: "7", model: "m" });
    assert.deepEqual(await rig.ears.hear(request), HELLO);
    const [sent] = rig.mock.requests;
    assert.equal(sent?.path, "/v1/chat/completions");
    assert.equal(sent.httpVersion, protocol === "h1" ? "1.1" : "2.0");
    assert.deepEqual(sent.body, {
      top_k: 5,
      model: "m",
      messages,
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 9,
      temperature: 0.5,
    });
    const { headers } = sent;
    assert.equal(headers["x-request-id"], request.requestId);
    assert.equal(headers["x-test-pattern"], "plain");
    assert.equal(headers["openai-organization"], "org-1");
    assert.equal(headers["openai-project"], "proj-1");
    assert.equal(headers["authorization"], "Bearer other");
    assert.equal(headers["content-type"], "application/json");
    assert.match(String(headers["user-agent"]), /^OpenAI\/JS /);
    assert.deepEqual(Object.keys(headers).filter((name) => name.startsWith("x-stainless")), []);
  });

  Deno.test(`openai over ${protocol}: after the head, nothing is tried again`, async () => {
    await using rig = await backendRig({ protocol });
    await rig.ears.hear(ask("abort-1"));
    assert.equal(rig.mock.requests.length, 1);
  });

  Deno.test(`openai over ${protocol}: cancelled while waiting for the head`, async () => {
    await using rig = await backendRig({ protocol });
    const both = [rig.ears.ask(ask("stall-head")), rig.ears.ask(ask("stall-head"))];
    await rig.mock.received(2);
    const startMs = performance.now();
    for (const { answer } of both) answer.cancel();
    await rig.mock.resets(2);
    assert.ok(performance.now() - startMs < 1_000);
    assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
    assert.deepEqual(both.map(({ heard }) => heard), [[], []]);
    assert.equal(rig.backend.stats().cancelled, 2);
    if (protocol !== "h1") assert.ok(rig.mock.counts.connections <= 2, "the connection stays usable");
  });

  Deno.test(`openai over ${protocol}: cancelled in the stream`, async () => {
    await using rig = await backendRig({ protocol });
    const asked = rig.ears.ask(ask("stall-2"));
    await asked.until(3);
    const other = rig.ears.hear(ask("slow-head-50"));
    asked.answer.cancel();
    await rig.mock.resets(1);
    asked.answer.cancel();
    assert.deepEqual(await other, HELLO);
    assert.deepEqual(asked.heard, ["open", '"word0 "', '"word1 "'], "and nothing after it");
    assert.equal(rig.backend.stats().cancelled, 1);
  });

  Deno.test(`openai over ${protocol}: cancelled in the pause before another try`, async () => {
    await using rig = await backendRig({ protocol });
    const asked = rig.ears.ask(ask("retry-after-60-times-1"));
    await until("the pause", () => rig.backend.stats().retries > 0);
    asked.answer.cancel();
    assert.equal(rig.mock.requests.length, 1);
    assert.deepEqual(asked.heard, []);
  });

  Deno.test(`openai over ${protocol}: what came before a failure is heard before it`, async () => {
    await using rig = await backendRig({ protocol });
    const all = await rig.ears.hear(ask("abort-3"));
    assert.deepEqual(all.slice(0, 4), ["open", '"word0 "', '"word1 "', '"word2 "']);
    assert.match(all[4] ?? "", /^truncated: /);
  });

  Deno.test(`openai over ${protocol}: a paused answer stops its provider, and nobody else`, async () => {
    await using rig = await backendRig({ protocol });
    const slow = rig.ears.ask(ask("burst-200000"));
    slow.answer.pause();
    for (let i = 0; i < 3; i++) assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
    assert.equal(rig.mock.counts.streams, 1, "the provider is held back");
    assert.ok(slow.heard.length < 5_000, `${slow.heard.length} events`);
    slow.answer.resume();
    const words = (await slow.all()).filter((event) => event.startsWith('"')).length;
    assert.equal(words, 200_000);
  });

  Deno.test(`openai over ${protocol}: bytes that say nothing to a client are told as life`, async () => {
    await using rig = await backendRig({ protocol });
    for (const pattern of ["think-6", "tools-6", "comments-6"]) {
      const asked = rig.ears.ask(ask(pattern));
      assert.deepEqual(await asked.all(), ["open", '"word0 "', "finish stop", "end"], pattern);
      assert.ok(asked.alive >= 6, `${asked.alive} of ${pattern}`);
    }
    for (const [status, failure] of [[200, "stream_error"], [400, "bad_request"]]) {
      const asked = rig.ears.ask(ask(`drip-${status}`));
      assert.match((await asked.all())[0] ?? "", new RegExp(`^${failure}: .*a made-up ${status}`));
      assert.ok(asked.alive >= 2, `${asked.alive} of a refusal with status ${status}`);
    }
    const plain = rig.ears.ask(ask("plain"));
    await plain.all();
    assert.ok(plain.alive <= 2, "no more than for the role and the usage");
  });

  Deno.test(`openai over ${protocol}: a request that was read and not answered is sent as often as max_retries says`, async () => {
    await using rig = await backendRig({ protocol }, { maxRetries: 2 });
    // So that there are kept connections.
    await Promise.all(Array.from({ length: 10 }, () => rig.ears.hear(ask("slow-head-20"))));
    const [failure] = await rig.ears.hear(ask("reset-head"));
    assert.match(failure ?? "", /^unavailable: /);
    assert.equal(rig.mock.requests.length, 10 + 3);
    assert.equal(rig.backend.stats().retries, 2);
  });

  Deno.test(`openai over ${protocol}: what is no stream is named`, async (t) => {
    await using rig = await backendRig({ protocol }, { maxRetries: 0 });
    const cases: Readonly<Record<string, string>> = {
      "gzip": "malformed: the provider's answer is in the coding gzip, which was not asked for",
      "redirect-307":
        "other: the provider answered 307, a redirect to https://llm.example/v2/chat; expected no redirect",
      "json": "malformed: the answer is application/json; expected text/event-stream; it is " +
        '"{\\"choices\\":[{\\"message\\":{\\"content\\":\\"Hello\\"}}]}"',
      "json-error": "stream_error: the provider reports, with status 200: no such engine",
      "sse-error-429": "rate_limited: the provider answered 429 too many",
    };
    for (const [pattern, expected] of Object.entries(cases)) {
      await t.step(pattern, async () => assert.deepEqual(await rig.ears.hear(ask(pattern)), [expected]));
    }
  });
}

Deno.test("openai: a failure before the head is tried again, and again", async () => {
  await using rig = await backendRig({ protocol: "h2c" });
  assert.deepEqual(await rig.ears.hear(ask("status-503-times-2")), HELLO);
  assert.deepEqual(
    (await rig.ears.hear(ask("retry-after-0-times-3")))[0]?.split(":")[0],
    "rate_limited",
  );
  assert.equal(rig.mock.requests.length, 6);
  assert.equal(rig.backend.stats().retries, 4);
});

Deno.test("openai: Retry-After is waited for", async () => {
  await using rig = await backendRig({ protocol: "h2c" });
  const startMs = performance.now();
  assert.deepEqual(await rig.ears.hear(ask("retry-after-1-times-1")), HELLO);
  assert.ok(performance.now() - startMs >= 1_000);
});

Deno.test("openai: a Retry-After beyond the time-out is not waited for", async () => {
  await using rig = await backendRig({ protocol: "h2c" }, { headTimeoutMs: 5_000 });
  assert.deepEqual(await rig.ears.hear(ask("retry-after-6-times-1")), [
    "rate_limited: the provider answered 429 a made-up 429",
  ]);
  assert.equal(rig.backend.stats().retries, 0);
});

Deno.test("openai: the pauses of all tries together end before the time-out", async () => {
  await using rig = await backendRig({ protocol: "h2c" }, { headTimeoutMs: 1_900, maxRetries: 5 });
  assert.deepEqual(await rig.ears.hear(ask("retry-after-1-times-9")), [
    "rate_limited: the provider answered 429 a made-up 429",
  ]);
  assert.equal(rig.backend.stats().retries, 1);
});

Deno.test("openai: what the last try came to is told, and no refusal before it", async () => {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const apiBase = `http://127.0.0.1:${listener.addr.port}/v1`;
  const backend = await makeOpenAi({ apiBase, http2: false, maxRetries: 1 });
  const heard = new Ears(backend).hear(ask("plain"));
  for (
    const head of [
      "HTTP/1.1 503 Busy\r\nretry-after: 0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
      "",
    ]
  ) {
    using connection = await listener.accept();
    await connection.read(new Uint8Array(65_536));
    await connection.write(new TextEncoder().encode(head));
  }
  assert.deepEqual(await heard, ["unavailable: the server closed the connection"]);
  await backend.close();
});

Deno.test("openai: nobody listens", async () => {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  for (const http2 of [true, false]) {
    const backend = await makeOpenAi({ apiBase: `http://127.0.0.1:${port}/v1`, maxRetries: 1, http2 });
    const [failure] = await new Ears(backend).hear(ask("plain"));
    assert.match(failure ?? "", new RegExp(`^unavailable: cannot connect to 127.0.0.1:${port}: .*refused`));
    assert.equal(backend.stats().retries, 1);
    await backend.close();
  }
});

Deno.test("openai: a name that does not exist", async () => {
  const backend = await makeOpenAi({ apiBase: "http://no-such-host.invalid/v1", maxRetries: 0 });
  const [failure] = await new Ears(backend).hear(ask("plain"));
  assert.match(failure ?? "", /^unavailable: cannot connect to no-such-host.invalid:80/);
  await backend.close();
});

Deno.test("openai: a certificate nobody vouches for is refused, unless insecure_ssl says so", async () => {
  for (const protocol of ["h1s", "h2"] as const) {
    await using strict = await backendRig({ protocol }, { caFile: "", maxRetries: 0 });
    const [failure] = await strict.ears.hear(ask("plain"));
    assert.match(failure ?? "", /^unavailable: cannot connect to 127.0.0.1:\d+: .*certificate/);
    await using lax = await backendRig({ protocol }, { caFile: "", insecureSsl: true });
    assert.deepEqual(await lax.ears.hear(ask("plain")), HELLO);
    assert.deepEqual(
      await lax.ears.hear(ask("bytes")).then((all) => all.at(-1)),
      "end",
    );
    const many = await lax.ears.hear(ask("burst-2000"));
    assert.equal(many.filter((event) => event.startsWith('"')).length, 2_000);
    assert.equal(lax.mock.requests[0]?.httpVersion, protocol === "h2" ? "2.0" : "1.1");
  }
});

Deno.test("openai: http2 = false speaks HTTP/1.1 to a server of both", async () => {
  await using rig = await backendRig({ protocol: "h2" }, { http2: false });
  assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
  assert.equal(rig.mock.requests[0]?.httpVersion, "1.1");
});

Deno.test("openai: over a Unix socket", async () => {
  const directory = await Deno.makeTempDir();
  for (const protocol of ["h1", "h2c"] as const) {
    const socketPath = `${directory}/${protocol}`;
    // As the default address has it: https, which a Unix socket does not need.
    const apiBase = "https://api.openai.com/v1";
    await using rig = await backendRig({ protocol, socketPath }, { apiSocket: socketPath, apiBase });
    assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
  }
  const backend = await makeOpenAi({ apiSocket: `${directory}/none`, maxRetries: 0 });
  const [failure] = await new Ears(backend).hear(ask("plain"));
  assert.match(failure ?? "", /^unavailable: cannot connect to the Unix socket .*none/);
  await backend.close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("openai: no key, no Authorization", async () => {
  await using rig = await backendRig({ protocol: "h2c" }, { apiKey: "" });
  assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
  assert.equal(rig.mock.requests.length, 1);
  assert.equal(rig.mock.requests[0]?.headers["authorization"], undefined);
});

Deno.test("openai: a refusal whose body has no end is known by what of it came", async () => {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const backend = await makeOpenAi({
    apiBase: `http://127.0.0.1:${listener.addr.port}/v1`,
    http2: false,
    headTimeoutMs: 1_000,
  });
  const heard = new Ears(backend).hear(ask("plain"));
  using connection = await listener.accept();
  await connection.read(new Uint8Array(65_536));
  const body = '{"error":{"message":"wrong key"}}';
  await connection.write(new TextEncoder().encode(`HTTP/1.1 401 Unauthorized\r\n\r\n${body}`));
  assert.deepEqual(await heard, ["auth: the provider answered 401 wrong key"]);
  // What never ends is not kept open for it.
  assert.equal(await connection.read(new Uint8Array(1)), null);
  await backend.close();
});

/** What is heard of an answer in these bytes, with which the server closes the connection. */
async function heardOf(answer: string): Promise<string[]> {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const apiBase = `http://127.0.0.1:${listener.addr.port}/v1`;
  const backend = await makeOpenAi({ apiBase, apiKey: "0123-4567-89ab", http2: false, maxRetries: 0 });
  const heard = new Ears(backend).hear(ask("plain"));
  using connection = await listener.accept();
  await connection.read(new Uint8Array(65_536));
  await connection.write(new TextEncoder().encode(answer));
  await connection.closeWrite();
  await heard;
  await backend.close();
  return heard;
}

Deno.test("openai: a refusal whose body breaks off is known by what of it came", async () => {
  const body = '{"error":{"message":"wrong key"}}';
  assert.deepEqual(await heardOf(`HTTP/1.1 401 Unauthorized\r\nContent-Length: 100\r\n\r\n${body}`), [
    "auth: the provider answered 401 wrong key",
  ]);
});

Deno.test("openai: the key is quoted neither from what is no HTTP nor from an event", async () => {
  assert.deepEqual(await heardOf("No 0123-4567-89ab here\r\n\r\n"), [
    'malformed: HTTP/1.1: the answer begins with "No [key] here"',
  ]);
  const event = 'data: {"error":{"message":"0123-4567-89ab is wrong"}}\n\n';
  assert.deepEqual(await heardOf(`HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n${event}`), [
    "open",
    "stream_error: the provider reports: [key] is wrong",
  ]);
});

Deno.test("openai: what a header of the configuration has for a key is quoted as little as the key itself", async () => {
  const headers = { authorization: "Bearer 0123-4567-89ab", "x-tokens": "401" };
  await using rig = await backendRig({ protocol: "h1" }, { apiKey: "", headers });
  assert.deepEqual(await rig.ears.hear(ask("echo-key")), [
    "auth: the provider answered 401 Incorrect API key provided: [key]",
  ]);
});

Deno.test("openai: messages that nest too deeply to be written are the request's fault, and asked of nobody", async () => {
  await using rig = await backendRig({ protocol: "h1" });
  const content = [JSON.parse('{"0":'.repeat(20_000) + "1" + "}".repeat(20_000))];
  assert.deepEqual(await rig.ears.hear(ask("plain", { messages: [{ role: "user", content }] })), [
    "bad_request: the request cannot be written as JSON",
  ]);
  assert.equal(rig.mock.requests.length, 0);
});

Deno.test("openai: a test pattern cannot add a header", async () => {
  await using rig = await backendRig({ protocol: "h1" });
  assert.deepEqual(await rig.ears.hear(ask("plain\r\nX-Evil: 1")), [
    "bad_request: test_pattern cannot be sent as a header",
  ]);
  assert.equal(rig.mock.requests.length, 0);
});

Deno.test("openai: spaces around a test pattern, which HTTP/2 forbids, are taken off", async () => {
  await using rig = await backendRig({ protocol: "h2c" });
  assert.deepEqual(await rig.ears.hear(ask(" plain ")), HELLO);
  assert.equal(rig.mock.requests[0]?.headers["x-test-pattern"], "plain");
});

Deno.test("openai: an answer that was paused before its first try failed stays so at the next", async () => {
  await using rig = await backendRig({ protocol: "h1", events: 50_000 }, { maxRetries: 1 });
  const slow = rig.ears.ask(ask("retry-after-0-times-1"));
  slow.answer.pause();
  await rig.mock.received(2);
  for (let i = 0; i < 3; i++) assert.equal((await rig.ears.hear(ask("burst-3"))).at(-1), "end");
  assert.ok(slow.heard.length < 5_000, `${slow.heard.length} events`);
  slow.answer.resume();
  assert.equal((await slow.all()).filter((event) => event.startsWith('"')).length, 50_000);
});

Deno.test("openai: a stream that its provider leaves open after [DONE] is reset", async () => {
  await using rig = await backendRig({ protocol: "h2c" });
  await rig.ears.hear(ask("open-end"));
  await rig.mock.resets(1);
  assert.equal(rig.backend.stats().cancelled, 0);
});

Deno.test("openai: a stream that cannot be read is reset", async () => {
  await using rig = await backendRig({ protocol: "h2c" });
  await rig.ears.hear(ask("hugeline"));
  await rig.mock.resets(1);
  assert.equal(rig.backend.stats().cancelled, 0);
});

Deno.test("openai: how many idle connections are kept, and how long, is as configured", async () => {
  for (const set of [{ poolMaxIdlePerHost: 0, idleTimeoutMs: 600_000 }, { idleTimeoutMs: 500 }]) {
    await using rig = await backendRig({ protocol: "h2c" }, set);
    assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
    await until("it is closed", () => rig.backend.stats().connections === 0);
  }
});

Deno.test("openai: what cannot be used is said when the template is made", async () => {
  const cases: [Parameters<typeof openaiOptions>[0], RegExp][] = [
    [{ apiBase: "ftp://x" }, /api_base is "ftp:\/\/x"; expected http/],
    [{ apiBase: "nonsense" }, /api_base is "nonsense"/],
    [{ headers: { "bad name": "x" } }, /headers has "bad name"/],
    [{ headers: { "x": "a\nb" } }, /headers has "x"/],
    [{ proxy: { httpProxy: "socks5://p" } }, /HTTP_PROXY names a proxy of kind socks5:/],
    ...["Host", "connection", "Transfer-Encoding", "Content-Length", "Expect", "Accept-Encoding", "TE"].map((
      name,
    ): [Parameters<typeof openaiOptions>[0], RegExp] => [
      { headers: { [name]: "x" } },
      new RegExp(`backend.openai.headers has "${name}", which the daemon sets itself; expected none of`),
    ]),
  ];
  for (const [set, message] of cases) {
    await assert.rejects(
      requestTemplate(openaiOptions(set)),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  }
  const proxied = { insecureSsl: true, proxy: { httpsProxy: "p:1" }, apiBase: "https://x/v1" };
  await assert.rejects(
    requestTemplate(openaiOptions(proxied)),
    /insecure_ssl cannot be used through a proxy/,
  );
  // No proxy is on the way to a Unix socket.
  await requestTemplate(openaiOptions({ ...proxied, apiSocket: "/run/x" }));
  await assert.rejects(makeOpenAi({ caFile: "/no/such/file" }), /ca_file \/no\/such\/file cannot be read/);
});

for (const protocol of PROTOCOLS) {
  Deno.test(`openai over ${protocol}: a backend that is closed lets its answers finish, and begins no other`, async () => {
    await using rig = await backendRig({ protocol, delayMs: 20 });
    const asked = rig.ears.ask(ask("plain"));
    await asked.until(1);
    let closed = false;
    const closing = rig.backend.close().then(() => closed = true);
    await asked.until(HELLO.length - 1);
    assert.ok(!closed);
    assert.deepEqual(await asked.all(), HELLO);
    await closing;
    await rig.ears.ended;
    assert.equal(rig.backend.stats().connections, 0);
  });
}

Deno.test("openai: what a model refuses by name is left out, or named otherwise, for that model from then on", async (t) => {
  await using rig = await backendRig({ protocol: "h2c" });
  let seen = 0;
  const sent = (): object[] => {
    const bodies = rig.mock.requests.slice(seen).map(({ body }) => body);
    seen += bodies.length;
    return bodies;
  };
  const options = (all: readonly object[]): boolean[] => all.map((body) => "stream_options" in body);
  await t.step("stream_options", async () => {
    assert.deepEqual(await rig.ears.hear(ask("refuses-stream_options", { model: "a" })), HELLO);
    assert.deepEqual(await rig.ears.hear(ask("refuses-stream_options", { model: "a" })), HELLO);
    assert.deepEqual(options(sent()), [true, false, false]);
    assert.deepEqual(await rig.ears.hear(ask("plain", { model: "b" })), HELLO);
    assert.deepEqual(options(sent()), [true]);
  });
  await t.step("a 400 that only quotes it", async () => {
    assert.match(
      (await rig.ears.hear(ask("quotes", { model: "c" })))[0] ?? "",
      /^bad_request: .*stream_options/,
    );
    assert.deepEqual(await rig.ears.hear(ask("plain", { model: "c" })), HELLO);
    assert.deepEqual(options(sent()), [true, true]);
  });
  await t.step("max_tokens", async () => {
    for (let i = 0; i < 2; i++) {
      assert.deepEqual(await rig.ears.hear(ask("refuses-max_tokens", { model: "a", maxTokens: 7 })), HELLO);
    }
    const names = sent().map((body) => Object.keys(body).find((name) => name.startsWith("max_")));
    assert.deepEqual(names, ["max_tokens", "max_completion_tokens", "max_completion_tokens"]);
  });
  await t.step("max_completion_tokens, which the handoff may say", async () => {
    const request = { model: "d", maxCompletionTokens: 7, maxTokens: 9 };
    for (let i = 0; i < 2; i++) {
      assert.deepEqual(await rig.ears.hear(ask("refuses-max_completion_tokens", request)), HELLO);
    }
    const limits = sent().map((body) => Object.entries(body).filter(([name]) => name.startsWith("max_")));
    assert.deepEqual(limits, [[["max_completion_tokens", 7]], [["max_tokens", 7]], [["max_tokens", 7]]]);
  });
  await t.step("a value that no name makes right", async () => {
    const all = await rig.ears.hear(
      ask("refuses-max_tokens-max_completion_tokens", { model: "e", maxTokens: 7 }),
    );
    assert.match(all[0] ?? "", /^bad_request: /);
    assert.equal(sent().length, 2);
    assert.deepEqual(await rig.ears.hear(ask("plain", { model: "e", maxTokens: 7 })), HELLO);
    assert.ok("max_tokens" in (sent()[0] ?? {}), "nothing was learned");
  });
  assert.equal(rig.backend.stats().retries, 0);
});

Deno.test("openai: to be asked for what the model takes is not one of the tries that max_retries allows", async () => {
  const refusal = { error: { message: "Unknown parameter", param: "stream_options" } };
  const answers = [
    Response.json(refusal, { status: 400 }),
    new Response("", { status: 503, headers: { "retry-after": "0" } }),
    new Response("data: [DONE]\n\n", { headers: { "content-type": "text/event-stream" } }),
  ];
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async (request) => {
      await request.text();
      return answers.shift() ?? Response.error();
    },
  );
  const backend = await makeOpenAi({ apiBase: `http://127.0.0.1:${server.addr.port}/v1`, maxRetries: 1 });
  const ears = new Ears(backend);
  assert.deepEqual(await ears.hear(ask("plain")), ["open", "end"]);
  assert.deepEqual([answers.length, backend.stats().retries], [0, 1]);
  await backend.close();
  await ears.ended;
  await server.shutdown();
});

Deno.test("openai: of one name, the request's own fields win over its members, those over the configuration", async () => {
  await using rig = await backendRig({ protocol: "h1" }, { body: { seed: 1, stop: "a", tier: "flex" } });
  const members = { seed: 2, model: "not this one", stream: false, tools: [{ type: "function" }] };
  assert.deepEqual(await rig.ears.hear(ask("plain", { model: "m", members })), HELLO);
  const [sent] = rig.mock.requests;
  assert.deepEqual(sent?.body, {
    seed: 2,
    stop: "a",
    tier: "flex",
    tools: [{ type: "function" }],
    model: "m",
    messages: [{ role: "user", content: "Hello" }],
    stream: true,
    stream_options: { include_usage: true },
  });
});

Deno.test("openai: of OpenAI itself no padding is asked, and stream_options of the configuration are kept", async () => {
  const directory = await Deno.makeTempDir();
  const socketPath = `${directory}/llm`;
  await using rig = await backendRig({ protocol: "h2c", socketPath }, {
    apiSocket: socketPath,
    apiBase: "https://api.openai.com/v1",
    body: { stream_options: { of_mine: 1 }, max_tokens: 5 },
  });
  assert.deepEqual(await rig.ears.hear(ask("plain")), HELLO);
  assert.deepEqual(await rig.ears.hear(ask("plain", { maxCompletionTokens: 3 })), HELLO);
  assert.deepEqual(await rig.ears.hear(ask("refuses-stream_options.include_obfuscation")), HELLO);
  const [first, limited, , last] = rig.mock.requests.map(({ body }) => body);
  assert.deepEqual(first?.["stream_options"], {
    include_obfuscation: false,
    of_mine: 1,
    include_usage: true,
  });
  assert.deepEqual([first["max_tokens"], limited?.["max_tokens"], limited?.["max_completion_tokens"]], [
    5,
    undefined,
    3,
  ]);
  assert.deepEqual(last?.["stream_options"], { of_mine: 1, include_usage: true });
  await Deno.remove(directory, { recursive: true });
});

import assert from "node:assert/strict";
import { openaiBackend } from "../../../src/backend/openai/openai.ts";
import { BackendError, ConfigError } from "../../../src/errors.ts";
import { ask, backendRig, brief, heard, HELLO, noAbort, PROTOCOLS } from "../../support/backend_rig.ts";
import { LONG_TEXT, UNICODE_TEXTS } from "../../support/mock_llm_patterns.ts";
import { openaiOptions } from "../../support/openai_options.ts";

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
      "open-end": ["open", '"word "', "finish stop", "usage 7 1", "end"],
    };
    for (const [pattern, expected] of Object.entries(cases)) {
      await t.step(pattern, async () => {
        assert.deepEqual(await heard(rig.backend.stream(ask(pattern), noAbort())), expected);
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
      "nodone-1": ["open", '"word0 "', "finish stop", "truncated: the stream ended before [DONE]"],
      "hugeline": ["open", '"word0 "', "malformed: an event of more than 524288 bytes"],
    };
    for (const [pattern, expected] of Object.entries(cases)) {
      await t.step(pattern, async () => {
        assert.deepEqual(await heard(rig.backend.stream(ask(pattern), noAbort())), expected);
      });
    }
    await t.step("and the next request is answered", async () => {
      assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), HELLO);
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
    assert.deepEqual(await heard(rig.backend.stream(request, noAbort())), HELLO);
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

  Deno.test(`openai over ${protocol}: a failure before the head is tried again, and again`, async () => {
    await using rig = await backendRig({ protocol });
    assert.deepEqual(await heard(rig.backend.stream(ask("status-503-times-2"), noAbort())), HELLO);
    assert.deepEqual(
      (await heard(rig.backend.stream(ask("retry-after-0-times-3"), noAbort())))[0]?.split(":")[0],
      "rate_limited",
    );
    assert.equal(rig.mock.requests.length, 6);
    assert.equal(rig.backend.stats().retries, 4);
  });

  Deno.test(`openai over ${protocol}: Retry-After is waited for`, async () => {
    await using rig = await backendRig({ protocol });
    const startMs = performance.now();
    assert.deepEqual(await heard(rig.backend.stream(ask("retry-after-1-times-1"), noAbort())), HELLO);
    assert.ok(performance.now() - startMs >= 1_000);
  });

  Deno.test(`openai over ${protocol}: a Retry-After beyond the time-out is not waited for`, async () => {
    await using rig = await backendRig({ protocol }, { headTimeoutMs: 5_000 });
    assert.deepEqual(await heard(rig.backend.stream(ask("retry-after-6-times-1"), noAbort())), [
      "rate_limited: the provider answered 429 a made-up 429",
    ]);
    assert.equal(rig.backend.stats().retries, 0);
  });

  Deno.test(`openai over ${protocol}: after the head, nothing is tried again`, async () => {
    await using rig = await backendRig({ protocol });
    await heard(rig.backend.stream(ask("abort-1"), noAbort()));
    assert.equal(rig.mock.requests.length, 1);
  });

  Deno.test(`openai over ${protocol}: a server that refuses stream_options is asked without, once and for all`, async () => {
    await using rig = await backendRig({ protocol });
    assert.deepEqual(await heard(rig.backend.stream(ask("no-usage"), noAbort())), HELLO);
    assert.deepEqual(await heard(rig.backend.stream(ask("no-usage"), noAbort())), HELLO);
    assert.deepEqual(rig.mock.requests.map(({ body }) => "stream_options" in body), [true, false, false]);
  });

  Deno.test(`openai over ${protocol}: cancelled while waiting for the head, by the signal and by the reader`, async () => {
    await using rig = await backendRig({ protocol });
    const abort = new AbortController();
    const first = heard(rig.backend.stream(ask("stall-head"), abort.signal));
    const second = rig.backend.stream(ask("stall-head"), noAbort()).getReader();
    const read = second.read();
    await rig.mock.received(2);
    const startMs = performance.now();
    abort.abort(new BackendError("timeout", "no head within 1 s"));
    await second.cancel();
    await rig.mock.resets(2);
    assert.ok(performance.now() - startMs < 1_000);
    assert.deepEqual(await first, ["timeout: no head within 1 s"]);
    assert.deepEqual(await read, { done: true, value: undefined });
    assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), HELLO);
    assert.equal(rig.backend.stats().cancelled, 2);
    if (protocol !== "h1") assert.ok(rig.mock.counts.connections <= 2, "the connection stays usable");
  });

  Deno.test(`openai over ${protocol}: cancelled in the stream`, async () => {
    await using rig = await backendRig({ protocol });
    const abort = new AbortController();
    const reader = rig.backend.stream(ask("stall-2"), abort.signal).getReader();
    for (let i = 0; i < 3; i++) await reader.read();
    const other = heard(rig.backend.stream(ask("slow-head-50"), noAbort()));
    abort.abort("gone");
    await rig.mock.resets(1);
    await assert.rejects(reader.read(), (error) => error instanceof BackendError && error.kind === "other");
    // Both may happen, in any order.
    await reader.cancel().catch(() => {});
    assert.deepEqual(await other, HELLO);
    assert.equal(rig.backend.stats().cancelled, 1);
  });

  Deno.test(`openai over ${protocol}: cancelled in the pause before another try`, async () => {
    await using rig = await backendRig({ protocol });
    const abort = new AbortController();
    const stream = heard(rig.backend.stream(ask("retry-after-60-times-1"), abort.signal));
    await rig.mock.received(1);
    while (rig.backend.stats().retries === 0) await new Promise((next) => setTimeout(next, 1));
    abort.abort();
    assert.deepEqual(await stream, ["other: the request was aborted"]);
    assert.equal(rig.mock.requests.length, 1);
  });

  Deno.test(`openai over ${protocol}: what came before a failure is read before it`, async () => {
    await using rig = await backendRig({ protocol });
    const reader = rig.backend.stream(ask("abort-3"), noAbort()).getReader();
    await reader.read();
    // HTTP/1.1 is not read any further while nobody takes what came; over HTTP/2 the reset is there already.
    while (protocol !== "h1" && rig.backend.stats().streams > 0) {
      await new Promise((next) => setTimeout(next, 5));
    }
    for (let i = 0; i < 3; i++) assert.equal((await reader.read()).value?.kind, "text");
    await assert.rejects(
      reader.read(),
      (error) => error instanceof BackendError && error.kind === "truncated",
    );
  });

  Deno.test(`openai over ${protocol}: a reader that does not read stops the provider, and nobody else`, async () => {
    await using rig = await backendRig({ protocol });
    const slow = rig.backend.stream(ask("burst-200000"), noAbort()).getReader();
    await slow.read();
    for (let i = 0; i < 3; i++) {
      assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), HELLO);
    }
    assert.equal(rig.mock.counts.streams, 1, "the provider is held back");
    let words = 0;
    for (let step = await slow.read(); !step.done; step = await slow.read()) {
      if (step.value.kind === "text") words++;
    }
    assert.equal(words, 200_000);
  });
}

Deno.test("openai: cancelled before it began", async () => {
  const backend = openaiBackend(openaiOptions({}));
  assert.deepEqual(await heard(backend.stream(ask("plain"), AbortSignal.abort())), [
    "other: the request was aborted",
  ]);
  const stream = backend.stream(ask("plain"), noAbort());
  await stream.cancel();
  assert.equal(backend.stats().opened, 0);
  await backend.close();
});

Deno.test("openai: nobody listens", async () => {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  for (const http2 of [true, false]) {
    const backend = openaiBackend(
      openaiOptions({ apiBase: `http://127.0.0.1:${port}/v1`, maxRetries: 1, http2 }),
    );
    const [failure] = await heard(backend.stream(ask("plain"), noAbort()));
    assert.match(failure ?? "", new RegExp(`^unavailable: cannot connect to 127.0.0.1:${port}: .*refused`));
    assert.equal(backend.stats().retries, 1);
    await backend.close();
  }
});

Deno.test("openai: a name that does not exist", async () => {
  const backend = openaiBackend(openaiOptions({ apiBase: "http://no-such-host.invalid/v1", maxRetries: 0 }));
  const [failure] = await heard(backend.stream(ask("plain"), noAbort()));
  assert.match(failure ?? "", /^unavailable: cannot connect to no-such-host.invalid:80/);
  await backend.close();
});

Deno.test("openai: a certificate nobody vouches for is refused, unless insecure_ssl says so", async () => {
  for (const protocol of ["h1s", "h2"] as const) {
    await using strict = await backendRig({ protocol }, { caFile: "", maxRetries: 0 });
    const [failure] = await heard(strict.backend.stream(ask("plain"), noAbort()));
    assert.match(failure ?? "", /^unavailable: cannot connect to 127.0.0.1:\d+: .*certificate/);
    await using lax = await backendRig({ protocol }, { caFile: "", insecureSsl: true });
    assert.deepEqual(await heard(lax.backend.stream(ask("plain"), noAbort())), HELLO);
    assert.deepEqual(
      await heard(lax.backend.stream(ask("bytes"), noAbort())).then((all) => all.at(-1)),
      "end",
    );
    assert.equal(lax.mock.requests[0]?.httpVersion, protocol === "h2" ? "2.0" : "1.1");
  }
});

Deno.test("openai: http2 = false speaks HTTP/1.1 to a server of both", async () => {
  await using rig = await backendRig({ protocol: "h2" }, { http2: false });
  assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), HELLO);
  assert.equal(rig.mock.requests[0]?.httpVersion, "1.1");
});

Deno.test("openai: over a Unix socket", async () => {
  const directory = await Deno.makeTempDir();
  for (const protocol of ["h1", "h2c"] as const) {
    const socketPath = `${directory}/${protocol}`;
    // As the default address has it: https, which a Unix socket does not need.
    const apiBase = "https://api.openai.com/v1";
    await using rig = await backendRig({ protocol, socketPath }, { apiSocket: socketPath, apiBase });
    assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), HELLO);
  }
  const backend = openaiBackend(openaiOptions({ apiSocket: `${directory}/none`, maxRetries: 0 }));
  const [failure] = await heard(backend.stream(ask("plain"), noAbort()));
  assert.match(failure ?? "", /^unavailable: cannot connect to the Unix socket .*none/);
  await backend.close();
  await Deno.remove(directory, { recursive: true });
});

Deno.test("openai: no key, no Authorization", async () => {
  await using rig = await backendRig({ protocol: "h2c" }, { apiKey: "" });
  assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), HELLO);
  assert.equal(rig.mock.requests.length, 1);
  assert.equal(rig.mock.requests[0]?.headers["authorization"], undefined);
});

Deno.test("openai: a test pattern cannot add a header", async () => {
  await using rig = await backendRig({ protocol: "h1" });
  assert.deepEqual(await heard(rig.backend.stream(ask("plain\r\nX-Evil: 1"), noAbort())), [
    "bad_request: test_pattern cannot be sent as a header",
  ]);
  assert.equal(rig.mock.requests.length, 0);
});

Deno.test("openai: a stream that its provider leaves open after [DONE] is reset", async () => {
  await using rig = await backendRig({ protocol: "h2c" });
  await heard(rig.backend.stream(ask("open-end"), noAbort()));
  await rig.mock.resets(1);
  assert.equal(rig.backend.stats().cancelled, 0);
});

Deno.test("openai: what cannot be used is said when the backend is made", () => {
  const cases: [Parameters<typeof openaiOptions>[0], RegExp][] = [
    [{ apiBase: "ftp://x" }, /api_base is "ftp:\/\/x"; expected http/],
    [{ apiBase: "nonsense" }, /api_base is "nonsense"/],
    [{ caFile: "/no/such/file" }, /ca_file \/no\/such\/file cannot be read/],
    [{ headers: { "bad name": "x" } }, /headers has "bad name"/],
    [{ headers: { "x": "a\nb" } }, /headers has "x"/],
    [{ proxy: { httpProxy: "socks5://p" } }, /HTTP_PROXY names a proxy of kind socks5:/],
  ];
  for (const [set, message] of cases) {
    assert.throws(
      () => openaiBackend(openaiOptions(set)),
      (error) => error instanceof ConfigError && message.test(error.message),
    );
  }
});

for (const protocol of PROTOCOLS) {
  Deno.test(`openai over ${protocol}: a backend that is closed lets its streams finish, and begins no other`, async () => {
    await using rig = await backendRig({ protocol, delayMs: 20 });
    const reader = rig.backend.stream(ask("plain"), noAbort()).getReader();
    await reader.read(); // open
    let closed = false;
    const closing = rig.backend.close().then(() => closed = true);
    const rest: string[] = [];
    for (let step = await reader.read(); !step.done; step = await reader.read()) {
      assert(!closed);
      rest.push(brief(step.value));
    }
    assert(rest.length > 3 && rest.includes("finish stop"), rest.join());
    await closing;
    assert.deepEqual(await heard(rig.backend.stream(ask("plain"), noAbort())), [
      "unavailable: the pool is closed",
    ]);
    assert.equal(rig.backend.stats().connections, 0);
  });
}

/** Fallback in the running daemon. */
import assert from "node:assert/strict";
import { mockLlm } from "../support/mock_llm.ts";
import { broken, UNAVAILABLE } from "../support/openai_daemon.ts";
import { OtlpReceiver } from "../support/otlp.ts";
import { ask, openaiBackend, startSite } from "../support/several_backends.ts";

/** The backend `a`, and the mock one where it fails. */
const withRescue = (provider: { readonly base: string }, afterSecs = 20): string =>
  'backend.selectable = ["a"]\nbackends.rescue.default_model = "other"\nbackends.rescue.mock.token_delay_ms = 0\n' +
  openaiBackend("a", provider, `fallback = ["rescue"]\nfallback_after_secs = ${afterSecs}`);

Deno.test("a provider that is not there: the next one answers, and log and metrics say so", async () => {
  await using site = await startSite(withRescue({ base: "http://127.0.0.1:1/v1" }));
  const { daemon } = site;
  assert.match(
    await ask(site, { backend: "a", request_id: "r-1" }),
    /^HTTP\/1\.1 200 [^]*DONE-CONTENT[^]*\[DONE\]\n\n$/,
  );
  const { level, fields } = await daemon.logged("Backend failed");
  assert.deepEqual([level, fields["backend"], fields["kind"], fields["fallback"], fields["request_id"]], [
    "warning",
    "a",
    "unavailable",
    "rescue",
    "r-1",
  ]);
  const { fields: end } = await daemon.logged("Stream complete");
  assert.deepEqual([end["backend"], end["model"]], ["rescue", "other"]);
  assert.equal(await daemon.metric("daemon_backend_requests", { backend: "a" }), 1);
  assert.equal(await daemon.metric("daemon_backend_requests", { backend: "rescue" }), 1);
  assert.equal(await daemon.metric("daemon_backend_errors", { backend: "a", kind: "unavailable" }), 1);
  assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "backend_error" }), 0);
});

Deno.test("whatever a provider does before its first piece, the next one answers; what the request is to blame for stays", async (t) => {
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(withRescue(a));
  for (
    const pattern of [
      "status-500",
      "status-503",
      "status-529",
      "status-429",
      "status-408",
      "error-0",
      "sse-error-200",
      "html",
      "json-error",
      "badjson-0",
      "reset-head",
      "abort-0",
      "gzip",
    ]
  ) {
    await t.step(pattern, async () => {
      const answer = await ask(site, { backend: "a", test_pattern: pattern });
      assert.match(answer, /^HTTP\/1\.1 200 [^]*DONE-CONTENT[^]*\[DONE\]\n\n$/);
      assert.equal(answer.match(/HTTP\/1\.1/g)?.length, 1);
      assert.doesNotMatch(answer, /error/);
    });
  }
  for (const pattern of ["status-400", "status-401", "status-404"]) {
    await t.step(pattern, async () => {
      assert.equal(await ask(site, { backend: "a", test_pattern: pattern }), UNAVAILABLE);
    });
  }
  await t.step("after the first piece", async () => {
    assert.equal(await ask(site, { backend: "a", test_pattern: "abort-1" }), broken(["word0 "]));
  });
});

Deno.test("a provider that says nothing in time: the next one answers, and the request is cancelled", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(withRescue(a, 0.2));
  for (const [index, pattern] of ["stall-head", "stall-0"].entries()) {
    const answer = await ask(site, { backend: "a", test_pattern: pattern });
    assert.match(answer, /^HTTP\/1\.1 200 [^]*DONE-CONTENT[^]*\[DONE\]\n\n$/);
    assert.doesNotMatch(answer, /error/);
    await a.resets(index + 1);
  }
  assert.equal(await site.daemon.metric("daemon_backend_errors", { backend: "a", kind: "timeout" }), 2);
});

Deno.test("each provider of another style: its first piece is its first word", async (t) => {
  await using a = await mockLlm({ protocol: "h1" });
  const providers = ["anthropic", "openai-responses", "langgraph"];
  const tables = providers.map((provider) => {
    const base = provider === "langgraph" ? new URL("/", a.base).href : a.base;
    return `[backends.${provider}]\nprovider = "${provider}"\nfallback = ["rescue"]\nfallback_after_secs = 0.2\n` +
      `[backends.${provider}.${provider.replace("-", "_")}]\n` +
      `api_base = "${base}"\nhttp2 = false\nmax_retries = 0\n`;
  });
  await using site = await startSite(
    `backend.selectable = ${JSON.stringify(providers)}\nbackends.rescue.mock.token_delay_ms = 0\n` +
      tables.join(""),
  );
  for (const provider of providers) {
    await t.step(
      `${provider}: what it says before its first piece is no answer, and the next one gives it`,
      async (t) => {
        for (
          const pattern of ["status-529", "overloaded-0", "rate-limit-0", "abort-0", "stall-0", "badjson-0"]
        ) {
          await t.step(pattern, async () => {
            const answer = await ask(site, { backend: provider, test_pattern: pattern });
            assert.match(answer, /^HTTP\/1\.1 200 [^]*DONE-CONTENT[^]*\[DONE\]\n\n$/);
            assert.doesNotMatch(answer, /error/);
          });
        }
        await t.step("after the first piece", async () => {
          const answer = await ask(site, { backend: provider, test_pattern: "overloaded-1" });
          assert.equal(answer, broken(["word0 "]));
        });
      },
    );
  }
});

Deno.test("many at once whose provider says nothing: each has one whole answer of the next", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(withRescue(a, 0.2), { DAEMON_TOKEN_DELAY_MS: "1" });
  const { daemon } = site;
  const answers = await Promise.all(
    Array.from({ length: 100 }, (_, index) => {
      const pattern = ["stall-head", "stall-0", "status-503", "reset-head"][index % 4];
      return ask(site, { backend: "a", prompt: `number ${index}.`, test_pattern: pattern });
    }),
  );
  for (const [index, answer] of answers.entries()) {
    assert.match(
      answer,
      new RegExp(`^HTTP/1\\.1 200 [^]*You said: \\\\"number ${index}\\.[^]*\\[DONE\\]\\n\\n$`),
    );
    assert.equal(answer.match(/DONE-CONTENT/g)?.length, 1);
  }
  assert.equal(await daemon.metric("daemon_backend_requests", { backend: "rescue" }), 100);
  await daemon.until("no request", async () => await daemon.metric("daemon_upstream_streams") === 0);
  assert.equal(await daemon.metric("daemon_streams_active"), 0);
});

Deno.test("a span for each try", async () => {
  await using otlp = new OtlpReceiver();
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(withRescue(a), otlp.env);
  await ask(site, { backend: "a", model: "m", test_pattern: "status-503" });
  await site.daemon.until("two spans", () => otlp.spans.length === 2);
  const spans = otlp.spans.map(({ name, attributes }) => [
    name,
    attributes["gen_ai.provider.name"],
    attributes["error.type"],
  ]);
  assert.deepEqual(spans, [["chat m", "openai", "server_error"], ["chat other", "mock", undefined]]);
});

Deno.test("a stream with an id falls back as well, and numbers its events from the first piece on", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  await using site = await startSite(withRescue(a));
  const data = { backend: "a", stream_id: "s", on_disconnect: "continue", test_pattern: "status-503" };
  const answer = await ask(site, data);
  assert.match(answer, /\nid: 1\ndata: {"content":"Hello! "}\n\n[^]*DONE-CONTENT[^]*\[DONE\]\n\n$/);
  const resumed = await ask(site, { stream_id: "s", last_event_id: "1" });
  assert.equal(resumed.match(/^id: .*$/gm)?.[0], "id: 2");
  assert.match(resumed, /DONE-CONTENT[^]*\[DONE\]\n\n$/);
});

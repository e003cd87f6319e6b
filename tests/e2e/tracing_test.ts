/** OpenTelemetry: what the real daemon sends to a collector. */
import assert from "node:assert/strict";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { answer, openaiDaemon } from "../support/openai_daemon.ts";
import { OtlpReceiver, type ReceivedSpan } from "../support/otlp.ts";

const CLIENT = 3;
const ERROR = 2;
const TRACE = "0af7651916cd43dd8448eb211c80319c";
const SPAN = "b7ad6b7169203331";
const DOCUMENT = Deno.readTextFileSync(new URL("../../docs/metrics.md", import.meta.url));

/** What is sent is what is documented. */
function assertDocumented(names: Iterable<string>): void {
  for (const name of names) assert(DOCUMENT.includes(`\`${name}\``), `${name} is not in docs/metrics.md`);
}

async function spans(daemon: TestDaemon, otlp: OtlpReceiver, count: number): Promise<ReceivedSpan[]> {
  await daemon.until(`${count} spans`, () => otlp.spans.length >= count);
  assert.equal(otlp.spans.length, count);
  return otlp.spans.splice(0);
}

async function oneSpan(daemon: TestDaemon, otlp: OtlpReceiver): Promise<ReceivedSpan> {
  return (await spans(daemon, otlp, 1))[0] as ReceivedSpan;
}

Deno.test("a span for each stream, with the names of the conventions for generative AI", async (t) => {
  await using otlp = new OtlpReceiver();
  await using both = await openaiDaemon("h2c", { env: otlp.env });
  const { daemon, mock } = both;
  const port = BigInt(mock.port);

  await t.step("of an answer: model, tokens, finish reason, time to the first chunk, parent", async () => {
    const limits = { max_tokens: 1, max_completion_tokens: 99 }; // the second one holds
    const data = { model: "some-model", ...limits, temperature: 0.5, request_id: "r-1" };
    const began = performance.now();
    await answer(daemon, "plain", { ...data, traceparent: `00-${TRACE}-${SPAN}-01` });
    const tookMs = performance.now() - began;
    const { attributes, ...span } = await oneSpan(daemon, otlp);
    assert.deepEqual(
      [span.name, span.kind, span.status, span.traceId, span.parentSpanId],
      ["chat some-model", CLIENT, 0, TRACE, SPAN],
    );
    const { "gen_ai.response.time_to_first_chunk": firstSecs, ...others } = attributes;
    assert.deepEqual(others, {
      "gen_ai.operation.name": "chat",
      "gen_ai.provider.name": "openai",
      "gen_ai.request.model": "some-model",
      "gen_ai.request.stream": true,
      "gen_ai.request.max_tokens": 99n,
      "gen_ai.request.temperature": 0.5,
      "gen_ai.response.finish_reasons": ["stop"],
      "gen_ai.usage.input_tokens": 7n,
      "gen_ai.usage.output_tokens": 5n,
      "server.address": "127.0.0.1",
      "server.port": port,
      "daemon.request_id": "r-1",
    });
    assertDocumented(Object.keys(attributes));
    assert(span.durationMs > 0 && span.durationMs < tookMs, `${span.durationMs} of ${tookMs} ms`);
    assert(typeof firstSecs === "number" && firstSecs > 0 && firstSecs * 1000 <= span.durationMs);
    assert.deepEqual([...otlp.services], ["some-service"]);
  });

  await t.step("of a failure: the provider's, before the head and in the stream", async () => {
    await answer(daemon, "status-500");
    const refused = await oneSpan(daemon, otlp);
    assert.deepEqual([refused.status, refused.attributes["error.type"]], [ERROR, "server_error"]);
    assert.equal(refused.attributes["gen_ai.response.time_to_first_chunk"], undefined);
    await answer(daemon, "abort-2");
    const broken = await oneSpan(daemon, otlp);
    assert.deepEqual([broken.status, broken.attributes["error.type"]], [ERROR, "truncated"]);
    assert.equal(typeof broken.attributes["gen_ai.response.time_to_first_chunk"], "number");
  });

  await t.step("of a client that goes away, before the first piece and after it", async () => {
    const asked = mock.requests.length;
    const early = daemon.handOff({ test_pattern: "stall-head" });
    await mock.received(asked + 1);
    early.close();
    const late = daemon.handOff({ test_pattern: "stall-1" });
    await late.readUntil("word0");
    late.close();
    for (const span of await spans(daemon, otlp, 2)) {
      assert.deepEqual([span.status, span.attributes["error.type"]], [ERROR, "client_disconnected"]);
    }
  });

  await t.step("without a parent, or with one that does not hold, it begins a trace", async () => {
    await answer(daemon, "plain");
    await answer(daemon, "plain", { traceparent: `00-${TRACE}-${"0".repeat(16)}-01` });
    for (const { traceId, parentSpanId } of await spans(daemon, otlp, 2)) {
      assert.notEqual(traceId, TRACE);
      assert.match(traceId, /^(?!0+$)[0-9a-f]{32}$/);
      assert.equal(parentSpanId, "");
    }
  });

  await t.step("a client that was refused has none", async () => {
    using client = daemon.handOff({ traceparent: 7 });
    assert.match(await client.readAll(), /400[^]*Field "traceparent" is 7, expected a string/);
    await answer(daemon, "plain");
    assert.equal((await oneSpan(daemon, otlp)).status, 0);
  });
});

Deno.test("streams that a shutdown ends have their spans, and metrics have the sum of all workers", async () => {
  await using otlp = new OtlpReceiver();
  await using both = await openaiDaemon("h2c", {
    env: {
      ...otlp.env,
      DAEMON_WORKERS: "2",
      DAEMON_DEFAULT_MODEL: "known",
      DAEMON_METRICS_MODELS: "also-known",
      DAEMON_SHUTDOWN_TIMEOUT_SECS: "0",
    },
  });
  const { daemon, mock } = both;
  const held = Array.from({ length: 4 }, () => daemon.handOff({ test_pattern: "stall-1" }));
  for (const client of held) await client.readUntil("word0"); // both workers have some
  for (const model of ["known", "also-known", "made-up", "made-up-2"]) {
    await answer(daemon, "plain", { model });
  }
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  for (const client of held) client.close();

  const sum = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);
  const countedSecs = sum(otlp.histogram("gen_ai.client.operation.duration").map(({ sum }) => sum));
  const tracedSecs = sum(otlp.spans.map(({ durationMs }) => durationMs)) / 1000;
  assert(Math.abs(countedSecs - tracedSecs) < 0.01 * tracedSecs, `${countedSecs} s of ${tracedSecs} s`);
  const ends = otlp.spans.map(({ attributes }) => attributes["error.type"] ?? "none").sort();
  assert.deepEqual(ends, [...Array(4).fill("none"), ...Array(4).fill("shutdown")]);
  const labels = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "server.address": "127.0.0.1",
    "server.port": BigInt(mock.port),
  };
  const counts = (name: string) => {
    assertDocumented([name, "error.type", "gen_ai.token.type"]);
    return otlp.histogram(name).map(({ count, attributes }) => {
      const { "gen_ai.request.model": model, "error.type": error, "gen_ai.token.type": type, ...others } =
        attributes;
      assert.deepEqual(others, labels);
      return [model, ...[error, type].filter((each) => each !== undefined), count].join(" ");
    }).sort();
  };
  assert.deepEqual(counts("gen_ai.client.operation.duration"), [
    "also-known 1",
    "known 1",
    "known shutdown 4",
    "other 2",
  ]);
  assert.deepEqual(counts("gen_ai.client.operation.time_to_first_chunk"), [
    "also-known 1",
    "known 5",
    "other 2",
  ]);
  assert.deepEqual(counts("gen_ai.client.token.usage"), [
    "also-known input 1",
    "also-known output 1",
    "known input 1",
    "known output 1",
    "other input 2",
    "other output 2",
  ]);
  const [tokens] = otlp.histogram("gen_ai.client.token.usage");
  assert.deepEqual([tokens?.unit, tokens?.bounds.slice(0, 4), tokens?.bounds.length], [
    "{token}",
    [1, 4, 16, 64],
    14,
  ]);
  const [duration] = otlp.histogram("gen_ai.client.operation.duration");
  assert.deepEqual([duration?.unit, duration?.bounds.at(0), duration?.bounds.at(-1)], ["s", 0.01, 81.92]);
});

Deno.test("the sandbox needs nothing for the collector", async () => {
  await using otlp = new OtlpReceiver();
  await using daemon = await startDaemon({ env: otlp.env, permissions: ["--allow-net=127.0.0.1:0"] });
  using client = daemon.handOff();
  await client.readAll();
  const { attributes, name } = await oneSpan(daemon, otlp);
  assert.deepEqual([name, attributes["gen_ai.provider.name"]], ["chat gpt-4o", "mock"]);
});

Deno.test("nobody asked for it: nothing is sent", async () => {
  await using otlp = new OtlpReceiver();
  await using daemon = await startDaemon({ env: { ...otlp.env, OTEL_DENO: undefined } });
  using client = daemon.handOff({ traceparent: `00-${TRACE}-${SPAN}-01` });
  assert.match(await client.readAll(), /\[DONE\]/);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert.equal(otlp.requests, 0);
});

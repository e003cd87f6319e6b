/** server.heartbeat_secs and server.max_stream_secs, over the real daemon and the stand-in provider. */
import assert from "node:assert/strict";
import { mockLlm } from "../support/mock_llm.ts";
import { answer, HELLO, openaiDaemon } from "../support/openai_daemon.ts";
import { ask, openaiBackend, startSite } from "../support/several_backends.ts";
import { errorEvent, plainResponse, STREAM_HEAD } from "../support/wire.ts";

const TOO_LONG = "The answer took longer than is allowed";

/** An answer without its signs of life, and how many there were. */
function without(answer: string): [string, number] {
  const plain = answer.replaceAll(/(?<=\n\r?\n):\n\n/g, "");
  return [plain, (answer.length - plain.length) / ":\n\n".length];
}

Deno.test("signs of life", async (t) => {
  await using mock = await mockLlm({ protocol: "h1", delayMs: 50 });
  await using site = await startSite(
    'backend.selectable = ["patient", "second", "half"]\n' +
      openaiBackend("patient", mock, "timeout_secs = 10") +
      openaiBackend("second", mock, "timeout_secs = 1") + openaiBackend("half", mock, "timeout_secs = 0.5"),
    { DAEMON_HEARTBEAT_SECS: "0.1" },
  );
  await t.step(
    "a provider that is slow to begin: signs of life, then the answer, nothing else changed",
    async () => {
      const got = await ask(site, { backend: "patient", test_pattern: "slow-head-500" });
      assert(got.startsWith(`${STREAM_HEAD}:\n\n`), got);
      assert.equal(without(got)[0], HELLO);
    },
  );
  await t.step(
    "a provider that thinks for long: signs of life meanwhile, and its time-out does not come",
    async () => {
      const [plain, signs] = without(await ask(site, { backend: "second", test_pattern: "think-40" }));
      assert.equal(plain, `${STREAM_HEAD}data: {"content":"word0 "}\n\ndata: [DONE]\n\n`);
      assert(signs >= 3, `${signs} signs of life in two seconds`);
    },
  );
  await t.step("a provider that fails after a sign of life: in the stream", async () => {
    const got = await ask(site, { backend: "half", test_pattern: "stall-head" });
    assert.match(got.slice(STREAM_HEAD.length), /^(:\n\n)+data: {"error":"Backend timeout"}\n\n$/);
  });
});

Deno.test("without heartbeat_secs a silence is silent, and a failure before the head has its status", async () => {
  await using both = await openaiDaemon("h1", { env: { DAEMON_BACKEND_TIMEOUT_SECS: "1" } });
  assert.equal(await answer(both.daemon, "slow-head-500"), HELLO);
  assert.equal(await answer(both.daemon, "stall-head"), plainResponse(504, "Backend timeout"));
});

Deno.test("max_stream_secs", async (t) => {
  await using mock = await mockLlm({ protocol: "h1" });
  await using site = await startSite('backend.selectable = ["a"]\n' + openaiBackend("a", mock), {
    DAEMON_MAX_STREAM_SECS: "0.5",
    DAEMON_TOKEN_DELAY_MS: "3600000",
  });
  const { daemon } = site;
  await t.step("a stream ends at max_stream_secs, and says so", async () => {
    using client = daemon.handOff();
    const startMs = performance.now();
    assert.equal(
      await client.readAll(),
      `${STREAM_HEAD}data: {"content":"Hello! "}\n\n${errorEvent(TOO_LONG)}`,
    );
    assert(performance.now() - startMs >= 495);
    assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "max_stream" }), 1);
    assert.equal((await daemon.logged("Stream ended early")).fields["reason"], "max_stream");
  });
  await t.step(
    "at max_stream_secs the provider's answer is given up; before the head it is a 504",
    async () => {
      const got = await ask(site, { backend: "a", test_pattern: "stall-head" });
      assert.equal(got, plainResponse(504, TOO_LONG));
      await mock.resets(1);
    },
  );
});

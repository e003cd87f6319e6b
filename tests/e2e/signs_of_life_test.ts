/** server.heartbeat_secs and server.max_stream_secs, over the real daemon and the stand-in provider. */
import assert from "node:assert/strict";
import { startDaemon } from "../support/daemon.ts";
import { answer, HELLO, openaiDaemon } from "../support/openai_daemon.ts";
import { errorEvent, plainResponse, STREAM_HEAD } from "../support/wire.ts";

const HEARTBEAT = { DAEMON_HEARTBEAT_SECS: "0.1" };
const TOO_LONG = "The answer took longer than is allowed";

/** An answer without its signs of life, and how many there were. */
function without(answer: string): [string, number] {
  const plain = answer.replaceAll(/(?<=\n\r?\n):\n\n/g, "");
  return [plain, (answer.length - plain.length) / ":\n\n".length];
}

Deno.test("a provider that is slow to begin: signs of life, then the answer, nothing else changed", async () => {
  await using both = await openaiDaemon("h1", { env: HEARTBEAT });
  const got = await answer(both.daemon, "slow-head-500");
  assert(got.startsWith(`${STREAM_HEAD}:\n\n`), got);
  assert.equal(without(got)[0], HELLO);
});

Deno.test("a provider that thinks for long: signs of life meanwhile, and its time-out does not come", async () => {
  await using both = await openaiDaemon("h1", {
    env: { ...HEARTBEAT, DAEMON_BACKEND_TIMEOUT_SECS: "1" },
    mock: { delayMs: 50 },
  });
  const [plain, signs] = without(await answer(both.daemon, "think-40"));
  assert.equal(plain, `${STREAM_HEAD}data: {"content":"word0 "}\n\ndata: [DONE]\n\n`);
  assert(signs >= 3, `${signs} signs of life in two seconds`);
});

Deno.test("a provider that fails after a sign of life: in the stream", async () => {
  await using both = await openaiDaemon("h1", { env: { ...HEARTBEAT, DAEMON_BACKEND_TIMEOUT_SECS: "0.5" } });
  const got = await answer(both.daemon, "stall-head");
  assert.match(got.slice(STREAM_HEAD.length), /^(:\n\n)+data: {"error":"Backend timeout"}\n\n$/);
});

Deno.test("without heartbeat_secs a silence is silent, and a failure before the head has its status", async () => {
  await using both = await openaiDaemon("h1", { env: { DAEMON_BACKEND_TIMEOUT_SECS: "1" } });
  assert.equal(await answer(both.daemon, "slow-head-500"), HELLO);
  assert.equal(await answer(both.daemon, "stall-head"), plainResponse(504, "Backend timeout"));
});

Deno.test("a stream ends at max_stream_secs, and says so", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_MAX_STREAM_SECS: "0.5", DAEMON_TOKEN_DELAY_MS: "3600000" },
  });
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

Deno.test("at max_stream_secs the provider's answer is given up; before the head it is a 504", async () => {
  await using both = await openaiDaemon("h1", { env: { DAEMON_MAX_STREAM_SECS: "0.5" } });
  assert.equal(await answer(both.daemon, "stall-head"), plainResponse(504, TOO_LONG));
  await both.mock.resets(1);
});

/**
 * Senders that close right after their message, as Apache's module does. What they sent can be there although
 * recvmsg(2) has just said that nothing is; that is rare (some in a million), so `deno task bench handoffs` plays
 * a million of them.
 */
import assert from "node:assert/strict";
import { knock } from "../support/loadgen.ts";
import { daemonTest } from "../support/with_daemon.ts";

const setup = { env: { DAEMON_TOKEN_DELAY_MS: "0" } };
daemonTest("no handoff is lost whose sender closes at once", setup, async (daemon) => {
  const { knocks, answers, failed } = await knock(daemon, "good", { most: 50_000, timeMs: 8000, hold: 64 });
  assert.deepEqual([answers, failed], [{ 200: knocks }, {}]);
  assert(knocks > 1000, `only ${knocks} handoffs`);
  assert.equal(await daemon.metric("daemon_handoffs_received"), knocks);
  assert.equal(await daemon.metric("daemon_handoffs_failed", { reason: "no_fd" }), 0);
});

/** Streams that run keep their pace, and every newcomer has an answer, whatever knocks and however fast. */
import assert from "node:assert/strict";
import { daemonTest, streamsActive } from "../support/with_daemon.ts";
import { follow, knock, type KnockKind } from "../support/loadgen.ts";

const STREAMS = 50;
const EVENTS = 18;
const setup = { env: { DAEMON_TOKEN_DELAY_MS: "150" } };
const KNOCKING_MS = 2000;
/** Asked for are 150 ms; the machine's cores are shared with who knocks. A stall lasts as long as the knocking. */
const LONGEST_GAP_MS = 1000;

const KINDS: readonly (readonly [KnockKind, says: string, answers: readonly string[]])[] = [
  ["good", "handoffs", ["200"]],
  ["garbage", "handoffs whose data is no JSON", ["400"]],
  ["gone", "handoffs whose client has left", []],
  ["no-fd", "messages without a client", []],
];
for (const [kind, says, answers] of KINDS) {
  daemonTest(`as many ${says} as a sender can make do not stall streams`, setup, async (daemon) => {
    await (await daemon.page("/healthz")).text(); // its connection stays open
    const fds = daemon.openFds();
    const following = follow(daemon, STREAMS);
    await streamsActive(daemon, STREAMS);
    const knocked = await knock(daemon, kind, { hold: 12_000, timeMs: KNOCKING_MS });
    const { streams, gap } = await following;
    assert.deepEqual([streams.complete, gap.count], [STREAMS, STREAMS * (EVENTS - 1)]);
    assert.deepEqual(Object.keys(knocked.answers), answers);
    assert.deepEqual(knocked.failed, {});
    assert(knocked.knocks > 1000, `only ${knocked.knocks} knocks`);
    assert(gap.max_ms < LONGEST_GAP_MS, `a gap of ${gap.max_ms} ms at ${knocked.per_sec} a second`);
    await daemon.fdsBackTo(fds);
  });
}

daemonTest("a sender of a byte and 253 fds, again and again, is cut off and holds nobody up", {
  env: { DAEMON_TOKEN_DELAY_MS: "20" },
}, async (daemon) => {
  await (await daemon.page("/healthz")).text();
  const fds = daemon.openFds();
  let over = false;
  const how = { type: "stream", timeMs: KNOCKING_MS } as const;
  const knocking = knock(daemon, "trickle", how).finally(() => void (over = true));
  let longestMs = 0;
  let served = 0;
  while (!over) {
    const began = performance.now();
    using client = daemon.handOff();
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
    longestMs = Math.max(longestMs, performance.now() - began);
    served++;
  }
  const { knocks, failed } = await knocking;
  const cut = (failed["Broken pipe"] ?? 0) + (failed["Connection reset by peer"] ?? 0);
  assert(cut > 0, `${knocks} messages went out and were never cut off`);
  assert(served > 0 && longestMs < 1000, `${served} served, one of them took ${longestMs} ms`);
  await daemon.fdsBackTo(fds);
});

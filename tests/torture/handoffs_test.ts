/** Hostile handoffs, as many as a sender can make, up to a hundred thousand of a kind. */
import assert from "node:assert/strict";
import type { SocketKind } from "../../src/native/acceptor.ts";
import { knock, type KnockKind } from "../support/loadgen.ts";
import { daemonTest } from "../support/with_daemon.ts";
import { ATTACK_SECS, GROWTH_MIB, SETUP, underAttack } from "./under_attack.ts";

const MOST = 100_000;

/** What a kind is counted as, and what its clients are told. */
interface Kind {
  readonly kind: KnockKind;
  readonly type?: SocketKind;
  readonly counted: readonly [name: string, labels?: string];
  readonly told?: readonly string[];
  readonly growthMib?: number;
}

const failed = (reason: string) => ["daemon_handoffs_failed", `reason="${reason}"`] as const;
const KINDS: readonly Kind[] = [
  // 8,000 streams within a second: V8's room for what they throw away, 47 to 101 MiB as it was measured.
  { kind: "good", counted: ["daemon_handoffs_received"], told: ["200"], growthMib: 128 },
  { kind: "gone", counted: ["daemon_handoffs_received"] },
  { kind: "garbage", counted: failed("bad_request"), told: ["400"] },
  { kind: "oversized", counted: failed("payload_truncated"), told: ["413"] },
  { kind: "two-fds", counted: failed("many_fds"), told: ["closed without a word"] },
  { kind: "no-fd", counted: failed("no_fd") },
  { kind: "no-socket", counted: failed("not_a_socket") },
  { kind: "datagram", counted: failed("not_stream") },
  { kind: "listener", counted: failed("listening") },
];

for (
  const { kind, type = "seqpacket", counted: [name, labels], told = [], growthMib = GROWTH_MIB } of KINDS
) {
  daemonTest(`handoffs: ${kind}`, SETUP, async (daemon) => {
    const { outcome, counted } = await underAttack(
      daemon,
      () => knock(daemon, kind, { type, timeMs: ATTACK_SECS * 1000, most: MOST, hold: 8000 }),
      { growthMib },
    );
    assert.deepEqual([Object.keys(outcome.answers), outcome.failed], [told, {}]);
    assert.equal(counted(name, labels), outcome.knocks);
  });
}

const { uid } = Deno.statSync("/proc/self");
if (uid === 0) { // nobody else can send as somebody else
  const setup = { env: { ...SETUP.env, DAEMON_ALLOWED_UIDS: `${uid}`, DAEMON_SOCKET_MODE: "0o666" } };
  daemonTest("handoffs: a user who may not", setup, async (daemon) => {
    await Deno.chmod(daemon.folder, 0o711);
    const { outcome, counted } = await underAttack(
      daemon,
      () => knock(daemon, "stranger", { timeMs: ATTACK_SECS * 1000, most: MOST, hold: 8000 }),
    );
    assert.deepEqual([Object.keys(outcome.answers), outcome.failed], [["503"], {}]);
    assert.equal(counted(...failed("uid_not_allowed")), outcome.knocks);
  });
}

daemonTest("handoffs: senders that connect and say nothing", SETUP, async (daemon) => {
  const { outcome, counted } = await underAttack(
    daemon,
    () => knock(daemon, "silent", { timeMs: ATTACK_SECS * 1000, most: MOST, hold: 2000 }),
  );
  assert.deepEqual(outcome.failed, {});
  assert.equal(counted("daemon_handoffs_failed"), outcome.knocks);
  assert.equal(
    counted(...failed("timeout")) + counted(...failed("no_fd")),
    outcome.knocks,
  );
});

daemonTest("handoffs: a byte and 253 descriptors, again and again", SETUP, async (daemon) => {
  const { outcome, counted } = await underAttack(
    daemon,
    () => knock(daemon, "trickle", { type: "stream", timeMs: ATTACK_SECS * 1000 }),
  );
  const cut = Object.values(outcome.failed).reduce((sum, count) => sum + count, 0);
  assert(cut > 0, `${outcome.knocks} messages went out and were never cut off`);
  assert.equal(counted(...failed("many_fds")), cut);
});

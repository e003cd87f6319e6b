// deno-lint-ignore-file no-console -- the figures are what one wants to see of an attack
/**
 * An attack on a daemon that has others to serve. Those have their whole answers, at their pace; afterwards the
 * daemon's descriptors and its memory are as they were.
 * @module
 */
import assert from "node:assert/strict";
import type { TestDaemon } from "../support/daemon.ts";
import { follow, type Followed } from "../support/loadgen.ts";
import { parsePage } from "../support/metrics.ts";
import { streamsActive } from "../support/with_daemon.ts";

/** How long one attack lasts; `TORTURE_SECS` of the environment. */
export const ATTACK_SECS = Number(Deno.env.get("TORTURE_SECS") ?? 2);
/** The pace of the streams that are served meanwhile. */
export const DELAY_MS = 100;
const EVENTS = 18;
/** New streams each second, so that as many as last so long are under way. */
const GOOD_PER_SEC = 25;
/** How much longer than {@linkcode DELAY_MS} good streams may wait for an event, at the 99th percentile. */
const LATE_MS = 10;
/** What pauses the machine is late in one attack, what the daemon does in each: it is in time in one of so many. */
const TRIES = 3;
/** None waits longer than that for an event in any of them; a stall lasts as long as the attack. */
const LONGEST_GAP_MS = 1500;
/** What a heap may grow by at its first attack; what leaks a kilobyte a handoff is far above. */
export const GROWTH_MIB = 96;

/** A daemon of two workers, which says what it has to say on standard error as always. */
export const SETUP = {
  env: { DAEMON_WORKERS: "2", DAEMON_TOKEN_DELAY_MS: `${DELAY_MS}`, DAEMON_HANDOFF_TIMEOUT_SECS: "1" },
};

/** The sum of a metric's series that match, before and after: what an attack was counted as. */
export type Counts = (name: string, labels?: string) => number;

/** What an attack came to, and what the daemon counted without the good streams. */
interface Attacked<Outcome> {
  readonly outcome: Outcome;
  readonly counted: Counts;
}

/** What an attack may do to the daemon. */
interface Allowed {
  /** What its memory may grow by. */
  readonly growthMib?: number;
  /** How late good streams may be at the 99th percentile; `Infinity` where the attack stops what serves them. */
  readonly lateMs?: number;
}

/** Attacks a daemon, once more where its good streams were late. */
export async function underAttack<Outcome>(
  daemon: TestDaemon,
  attack: () => Promise<Outcome>,
  { growthMib = GROWTH_MIB, lateMs = LATE_MS }: Allowed = {},
): Promise<Attacked<Outcome>> {
  const p99s: number[] = [];
  while (p99s.length < TRIES) {
    const { gap, ...attacked } = await attackOnce(daemon, attack, growthMib);
    if (gap.p99_ms <= DELAY_MS + lateMs) return attacked;
    p99s.push(gap.p99_ms);
  }
  throw new Error(`good streams waited ${p99s.join(", ")} ms for an event at p99 in place of ${DELAY_MS}`);
}

async function attackOnce<Outcome>(
  daemon: TestDaemon,
  attack: () => Promise<Outcome>,
  growthMib: number,
): Promise<Attacked<Outcome> & Pick<Followed, "gap">> {
  const good = GOOD_PER_SEC * ATTACK_SECS;
  const before = await counts(daemon);
  const asBefore = holdings(daemon);
  const following = follow(daemon, good, { ratePerSec: GOOD_PER_SEC, limitSecs: ATTACK_SECS + 60 });
  await daemon.until("good streams", async () => await daemon.metric("daemon_streams_active") > 0);
  const outcome = await attack();
  const { streams, gap } = await following;
  await streamsActive(daemon, 0);
  // Connections to a provider are kept for those who come.
  const upstream = await daemon.metric("daemon_upstream_connections");
  areWhole({ streams, gap }, good);
  await asBefore({ moreFds: upstream, growthMib });
  const after = await counts(daemon);
  const ofGood: Readonly<Record<string, number>> = {
    daemon_handoffs_received: good,
    daemon_connections_total: good,
  };
  return {
    outcome,
    gap,
    counted: (name, labels) => after(name, labels) - before(name, labels) - (ofGood[name] ?? 0),
  };
}

/** Good streams that were followed: each had all its events, and none was stalled. */
export function areWhole({ streams, gap }: Followed, good: number): void {
  console.log(
    `good streams: ${streams.complete} of ${good} whole, gap p99 ${gap.p99_ms}, most ${gap.max_ms} ms (asked ${DELAY_MS})`,
  );
  assert.deepEqual([streams.complete, gap.count], [good, good * (EVENTS - 1)]);
  assert(gap.max_ms < LONGEST_GAP_MS, `a good stream waited ${gap.max_ms} ms for an event`);
}

/**
 * Notes a daemon's descriptors and memory.
 *
 * @returns what fails unless they come to be as they were, but for so many descriptors and so much memory
 */
export function holdings(
  daemon: TestDaemon,
): (but?: { readonly moreFds?: number; readonly growthMib?: number }) => Promise<void> {
  const fds = daemon.openFds();
  const rssMib = residentMib(daemon.pid);
  return async ({ moreFds = 0, growthMib = GROWTH_MIB } = {}) => {
    await daemon.fdsBackTo(fds + moreFds);
    const grownMib = residentMib(daemon.pid) - rssMib;
    console.log(`memory ${rssMib} ${grownMib < 0 ? "−" : "+"} ${Math.abs(grownMib)} MiB`);
    assert(grownMib < growthMib, `memory grew by ${grownMib} MiB`);
  };
}

/** Does something again and again, once at least, until an attack's time is over. Returns how often. */
export async function again(act: () => Promise<void>, most = Infinity): Promise<number> {
  const endMs = performance.now() + ATTACK_SECS * 1000;
  let times = 0;
  do {
    await act();
    times++;
  } while (performance.now() < endMs && times < most);
  return times;
}

async function counts(daemon: TestDaemon): Promise<Counts> {
  const families = parsePage(await (await daemon.page("/metrics")).text());
  return (name, labels = "") => {
    let sum = 0;
    for (const [series, value] of families.get(name)?.series ?? []) if (series.includes(labels)) sum += value;
    return sum;
  };
}

function residentMib(pid: number): number {
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))?.[1];
  return Math.round(Number(kib) / 1024);
}

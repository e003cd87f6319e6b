/**
 * The load generator of `bench/loadgen`, for what a test cannot do fast enough itself: handoffs by the ten thousand,
 * and clients whose times are taken while that happens.
 * @module
 */
import type { SocketKind } from "../../src/native/acceptor.ts";
import type { TestDaemon } from "./daemon.ts";

const ROOT = new URL("../..", import.meta.url);
const PROGRAM = new URL("target/release/loadgen", ROOT);

/** What knocks: `loadgen knock --kind`. */
export type KnockKind =
  | "good"
  | "gone"
  | "garbage"
  | "oversized"
  | "two-fds"
  | "no-fd"
  | "no-socket"
  | "datagram"
  | "listener"
  | "stranger"
  | "silent"
  | "trickle";

/** How it knocks. Where nothing else is said: as fast as it can, for two seconds, on the SEQPACKET socket. */
export interface Knocking {
  readonly type?: SocketKind;
  readonly ratePerSec?: number;
  readonly timeMs?: number;
  /** No more than so many in all. */
  readonly most?: number;
  /** How many clients may wait for an answer at the same time. */
  readonly hold?: number;
}

/** What came of it. */
export interface Knocked {
  readonly knocks: number;
  readonly per_sec: number;
  /** How many clients were told which status, or how they were not told any. */
  readonly answers: Readonly<Record<string, number>>;
  /** How many knocks did not get through, and why. */
  readonly failed: Readonly<Record<string, number>>;
}

/** Knocks at the daemon, and settles when every client has been told or has waited for ten seconds. */
export async function knock(daemon: TestDaemon, kind: KnockKind, how: Knocking = {}): Promise<Knocked> {
  const { type = "seqpacket", ratePerSec = 100_000, timeMs = 2000, most, hold = 4096 } = how;
  return JSON.parse(
    await run([
      "knock",
      ...["--socket", daemon.pathOf(type), "--type", type, "--kind", kind, "--json", "-"],
      ...["--rate", `${ratePerSec}`, "--time-ms", `${timeMs}`, "--hold", `${hold}`],
      ...(most === undefined ? [] : ["--most", `${most}`]),
    ]),
  );
}

/** What came of streams that were followed. */
export interface Followed {
  readonly streams: {
    readonly complete: number;
    readonly reasons: Readonly<Record<string, number>>;
  };
  /** Of one client, from one event to the next. */
  readonly gap: { readonly count: number; readonly p99_ms: number; readonly max_ms: number };
}

/** Follows `clients` streams from their handoff to their end. */
export async function follow(
  daemon: TestDaemon,
  clients: number,
  { ratePerSec = 2000, limitSecs = 30 } = {},
): Promise<Followed> {
  return JSON.parse(
    await run([
      "run",
      ...["--socket", daemon.socketPath, "--clients", `${clients}`, "--rate", `${ratePerSec}`],
      ...["--time-limit-secs", `${limitSecs}`, "--settle-secs", "0", "--after-secs", "0", "--json", "-"],
    ]),
  );
}

/** Cargo sees to it that nothing is done twice. */
async function build(): Promise<void> {
  const { success, stderr } = await new Deno.Command("cargo", {
    args: ["build", "--release", "--locked", "--quiet", "--package", "loadgen"],
    cwd: ROOT,
    stdout: "null",
    stderr: "piped",
  }).output();
  if (!success) throw new Error(`cargo build: ${new TextDecoder().decode(stderr)}`);
}

// Before any test begins, whose time it would take.
await build();

async function run(args: readonly string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(PROGRAM, { args: [...args] }).output();
  if (!success) throw new Error(`loadgen ${args.join(" ")}: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

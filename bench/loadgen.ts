/**
 * Calls the load generator's program. It starts the daemons itself and stops them at its end, whatever that is.
 * @module
 */
import type { Step } from "./profiles.ts";
import type { Report } from "./report.ts";

const PROGRAM = "target/release/loadgen";

/** The daemon under test. */
export interface Contender {
  /** Where it takes handoffs. */
  readonly socket: string;
  /** A line for sh(1) that starts it, or the processes that run already. */
  readonly daemon: { readonly command: string } | { readonly pids: readonly number[] };
  /** For the command. */
  readonly env: Readonly<Record<string, string>>;
  /** Where its output goes. */
  readonly log: string;
}

interface RunOptions {
  readonly signal: AbortSignal;
  readonly env?: Readonly<Record<string, string>>;
}

/** Builds these packages of the cargo workspace. */
export async function build(packages: readonly string[], signal: AbortSignal): Promise<void> {
  const args = [
    "build",
    "--release",
    "--locked",
    "--quiet",
    ...packages.flatMap((name) => ["--package", name]),
  ];
  await run("cargo", args, { signal });
}

/** One answer of the contender as a plan for the floor, how many events it has, and at which interval each send is. */
export async function probe(
  contender: Contender,
  intervalMs: number,
  signal: AbortSignal,
): Promise<{ plan: string; events: number; rhythm: string }> {
  const args = ["probe", ...daemonArgs(contender), "--interval-ms", String(intervalMs)];
  const plan = await run(PROGRAM, args, { signal, env: contender.env });
  const { sends } = JSON.parse(plan) as { sends: { slot: number; text: string }[] };
  const answer = sends.map((send) => send.text).join("");
  const rhythm = sends.map((send) => send.slot).join(" ");
  // Every event of the contract is one data line.
  return { plan, events: answer.match(/^data:/gm)?.length ?? 0, rhythm };
}

/** The floor that plays `planPath` at `socket`. */
export function floorCommand(
  { socket, planPath, intervalMs, wakeMs }: {
    readonly socket: string;
    readonly planPath: string;
    readonly intervalMs: number;
    /** It wakes at multiples of this. */
    readonly wakeMs: number;
  },
): string {
  const flags = ["--socket", quote(socket), "--plan", quote(planPath)];
  return [PROGRAM, "floor", ...flags, "--interval-ms", intervalMs, "--wake-ms", wakeMs].join(" ");
}

/** What a measurement takes besides the step. */
export interface Pace {
  /** In each answer, `[DONE]` included. */
  readonly events: number;
  readonly settleSecs: number;
  /** Memory is looked at again so long after the last client has gone. */
  readonly restSecs: number;
  /** The handoff's data of every client; none: a prompt. */
  readonly payload?: string | undefined;
  /** A line for sh(1) that runs from when every client is being served. */
  readonly beside?: string;
}

/** Plays one step and measures. */
export async function measure(
  contender: Contender,
  step: Step,
  { events, settleSecs, restSecs, payload, beside }: Pace,
  signal: AbortSignal,
): Promise<Report> {
  const secs = step.clients / step.ratePerSec + (events * step.intervalMs) / 1000;
  const flags = {
    clients: step.clients,
    rate: step.ratePerSec,
    "interval-ms": step.intervalMs,
    processes: step.players,
    "expect-events": events,
    "settle-secs": settleSecs,
    "after-secs": restSecs,
    // Twice what it takes if nobody is late, so that a daemon that stalls is found out and not waited for.
    "time-limit-secs": Math.ceil(2 * secs) + 5,
    instances: step.instances,
    payload,
    beside,
  };
  return await play(daemonArgs(contender), flags, { signal, env: contender.env });
}

/** Plays clients against a daemon, with these flags. */
export async function play(
  daemon: readonly string[],
  flags: Readonly<Record<string, string | number | undefined>>,
  options: RunOptions,
): Promise<Report> {
  const given = Object.entries(flags).filter(([, value]) => value !== undefined);
  const args = given.flatMap(([flag, value]) => [`--${flag}`, String(value)]);
  return JSON.parse(await run(PROGRAM, ["run", ...daemon, ...args, "--json", "-"], options)) as Report;
}

/** Knocks with these flags; the JSON of what came of it. */
export function knock(contender: Contender, flags: readonly string[], signal: AbortSignal): Promise<string> {
  const args = ["knock", ...daemonArgs(contender), ...flags, "--json", "-"];
  return run(PROGRAM, args, { signal, env: contender.env });
}

/** The JSON of what the daemon costs that has nothing to do. */
export function idle(contender: Contender, signal: AbortSignal): Promise<string> {
  return run(PROGRAM, ["idle", ...daemonArgs(contender)], { signal, env: contender.env });
}

function daemonArgs({ socket, daemon, log }: Contender): string[] {
  const args = ["--socket", socket];
  if ("command" in daemon) {
    return [...args, "--command", daemon.command, "--daemon-log", log];
  }
  return [...args, ...daemon.pids.flatMap((pid) => ["--daemon-pid", String(pid)])];
}

/** One word for sh(1). */
export function quote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

async function run(program: string, args: string[], options: RunOptions): Promise<string> {
  const command = new Deno.Command(program, { args, stdin: "null", stderr: "inherit", ...options });
  const { success, code, signal, stdout } = await command.output();
  options.signal.throwIfAborted();
  if (!success) {
    throw new Error(`${program} ${args[0]} ended with ${signal ?? `code ${code}`}`);
  }
  return new TextDecoder().decode(stdout);
}

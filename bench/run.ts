/**
 * `deno task bench`: runs profiles on the daemon and on the floor, in turns, and prints tables.
 * @module
 */
import { parseArgs } from "node:util";
import { build, type Contender, floorCommand, measure, probe, quote } from "./loadgen.ts";
import { machine } from "./machine.ts";
import { type Profile, PROFILES, type Step } from "./profiles.ts";
import { withProvider } from "./provider.ts";
import { faultLines, markdown, type Report, type StepResult } from "./report.ts";

const HELP = `deno task bench [OPTIONS] [PROFILE…]

Profiles: ${PROFILES.map((p) => p.name).join(", ")}; all. Default: quick.

  --command LINE        the daemon, for sh(1) [this one, with the flags of \`deno task start\`]
  --daemon-pid PID      in place of it, processes that run already (may be given more than once)
  --socket PATH         where it takes handoffs [a temporary path, given to it as DAEMON_SOCKET_PATH]
  --rounds N            how often floor and daemon take turns [the profile's]
  --clients N, --rate N, --interval-ms N, --workers N    in place of the profile's
  --after-secs N        from the last client's end to the last look at memory [1]
  --no-floor            the daemon alone
  --provider LINE       the OpenAI profile's provider, for sh(1); {intervalMs} and {port} are filled in
  --json FILE           all figures
`;

const PROBE_INTERVAL_MS = 50;
const out = (text: string): void => void Deno.stdout.writeSync(new TextEncoder().encode(text));
const note = (text: string): void => void Deno.stderr.writeSync(new TextEncoder().encode(text + "\n"));

function readOptions() {
  const text = { type: "string" } as const;
  const { values, positionals } = parseArgs({
    args: Deno.args,
    allowPositionals: true,
    options: {
      help: { type: "boolean", short: "h" },
      command: text,
      "daemon-pid": { type: "string", multiple: true },
      socket: text,
      rounds: text,
      clients: text,
      rate: text,
      "interval-ms": text,
      workers: text,
      "after-secs": text,
      "no-floor": { type: "boolean" },
      provider: text,
      json: text,
    },
  });
  const number = (flag: keyof typeof values): number | undefined => {
    const value = values[flag];
    if (value === undefined) {
      return undefined;
    }
    if (typeof value !== "string" || !/^[1-9]\d{0,6}$/.test(value)) {
      throw new UsageError(`--${flag} ${value}: expected a number of 1 or more`);
    }
    return Number(value);
  };
  const names = positionals.length === 0 ? ["quick"] : positionals;
  const unknown = names.find((name) => name !== "all" && !PROFILES.some((p) => p.name === name));
  if (unknown !== undefined) {
    throw new UsageError(
      `${unknown} is not a profile; expected ${PROFILES.map((p) => p.name).join(", ")} or all`,
    );
  }
  const pids = values["daemon-pid"]?.map(Number) ?? [];
  if (pids.length > 0 && (values.command !== undefined || values.socket === undefined)) {
    throw new UsageError("--daemon-pid needs --socket and excludes --command");
  }
  return {
    help: values.help === true,
    command: values.command,
    pids,
    socket: values.socket,
    provider: values.provider,
    json: values.json,
    floor: values["no-floor"] !== true,
    rounds: number("rounds"),
    restSecs: number("after-secs") ?? 1,
    overrides: {
      clients: number("clients"),
      ratePerSec: number("rate"),
      intervalMs: number("interval-ms"),
      workers: number("workers"),
    },
    profiles: PROFILES.filter((p) => names.includes("all") || names.includes(p.name)),
  };
}

class UsageError extends Error {
  override readonly name = "UsageError";
}

type Options = ReturnType<typeof readOptions>;

/** The daemon of this repository, with exactly the permissions of `deno task start`. */
async function ownCommand(netAddress: string | undefined): Promise<string> {
  const { tasks } = JSON.parse(await Deno.readTextFile("deno.json"));
  const start = String(tasks.start.command).replace(/^deno /, `${quote(Deno.execPath())} `);
  return netAddress === undefined ? start : start.replace("--allow-net=", `--allow-net=${netAddress},`);
}

interface Bench {
  readonly options: Options;
  readonly dir: string;
  readonly signal: AbortSignal;
}

async function contender(
  { options, dir }: Bench,
  step: Step,
  provider: { address: string; env: Record<string, string> } | undefined,
): Promise<Contender> {
  const socket = options.socket ?? `${dir}/daemon.sock`;
  const env = {
    DAEMON_SOCKET_PATH: socket,
    DAEMON_TOKEN_DELAY_MS: String(step.intervalMs),
    DAEMON_WORKERS: String(step.workers),
    DAEMON_LOG_LEVEL: "warning",
    // Several processes cannot share the port of the metrics.
    ...(step.instances === undefined ? {} : { DAEMON_METRICS_ENABLED: "false" }),
    ...provider?.env,
  };
  const daemon = options.pids.length > 0
    ? { pids: options.pids }
    : { command: options.command ?? await ownCommand(provider?.address) };
  return { socket, env, daemon, log: `${dir}/daemon.log` };
}

async function runStep(bench: Bench, profile: Profile, step: Step): Promise<StepResult> {
  const { options, dir, signal } = bench;
  const floor: Report[] = [];
  const daemon: Report[] = [];
  const play = async (provider?: { address: string; env: Record<string, string> }): Promise<void> => {
    const ours = await contender(bench, step, provider);
    // One process that runs already keeps its pace; another is asked for short intervals to save time.
    const probeMs = options.pids.length > 0 || provider ? step.intervalMs : PROBE_INTERVAL_MS;
    const alone: Step = { ...step, intervalMs: probeMs };
    const { plan, events } = await probe(
      provider ? ours : await contender(bench, alone, provider),
      probeMs,
      signal,
    );
    const planPath = `${dir}/plan.json`;
    await Deno.writeTextFile(planPath, plan);
    const rounds = options.rounds ?? profile.rounds;
    for (let round = 1; round <= rounds; round++) {
      if (options.floor) {
        note(`${profile.name}, ${step.title}, round ${round} of ${rounds}: floor`);
        const socket = `${dir}/floor-${round}-${step.clients}-${step.intervalMs}-${step.workers}.sock`;
        const command = floorCommand(socket, planPath, step.intervalMs);
        const lowest = { socket, daemon: { command }, env: {}, log: `${dir}/floor.log` };
        floor.push(await measure(lowest, step, { events, settleSecs: 0, restSecs: 0 }, signal));
      }
      note(`${profile.name}, ${step.title}, round ${round} of ${rounds}: daemon`);
      daemon.push(await measure(ours, step, { events, settleSecs: 1, restSecs: options.restSecs }, signal));
    }
  };
  if (profile.provider) {
    await withProvider(options.provider ?? "", step.intervalMs, signal, play);
  } else {
    await play();
  }
  return { step, floor, daemon };
}

async function runProfile(bench: Bench, profile: Profile): Promise<readonly StepResult[]> {
  const results: StepResult[] = [];
  for (const planned of profile.steps) {
    const given = Object.entries(bench.options.overrides).filter(([, value]) => value !== undefined);
    const result = await runStep(bench, profile, { ...planned, ...Object.fromEntries(given) });
    results.push(result);
    const off = Math.max(...result.daemon.map((r) => r.steady_deviation?.p99_ms ?? Infinity));
    if (profile.stopAboveMs !== undefined && off > profile.stopAboveMs) {
      break;
    }
  }
  return results;
}

async function main(): Promise<number> {
  let options: Options;
  try {
    options = readOptions();
  } catch (error) {
    if (error instanceof UsageError || error instanceof TypeError) {
      note(`bench: ${error.message}`);
      return 2;
    }
    throw error;
  }
  if (options.help) {
    out(HELP);
    return 0;
  }
  const stop = new AbortController();
  const onSignal = (): void => stop.abort(new Error("stopped by a signal"));
  Deno.addSignalListener("SIGINT", onSignal);
  Deno.addSignalListener("SIGTERM", onSignal);
  const dir = await Deno.makeTempDir({ prefix: "bench-" });
  try {
    await build(stop.signal);
    const about = await machine();
    out(`${about.date}, ${about.processor}, ${about.cores} cores, ${about.memoryGib} GiB, ${about.kernel}\n`);
    const tables: Record<string, readonly StepResult[]> = {};
    for (const profile of options.profiles) {
      if (profile.provider && options.provider === undefined) {
        note(`${profile.name}: left out, since no --provider is given`);
        continue;
      }
      const results = await runProfile({ options, dir, signal: stop.signal }, profile);
      tables[profile.name] = results;
      out(`\n## ${profile.title}\n\n${markdown(results)}`);
      for (const line of faultLines(results)) {
        out(`- ${line}\n`);
      }
      if (options.json !== undefined) {
        await Deno.writeTextFile(options.json, JSON.stringify({ machine: about, tables }, null, 2) + "\n");
      }
    }
    return 0;
  } catch (error) {
    note(`bench: ${error instanceof Error ? error.message : error}`);
    const log = await Deno.readTextFile(`${dir}/daemon.log`).catch(() => "");
    note(log.split("\n").slice(-20).join("\n"));
    return 1;
  } finally {
    await Deno.remove(dir, { recursive: true });
    Deno.removeSignalListener("SIGINT", onSignal);
    Deno.removeSignalListener("SIGTERM", onSignal);
  }
}

if (import.meta.main) {
  Deno.exitCode = await main();
}

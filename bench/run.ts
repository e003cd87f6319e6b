/**
 * `deno task bench`: runs profiles on the daemon and on the floor, in turns, and prints tables.
 * @module
 */
import { build, type Contender, floorCommand, measure, probe, quote } from "./loadgen.ts";
import { machine } from "./machine.ts";
import { HELP, type Options, readOptions, UsageError } from "./options.ts";
import { changed, type Profile, type Step } from "./profiles.ts";
import { type Provider, withProvider } from "./provider.ts";
import { faultLines, markdown, type Report, type StepResult } from "./report.ts";

const PROBE_INTERVAL_MS = 50;
const OWN_PROVIDER = "target/release/bench-provider --listen 127.0.0.1:{port} --delay-ms {intervalMs}";
const out = (text: string): void => void Deno.stdout.writeSync(new TextEncoder().encode(text));
const note = (text: string): void => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

/** One call of the program. */
interface Bench {
  readonly options: Options;
  /** For sockets, plans and logs. */
  readonly dir: string;
  readonly signal: AbortSignal;
}

/** The daemon of this repository, with exactly the permissions of `deno task start`, and the provider's address. */
async function ownCommand(provider: Provider | undefined): Promise<string> {
  const { tasks } = JSON.parse(await Deno.readTextFile("deno.json")) as {
    tasks: { start: { command: string } };
  };
  const start = tasks.start.command.replace(/^deno /, `${quote(Deno.execPath())} `);
  return provider ? start.replace("--allow-net=", `--allow-net=${provider.address},`) : start;
}

async function contender(bench: Bench, step: Step, provider: Provider | undefined): Promise<Contender> {
  const { options, dir } = bench;
  const socket = options.socket ?? `${dir}/daemon.sock`;
  const env = {
    DAEMON_SOCKET_PATH: socket,
    DAEMON_TOKEN_DELAY_MS: String(step.intervalMs),
    DAEMON_WORKERS: String(step.workers),
    DAEMON_LOG_LEVEL: "error",
    // Several processes cannot share the port of the metrics.
    ...(step.instances === undefined ? {} : { DAEMON_METRICS_ENABLED: "false" }),
    ...provider?.env,
  };
  const daemon = options.pids.length > 0
    ? { pids: options.pids }
    : { command: options.command ?? await ownCommand(provider) };
  return { socket, env, daemon, log: `${dir}/daemon.log` };
}

/** Learns from one answer what the floor has to send: `planPath` is written; returns how many events it has. */
async function learn(
  bench: Bench,
  step: Step,
  provider: Provider | undefined,
  planPath: string,
): Promise<number> {
  // A daemon that is started for this is asked for short pauses, to save time.
  const hasOwnPace = bench.options.pids.length > 0 || provider !== undefined;
  const intervalMs = hasOwnPace ? step.intervalMs : PROBE_INTERVAL_MS;
  const { plan, events } = await probe(
    await contender(bench, { ...step, intervalMs }, provider),
    intervalMs,
    bench.signal,
  );
  await Deno.writeTextFile(planPath, plan);
  return events;
}

/** How one table's steps are run. */
interface Run {
  readonly rounds: number;
  /** What the table's first step has learnt. */
  readonly eventsPerStream: number | undefined;
  readonly provider?: Provider;
}

async function runStep(bench: Bench, step: Step, run: Run): Promise<StepResult> {
  const { options, dir, signal } = bench;
  const { rounds, provider } = run;
  const planPath = `${dir}/plan.json`;
  const events = run.eventsPerStream ?? await learn(bench, step, provider, planPath);
  const socket = `${dir}/floor.sock`;
  const command = floorCommand(socket, planPath, step.intervalMs);
  const lowest: Contender = { socket, daemon: { command }, env: {}, log: `${dir}/floor.log` };
  const ours = await contender(bench, step, provider);
  const floor: Report[] = [];
  const daemon: Report[] = [];
  for (let round = 1; round <= rounds; round++) {
    if (options.floor) {
      note(`${step.title}, round ${round} of ${rounds}: floor`);
      floor.push(await measure(lowest, step, { events, settleSecs: 0, restSecs: 0 }, signal));
    }
    note(`${step.title}, round ${round} of ${rounds}: daemon`);
    daemon.push(await measure(ours, step, { events, settleSecs: 1, restSecs: options.restSecs }, signal));
  }
  return { step, eventsPerStream: events, floor, daemon };
}

async function runProfile(bench: Bench, profile: Profile): Promise<readonly StepResult[]> {
  const { options, signal } = bench;
  const rounds = options.rounds ?? profile.rounds;
  const results: StepResult[] = [];
  for (const planned of profile.steps) {
    const step = changed(planned, options.overrides);
    const run: Run = { rounds, eventsPerStream: results[0]?.eventsPerStream };
    const line = options.provider ?? OWN_PROVIDER;
    const result = profile.provider
      ? await withProvider(
        line,
        step.intervalMs,
        signal,
        (provider) => runStep(bench, step, { ...run, provider }),
      )
      : await runStep(bench, step, run);
    results.push(result);
    // A load that was never served all at once is too much, too.
    const offMs = result.daemon.map(({ steady_deviation: off }) => off?.count ? off.p99_ms : Infinity);
    const worst = Math.max(...offMs);
    if (profile.stopAboveMs !== undefined && worst > profile.stopAboveMs) {
      break;
    }
  }
  return results;
}

async function runAll(bench: Bench): Promise<void> {
  const { options } = bench;
  const needsProvider = options.provider === undefined && options.profiles.some((p) => p.provider);
  await build(["loadgen", ...(needsProvider ? ["bench-provider"] : [])], bench.signal);
  const about = machine();
  out(`${about.date}, ${about.processor}, ${about.cores} cores, ${about.memoryGib} GiB, ${about.kernel}\n`);
  const tables: Record<string, readonly StepResult[]> = {};
  for (const profile of options.profiles) {
    const results = await runProfile(bench, profile);
    tables[profile.name] = results;
    const heading = Object.keys(options.overrides).length === 0
      ? profile.title
      : `${profile.name}, changed by flags`;
    out(
      `\n## ${heading}\n\n${markdown(results)}\n${faultLines(results).map((line) => `- ${line}\n`).join("")}`,
    );
    if (options.json !== undefined) {
      await Deno.writeTextFile(options.json, `${JSON.stringify({ machine: about, tables }, null, 2)}\n`);
    }
  }
}

async function main(): Promise<number> {
  const stop = new AbortController();
  const onSignal = (): void => stop.abort(new Error("stopped by a signal"));
  let dir: string | undefined;
  try {
    const options = readOptions(Deno.args);
    if (options.help) {
      out(HELP);
      return 0;
    }
    Deno.addSignalListener("SIGINT", onSignal);
    Deno.addSignalListener("SIGTERM", onSignal);
    dir = await Deno.makeTempDir({ prefix: "bench-" });
    await runAll({ options, dir, signal: stop.signal });
    return 0;
  } catch (error) {
    note(`bench: ${error instanceof Error ? error.message : error}`);
    if (error instanceof UsageError) {
      return 2;
    }
    note(dir === undefined ? "" : await lastLines(`${dir}/daemon.log`));
    return 1;
  } finally {
    Deno.removeSignalListener("SIGINT", onSignal);
    Deno.removeSignalListener("SIGTERM", onSignal);
    if (dir !== undefined) {
      await Deno.remove(dir, { recursive: true });
    }
  }
}

async function lastLines(path: string): Promise<string> {
  try {
    return (await Deno.readTextFile(path)).split("\n").slice(-20).join("\n");
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return "";
    }
    throw error;
  }
}

if (import.meta.main) {
  Deno.exitCode = await main();
}

/**
 * `deno task bench`: runs profiles on the daemon and on the floor, in turns, and prints tables.
 * @module
 */
import {
  KNOCK_ROWS,
  KNOCK_STEP,
  type KnockResult,
  knockTable,
  measureHandoffs,
  measureKnock,
} from "./knock.ts";
import { build, type Contender, floorCommand, idle, measure, probe, quote } from "./loadgen.ts";
import { machine } from "./machine.ts";
import { HELP, type Options, readOptions, UsageError } from "./options.ts";
import { changedStep, changedSteps, OTHERS, type Profile, type Step } from "./profiles.ts";
import { type Provider, withProvider } from "./provider.ts";
import {
  disturbedLines,
  faultLines,
  type Floor,
  isTooMuch,
  markdown,
  ratioLines,
  type Report,
  type StepResult,
  totalLines,
  workersText,
} from "./report.ts";

const PROBE_INTERVAL_MS = 50;
const OWN_PROVIDER =
  "target/release/bench-provider --listen 127.0.0.1:{port} --delay-ms {intervalMs} --events 18";
const out = (text: string): void => void Deno.stdout.writeSync(new TextEncoder().encode(text));
const note = (text: string): void => void Deno.stderr.writeSync(new TextEncoder().encode(`${text}\n`));

/** One call of the program. */
interface Bench {
  readonly options: Options;
  /** For sockets, plans and logs. */
  readonly dir: string;
  readonly signal: AbortSignal;
  /** The floor's reports, one per round, by load and rhythm: what is the same is measured once. */
  readonly floors: Map<string, Report[]>;
}

/** The daemon of this repository, as `deno task start` runs it. */
const OWN_COMMAND = `sh tools/launch ${quote(Deno.execPath())} main.ts`;

function contender(bench: Bench, step: Step, provider: Provider | undefined): Contender {
  const { options, dir } = bench;
  const socket = options.socket ?? `${dir}/daemon.sock`;
  const env = {
    DAEMON_SOCKET_PATH: socket,
    DAEMON_TOKEN_DELAY_MS: String(step.intervalMs),
    DAEMON_WORKERS: String(step.workers),
    // Several processes cannot share the port of the metrics.
    ...(step.instances === undefined ? {} : { DAEMON_METRICS_ENABLED: "false" }),
    ...provider?.env,
  };
  const daemon = options.pids.length > 0
    ? { pids: options.pids }
    : { command: options.command ?? OWN_COMMAND };
  return { socket, env, daemon, log: `${dir}/daemon.log` };
}

/** What the floor has to send. */
interface Learnt {
  readonly planPath: string;
  /** In each answer, `[DONE]` included. */
  readonly events: number;
  /** Which sends come at which interval. */
  readonly rhythm: string;
}

/** Learns it from one answer to a single client. */
async function learn(bench: Bench, profile: Profile, step: Step): Promise<Learnt> {
  // A daemon or provider that is started for this is asked for short pauses, to save time.
  const intervalMs = bench.options.pids.length > 0 ? step.intervalMs : PROBE_INTERVAL_MS;
  const { plan, events, rhythm } = await besideProvider(
    bench,
    profile,
    intervalMs,
    (provider) => probe(contender(bench, { ...step, intervalMs }, provider), intervalMs, bench.signal),
  );
  const planPath = `${bench.dir}/plan.json`;
  await Deno.writeTextFile(planPath, plan);
  return { planPath, events, rhythm };
}

/** Runs `body` while the provider runs that the profile's backend asks, if it asks one. */
function besideProvider<T>(
  { options, signal }: Bench,
  profile: Profile,
  intervalMs: number,
  body: (provider: Provider | undefined) => Promise<T>,
): Promise<T> {
  const line = options.provider ?? OWN_PROVIDER;
  return profile.provider ? withProvider(line, intervalMs, signal, body) : body(undefined);
}

/** A floor, and what was measured of it so far. */
interface MeasuredFloor extends Floor {
  readonly contender: Contender;
  readonly reports: Report[];
}

function floorOf(bench: Bench, { rhythm, planPath }: Learnt, step: Step, wakeMs: number): MeasuredFloor {
  const { clients, ratePerSec, intervalMs, players, instances } = step;
  const key = JSON.stringify([clients, ratePerSec, intervalMs, players, instances, rhythm, wakeMs]);
  const reports = bench.floors.get(key) ?? [];
  bench.floors.set(key, reports);
  const socket = `${bench.dir}/floor.sock`;
  const command = floorCommand({ socket, planPath, intervalMs, wakeMs });
  return {
    wakeMs,
    reports,
    contender: { socket, daemon: { command }, env: {}, log: `${bench.dir}/floor.log` },
  };
}

function runStep(bench: Bench, profile: Profile, step: Step, learnt: Learnt): Promise<StepResult> {
  const { options, signal } = bench;
  const { events } = learnt;
  const rounds = options.rounds ?? profile.rounds;
  const hasFloor = options.floor && !(profile.floorOnlyAlone && options.profiles.length > 1);
  const wakes = profile.evenFloor ? [FLOOR_WAKE_MS, options.floorWakeMs] : [FLOOR_WAKE_MS];
  const floors = hasFloor ? wakes.map((wakeMs) => floorOf(bench, learnt, step, wakeMs)) : [];
  return besideProvider(bench, profile, step.intervalMs, async (provider) => {
    const ours = contender(bench, step, provider);
    const daemon: Report[] = [];
    // A provider's CPU counts as others'.
    const counted = (measured: () => Promise<Report>) =>
      profile.provider ? measured() : undisturbed(measured);
    for (let round = 1; round <= rounds; round++) {
      for (const { wakeMs, contender, reports } of floors.filter(({ reports }) => reports.length < round)) {
        note(`${step.title}, round ${round} of ${rounds}: floor, each ${wakeMs} ms`);
        reports.push(
          await counted(() => measure(contender, step, { events, settleSecs: 0, restSecs: 0 }, signal)),
        );
      }
      note(`${step.title}, round ${round} of ${rounds}: daemon, ${workersText(step)}`);
      const how = { events, settleSecs: 1, restSecs: options.restSecs, payload: options.payload };
      daemon.push(await counted(() => measure(ours, step, how, signal)));
    }
    const mostOthersPercent = profile.provider ? Infinity : OTHERS_AT_MOST_PERCENT;
    return { step, eventsPerStream: events, floors, daemon, mostOthersPercent };
  });
}

/** The floor wakes for each millisecond in which somebody is due. */
const FLOOR_WAKE_MS = 1;
const OTHERS_AT_MOST_PERCENT = 3;
const TRIES = 3;

/** Measures again where others took too much of the machine; after some tries, the least disturbed one is kept. */
async function undisturbed(measured: () => Promise<Report>): Promise<Report> {
  let best = await measured();
  for (let tries = 1; tries < TRIES && best.others_percent > OTHERS_AT_MOST_PERCENT; tries++) {
    note(`others took ${best.others_percent.toFixed(1)} %: again`);
    const next = await measured();
    if (next.others_percent < best.others_percent) best = next;
  }
  return best;
}

async function runProfile(bench: Bench, profile: Profile): Promise<readonly StepResult[]> {
  const steps = changedSteps(profile, bench.options.overrides);
  const results: StepResult[] = [];
  let learnt: Learnt | undefined;
  for (const step of steps) {
    const fewer = results.filter((result) => result.step.workers === step.workers);
    if (fewer.some((result) => isTooMuch(result, profile.stopAboveMs))) {
      continue;
    }
    learnt ??= await learn(bench, profile, step);
    results.push(await runStep(bench, profile, step, learnt));
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
    const began = Date.now();
    const results = await runProfile(bench, profile);
    note(`${profile.name}: ${Math.round((Date.now() - began) / 1000)} s`);
    tables[profile.name] = results;
    const heading = Object.keys(options.overrides).length === 0
      ? profile.title
      : `${profile.name}, changed by flags`;
    const lines = [
      ...ratioLines(results),
      ...totalLines(results),
      ...disturbedLines(results),
      ...faultLines(results),
    ].map((line) => `- ${line}\n`);
    out(`\n## ${heading}\n\n${markdown(results)}\n${lines.join("")}`);
    if (options.json !== undefined) {
      await Deno.writeTextFile(options.json, `${JSON.stringify({ machine: about, tables }, null, 2)}\n`);
    }
  }
  for (const name of options.others) {
    out(`\n## ${OTHERS[name]}, ${workersText(changedStep(KNOCK_STEP, options.overrides))}\n\n`);
    out(await runOther(bench, name));
  }
}

/** Events of an answer of the mock backend, `[DONE]` included. */
const MOCK_EVENTS = 19;

async function runOther(bench: Bench, name: keyof typeof OTHERS): Promise<string> {
  const { options, dir, signal } = bench;
  const step = changedStep(KNOCK_STEP, options.overrides);
  if (name === "handoffs") {
    const daemon = await contender(
      bench,
      { ...step, intervalMs: options.overrides.intervalMs ?? 0 },
      undefined,
    );
    return await measureHandoffs(daemon, signal);
  }
  const daemon = await contender(bench, step, undefined);
  if (name === "idle") {
    const seen = JSON.parse(await idle(daemon, signal)) as Record<string, number>;
    return Object.entries(seen).map(([what, figure]) => `- ${what}: ${+figure.toFixed(1)}\n`).join("");
  }
  const results: KnockResult[] = [];
  for (const row of KNOCK_ROWS) {
    note(`knock: ${row.title}`);
    results.push(await measureKnock(daemon, row, step, { dir, events: MOCK_EVENTS }, signal));
  }
  return knockTable(results, machine().cores);
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
    await runAll({ options, dir, signal: stop.signal, floors: new Map() });
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

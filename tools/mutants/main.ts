// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * Puts small faults into a copy of the code, one at a time, and tells which of them the tests notice:
 * `deno task mutants [NAME…] [--jobs N]`. A name chooses the faults whose id or file holds it. Ends with 1 if a fault
 * survives that has no explanation, if one does not that has, or if one cannot be tried.
 * @module
 */
import { parseArgs } from "node:util";
import { FAULTS } from "./faults/mod.ts";
import { checksOf, isInShim, type Outcome, type Placed, runWithout, tryFault } from "./trial.ts";
import { Workplace } from "./workplace.ts";

/** Of what a file of tests says that is red without a fault. */
const SHOWN_UNITS = 2000;

function commandLine(): { readonly names: readonly string[]; readonly jobs: number } {
  const { values, positionals } = parseArgs({
    args: Deno.args,
    options: { jobs: { type: "string", default: "1" } },
    allowPositionals: true,
  });
  const jobs = Number(values.jobs);
  if (!Number.isInteger(jobs) || jobs < 1) {
    throw new Error(`--jobs ${values.jobs}: expected how many faults are tried at a time, 1 or more`);
  }
  return { names: positionals, jobs };
}

function chosen(names: readonly string[]): Placed[] {
  const all = FAULTS.flatMap(({ file, faults }) => faults.map((fault): Placed => ({ file, fault })));
  for (const name of names) {
    if (!all.some((placed) => isNamed(placed, name))) {
      throw new Error(
        `${name}: no fault has that in its id or its file; the ids are in tools/mutants/faults/`,
      );
    }
  }
  return names.length === 0 ? all : all.filter((placed) => names.some((name) => isNamed(placed, name)));
}

function isNamed({ file, fault: { id } }: Placed, name: string): boolean {
  return id.includes(name) || file.includes(name);
}

/** Runs the tasks, as many at a time as there are workplaces. */
async function share<Task>(
  tasks: readonly Task[],
  workplaces: readonly Workplace[],
  run: (task: Task, workplace: Workplace) => Promise<void>,
): Promise<void> {
  const left = [...tasks];
  await Promise.all(workplaces.map(async (workplace) => {
    for (let task = left.shift(); task !== undefined; task = left.shift()) await run(task, workplace);
  }));
}

/** Whether it is as it should be. */
function isFine({ result, fault }: Outcome): boolean {
  return result === (fault.survives === undefined ? "killed" : "survived");
}

function line(outcome: Outcome): string {
  const { file, fault: { id, survives }, result, how, secs } = outcome;
  const word = isFine(outcome) ? result : result.toUpperCase();
  const why = survives === undefined ? "" : ` (${survives})`;
  return `${word.padEnd(8)}  ${id.padEnd(44)}  ${file.padEnd(36)}  ${
    secs.toFixed(1).padStart(6)
  } s  ${how}${why}`;
}

async function main(): Promise<number> {
  const { names, jobs } = commandLine();
  const faults = chosen(names);
  const root = new URL("../..", import.meta.url).pathname.replace(/\/$/, "");
  Deno.mkdirSync(`${root}/target/mutants`, { recursive: true });
  using lock = Deno.openSync(`${root}/target/mutants/lock`, { create: true, write: true });
  if (!lock.tryLockSync(true)) throw new Error("target/mutants is in use: another run is under way");
  const workplaces = Array.from({ length: jobs }, (_, index) => new Workplace(root, String(index)));
  for (const workplace of workplaces) await workplace.prepare();

  const checks = new Map(faults.flatMap(({ fault }) => checksOf(fault)).map((check) => [check.name, check]));
  console.log(`${faults.length} faults; first the ${checks.size} files of tests without one`);
  const times = new Map<string, number>();
  await share([...checks.values()], workplaces, async (check, workplace) => {
    const { result, secs, output } = await runWithout(check, workplace);
    if (result === "green") times.set(check.name, secs);
    console.log(`${result.padEnd(8)}  ${check.name.padEnd(44)}  ${secs.toFixed(1).padStart(6)} s`);
    if (result !== "green") console.log(output.slice(-SHOWN_UNITS));
  });

  const outcomes: Outcome[] = [];
  const attempt = async (placed: Placed, workplace: Workplace): Promise<void> => {
    const outcome = await tryFault(placed, workplace, times);
    outcomes.push(outcome);
    console.log(line(outcome));
  };
  // One at a time: cargo uses all cores.
  const [inShim, others] = [faults.filter(isInShim), faults.filter((placed) => !isInShim(placed))];
  await share(others, workplaces, attempt);
  await share(inShim, workplaces.slice(0, 1), attempt);

  const count = (result: Outcome["result"]) => outcomes.filter((outcome) => outcome.result === result).length;
  const explained = outcomes.filter((outcome) => outcome.result === "survived" && isFine(outcome)).length;
  const share100 = (100 * count("killed") / outcomes.length).toFixed(1);
  console.log(
    `${outcomes.length} faults: ${count("killed")} noticed (${share100} %), ${count("survived")} survived, ` +
      `${explained} of them for a reason that is given, ${count("error")} could not be tried`,
  );
  const wrong = outcomes.filter((outcome) => !isFine(outcome));
  if (wrong.length > 0) console.log(`\nNot as they should be:\n${wrong.map(line).join("\n")}`);
  return wrong.length === 0 ? 0 : 1;
}

try {
  Deno.exit(await main());
} catch (error) {
  console.error(error instanceof Error ? error.message : String(error));
  Deno.exit(2);
}

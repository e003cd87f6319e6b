// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * The suite again and again, every other time beside a busy core, to find tests that need luck:
 * `deno task flakes [TIMES]`. Ends with 1 if a run was red.
 * @module
 */
const TIMES = 20;
const RED_TEST = /^(.*) \.\.\. FAILED/gm;

const times = Number(Deno.args[0] ?? TIMES);
if (!Number.isInteger(times) || times < 1) {
  console.error(`${Deno.args[0]}: expected how often the suite is to run`);
  Deno.exit(2);
}

const folder = Deno.makeTempDirSync({ prefix: "flakes-" });
const redTests = new Map<string, number>();
let redRuns = 0;
for (let run = 1; run <= times; run++) {
  const isBusy = run % 2 === 0;
  const beganMs = performance.now();
  const { success, text } = isBusy ? await besideBusyCore(suite) : await suite();
  const secs = Math.round((performance.now() - beganMs) / 1000);
  const how = `run ${run} of ${times}${isBusy ? ", beside a busy core" : ""}: ${secs} s`;
  if (success) {
    console.log(`${how}, green`);
    continue;
  }
  redRuns++;
  const log = `${folder}/${run}.log`;
  Deno.writeTextFileSync(log, text);
  const names = [...text.matchAll(RED_TEST)].map(([, name]) => name as string);
  for (const name of names) redTests.set(name, (redTests.get(name) ?? 0) + 1);
  console.log(`${how}, RED (${log})${names.map((name) => `\n  ${name}`).join("")}`);
}
console.log(`${times - redRuns} of ${times} runs were green`);
for (const [name, count] of redTests) console.log(`  ${count} × ${name}`);
if (redRuns === 0) Deno.removeSync(folder);
Deno.exit(redRuns === 0 ? 0 : 1);

async function suite(): Promise<{ success: boolean; text: string }> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "test"],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).output();
  return { success, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

async function besideBusyCore<T>(body: () => Promise<T>): Promise<T> {
  const busy = new Deno.Command("sh", { args: ["-c", "while :; do :; done"], stdin: "null" }).spawn();
  try {
    return await body();
  } finally {
    busy.kill();
    await busy.status;
  }
}

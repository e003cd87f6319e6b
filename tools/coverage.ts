// deno-lint-ignore-file no-console -- what a command prints is its output
/**
 * What of TypeScript and Rust the tests reach that need no process of their own, file by file: `deno task coverage`.
 * The Rust libraries count what cargo's tests and those of Deno do in them.
 * @module
 */
const FOLDER = `${Deno.cwd()}/target/coverage`;
/** Cargo keeps here what it has built for the next time. */
const BUILT = `${Deno.cwd()}/target/instrumented`;
/** As in `deno task test`; these use the shim the most, and have one that counts. */
const ALONE = ["tests/native", "tests/worker/worker_test.ts"];
const ROOMS = [
  ...["backend", "bench", "cli", "config", "daemon", "ops"],
  ...["protocol", "store", "timing", "upstream", "worker"],
].map((name) => `tests/${name}`);
const PACKAGES = [
  "--locked",
  "--quiet",
  ...["shim", "border", "tools"].map((name) => `--package=streaming-daemon-${name}`),
];
const CARGO = {
  CARGO_TARGET_DIR: BUILT,
  RUSTFLAGS: "-Cinstrument-coverage",
  // Processes share two files and add up in them; each writes as it ends.
  LLVM_PROFILE_FILE: `${FOLDER}/rust/%2m.profraw`,
};

/** The programs that read what Rust's code has counted. */
interface Llvm {
  readonly profdata: string;
  readonly cov: string;
}

interface Counted {
  readonly count: number;
  readonly covered: number;
}

/** What `llvm-cov export` says of a file. */
interface RustFile {
  readonly filename: string;
  readonly summary: { readonly functions: Counted; readonly lines: Counted };
}

type Environment = Readonly<Record<string, string>>;

const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

/** Runs a program to its end. */
function output(
  program: string,
  args: readonly string[],
  env: Environment = {},
): Promise<Deno.CommandOutput> {
  return new Deno.Command(program, { args: [...args], env: { NO_COLOR: "1", ...env }, stdin: "null" })
    .output();
}

/** What a program says. */
async function said(program: string, args: readonly string[], env?: Environment): Promise<string> {
  const { success, stdout, stderr } = await output(program, args, env);
  if (!success) throw new Error(`${program} ${args[0]} failed:\n${text(stderr)}`);
  return text(stdout);
}

/** Whether tests pass is the gate's affair; what they reach is counted all the same. */
async function test(program: string, args: readonly string[], env?: Environment): Promise<void> {
  const { success, stdout } = await output(program, ["test", ...args], env);
  if (success) return;
  console.log("Not all tests passed; what these did not come to is not counted:");
  for (const [, name] of text(stdout).matchAll(/^(.*) (?:\.\.\.|---) FAILED/gm)) console.log(`  ${name}`);
}

/** They have to be of Rust's own version: rustup has them, and so may have Debian. */
async function findLlvm(): Promise<Llvm | undefined> {
  const libraries = (await said("rustc", ["--print", "target-libdir"])).trim();
  const major = /^LLVM version: (\d+)/m.exec(await said("rustc", ["-vV"]))?.[1];
  for (
    const place of [(name: string) => `${libraries}/../bin/${name}`, (name: string) => `${name}-${major}`]
  ) {
    const llvm = { profdata: place("llvm-profdata"), cov: place("llvm-cov") };
    try {
      await said(llvm.profdata, ["--version"]);
      return llvm;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  console.log(
    `Rust is not counted: \`rustup component add llvm-tools\`, or Debian's llvm-${major}, is missing`,
  );
  return undefined;
}

/** Builds all that is tested. Returns the programs and libraries that count. */
async function build(): Promise<string[]> {
  const lines = await said("cargo", ["test", "--no-run", "--message-format=json", ...PACKAGES], CARGO);
  await said("cargo", ["build", ...PACKAGES], CARGO);
  const built = lines.trim().split("\n").map((line) => JSON.parse(line) as { executable?: string | null });
  return [
    ...built.flatMap(({ executable }) => executable ?? []),
    ...["shim", "tools"].map((name) => `${BUILT}/debug/libstreaming_daemon_${name}.so`),
  ];
}

async function testTypeScript(env: Environment): Promise<void> {
  const flags = [
    "--preload=tests/support/time_limit.ts",
    "--no-check",
    "--frozen",
    "--no-prompt",
    "--allow-all",
  ];
  const counting = [...flags, `--coverage=${FOLDER}/deno`, "--coverage-raw-data-only"];
  await test(Deno.execPath(), [...counting, ...ALONE], env);
  const others = ["--parallel", `--ignore=${ALONE.join()}`, ...ROOMS];
  await test(Deno.execPath(), [...counting, ...others], { DENO_JOBS: "6" });
}

async function tellTypeScript(): Promise<void> {
  console.log(await said(Deno.execPath(), ["coverage", "--include=/src/", `${FOLDER}/deno`]));
}

async function tellRust({ profdata, cov }: Llvm, objects: readonly string[]): Promise<void> {
  const raw = [...Deno.readDirSync(`${FOLDER}/rust`)].map(({ name }) => `${FOLDER}/rust/${name}`);
  await said(profdata, ["merge", "--sparse", ...raw, `--output=${FOLDER}/rust.profdata`]);
  const json = await said(cov, [
    ...["export", "--summary-only", `--instr-profile=${FOLDER}/rust.profdata`],
    ...objects.flatMap((object) => ["--object", object]),
  ]);
  const { files } = (JSON.parse(json) as { data: [{ files: RustFile[] }] }).data[0];
  const root = `${Deno.cwd()}/`;
  // Not the tests themselves, nor what is not ours.
  const ours = files.filter(({ filename }) => filename.startsWith(root) && filename.includes("/src/"));
  const sum = (what: keyof RustFile["summary"]): Counted => ({
    count: ours.reduce((sum, { summary }) => sum + summary[what].count, 0),
    covered: ours.reduce((sum, { summary }) => sum + summary[what].covered, 0),
  });
  const all = { filename: `${root}All files`, summary: { functions: sum("functions"), lines: sum("lines") } };
  console.log(`| ${"File".padEnd(44)} | Function % | Line % |\n| ${"-".repeat(44)} | ---------- | ------ |`);
  for (const { filename, summary } of [...ours, all]) {
    const name = filename.slice(root.length).padEnd(44);
    console.log(`| ${name} | ${percent(summary.functions, 10)} | ${percent(summary.lines, 6)} |`);
  }
}

function percent({ count, covered }: Counted, width: number): string {
  return (count === 0 ? 100 : 100 * covered / count).toFixed(1).padStart(width);
}

Deno.mkdirSync(FOLDER, { recursive: true });
Deno.removeSync(FOLDER, { recursive: true }); // what was counted before
const llvm = await findLlvm();
if (llvm === undefined) {
  await testTypeScript({});
  await tellTypeScript();
} else {
  const objects = await build();
  await test("cargo", ["--no-fail-fast", ...PACKAGES], CARGO);
  const { LLVM_PROFILE_FILE } = CARGO;
  await testTypeScript({ DAEMON_SHIM_PATH: `${BUILT}/debug/libstreaming_daemon_shim.so`, LLVM_PROFILE_FILE });
  await tellTypeScript();
  await tellRust(llvm, objects);
}

/**
 * A copy of the tree in which faults are tried, below `target/`, where it stays: cargo builds there what has changed.
 * @module
 */
import { dirname } from "node:path";

/** What became of a run of tests. */
export interface TestRun {
  /** `broken`: the code could not be read or built. */
  readonly result: "green" | "red" | "late" | "broken";
  readonly secs: number;
  readonly output: string;
}

const LIBRARIES = ["shim", "tools"].map((name) => `target/release/libstreaming_daemon_${name}.so`);
/** Exit code of timeout(1) that has killed with SIGKILL, itself included. */
const KILLED = 137;
const DENO_TEST =
  "test --no-check --frozen --no-prompt --allow-all --sanitize-ops --sanitize-resources --fail-fast"
    .split(" ");

/** See the module. One thing at a time. */
export class Workplace {
  readonly #root: string;
  readonly folder: string;

  /** @param root the repository's folder, without a slash at its end */
  constructor(root: string, name: string) {
    this.#root = root;
    this.folder = `${root}/target/mutants/${name}`;
  }

  /** Makes it a copy of the tree as it is now, what is not committed included. What is the same stays untouched. */
  async prepare(): Promise<void> {
    const listed = await new Deno.Command("git", {
      args: ["ls-files", "-z", "--cached", "--others", "--exclude-standard"],
      cwd: this.#root,
    }).output();
    if (!listed.success) throw new Error(new TextDecoder().decode(listed.stderr));
    const files = new TextDecoder().decode(listed.stdout).split("\0")
      .filter((path) => path !== "" && isFile(`${this.#root}/${path}`));
    const wanted = new Set(files);
    for (const path of filesBelow(this.folder)) {
      if (!wanted.has(path)) Deno.removeSync(`${this.folder}/${path}`);
    }
    for (const path of files) this.#copy(path);
    this.#restoreLibraries();
  }

  #restoreLibraries(): void {
    for (const path of LIBRARIES) this.#copy(path);
  }

  #copy(path: string): void {
    const [from, to] = [`${this.#root}/${path}`, `${this.folder}/${path}`];
    if (isFile(to) && sameBytes(Deno.readFileSync(from), Deno.readFileSync(to))) return;
    Deno.mkdirSync(dirname(to), { recursive: true });
    Deno.copyFileSync(from, to);
  }

  read(path: string): string {
    return Deno.readTextFileSync(`${this.folder}/${path}`);
  }

  write(path: string, text: string): void {
    Deno.writeTextFileSync(`${this.folder}/${path}`, text);
  }

  /** A file as it was, and the libraries that a fault in it may have gone into. */
  restore(path: string): void {
    this.#copy(path);
    this.#restoreLibraries();
  }

  /** Runs one file of `tests/`. */
  async testDeno(file: string, limitSecs: number): Promise<TestRun> {
    const run = await this.#run([Deno.execPath(), ...DENO_TEST, `tests/${file}`], limitSecs);
    const isBroken = run.result === "red" &&
      /could not be parsed|does not provide an export/.test(run.output);
    return isBroken ? { ...run, result: "broken" } : run;
  }

  /** Builds the shim's library anew, for the tests that open it. */
  buildShim(limitSecs: number): Promise<TestRun> {
    return this.#build(["build", "--release", "--package", "streaming-daemon-shim"], limitSecs);
  }

  /** Runs one file of `shim/tests`, or the tests beside the code. */
  async testCargo(name: string, limitSecs: number): Promise<TestRun> {
    const target = name === "lib" ? ["--lib"] : ["--test", name];
    const args = ["test", "--package", "streaming-daemon-shim", ...target];
    const built = await this.#build([...args, "--no-run"], limitSecs);
    return built.result === "green"
      ? await this.#run(["cargo", ...args, "--locked", "--quiet"], limitSecs)
      : built;
  }

  async #build(args: readonly string[], limitSecs: number): Promise<TestRun> {
    const run = await this.#run(["cargo", ...args, "--locked", "--quiet"], limitSecs);
    return run.result === "green" ? run : { ...run, result: "broken" };
  }

  // timeout(1) ends whatever the tests have started as well: it has a process group of its own.
  async #run(command: readonly string[], limitSecs: number): Promise<TestRun> {
    const begunMs = performance.now();
    const { code, stdout, stderr } = await new Deno.Command("timeout", {
      args: ["--signal=KILL", String(Math.ceil(limitSecs)), ...command],
      cwd: this.folder,
      env: { NO_COLOR: "1", RUST_BACKTRACE: "0" },
      stdin: "null",
    }).output();
    const output = new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
    return {
      result: code === 0 ? "green" : code === KILLED ? "late" : "red",
      secs: (performance.now() - begunMs) / 1000,
      output,
    };
  }
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) return false;
    throw error;
  }
}

/** Paths below a folder, without those of what is built. */
function* filesBelow(folder: string, inside = ""): Generator<string> {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(`${folder}/${inside}`)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const { name, isDirectory } of entries) {
    if (inside === "" && name === "target") continue;
    if (isDirectory) yield* filesBelow(folder, `${inside}${name}/`);
    else yield `${inside}${name}`;
  }
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}

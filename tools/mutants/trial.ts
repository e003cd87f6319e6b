/**
 * Whether the tests notice a fault.
 * @module
 */
import { type Fault, withFault } from "./fault.ts";
import type { TestRun, Workplace } from "./workplace.ts";

/** A fault and the file that it is in. */
export interface Placed {
  readonly file: string;
  readonly fault: Fault;
}

/** What became of a fault. */
export interface Outcome extends Placed {
  /** `error`: it could not be tried. */
  readonly result: "killed" | "survived" | "error";
  /** By which tests, or why not. */
  readonly how: string;
  readonly secs: number;
}

/** Limits for a whole file of tests: several times as long as without a fault, since the machine may be busy. */
const LEAST_LIMIT_SECS = 60;
const LIMIT_FACTOR = 4;
const BUILD_LIMIT_SECS = 600;

/** How long each file of tests that is green without a fault takes, in seconds, by its {@linkcode Check.name}. */
export type Times = ReadonlyMap<string, number>;

/** A file of tests. */
export interface Check {
  readonly name: string;
  run(workplace: Workplace, limitSecs: number): Promise<TestRun>;
}

/** The tests that should notice a fault. */
export function checksOf({ tests = [], cargo = [] }: Fault): Check[] {
  return [
    ...cargo.map((name): Check => ({
      name: `cargo ${name}`,
      run: (workplace, limitSecs) => workplace.testCargo(name, limitSecs),
    })),
    ...tests.map((file): Check => ({
      name: file,
      run: (workplace, limitSecs) => workplace.testDeno(file, limitSecs),
    })),
  ];
}

/** Whether a fault is in what cargo builds. */
export function isInShim({ file }: Placed): boolean {
  return file.endsWith(".rs");
}

/** Runs a file of tests without a fault. */
export function runWithout(check: Check, workplace: Workplace): Promise<TestRun> {
  return check.run(workplace, BUILD_LIMIT_SECS);
}

/** Tries one fault. */
export async function tryFault(placed: Placed, workplace: Workplace, times: Times): Promise<Outcome> {
  const begunMs = performance.now();
  const outcome = (result: Outcome["result"], how: string): Outcome => ({
    ...placed,
    result,
    how,
    secs: (performance.now() - begunMs) / 1000,
  });
  const { file, fault } = placed;
  try {
    workplace.write(file, withFault(workplace.read(file), fault, file));
    if (isInShim(placed) && fault.tests !== undefined) {
      const { result, output } = await workplace.buildShim(BUILD_LIMIT_SECS);
      if (result !== "green") return outcome("error", `it does not compile: ${output.slice(-1000)}`);
    }
    const checks = checksOf(fault);
    for (const check of checks) {
      const usualSecs = times.get(check.name);
      if (usualSecs === undefined) return outcome("error", `${check.name} is red without a fault`);
      const limitSecs = Math.max(LEAST_LIMIT_SECS, LIMIT_FACTOR * usualSecs);
      const { result, output } = await check.run(workplace, limitSecs);
      if (result === "broken") return outcome("error", `it does not compile: ${output.slice(-1000)}`);
      if (result === "red") return outcome("killed", check.name);
      if (result === "late") return outcome("killed", `${check.name}, which came to no end`);
    }
    return outcome("survived", checks.map(({ name }) => name).join(", "));
  } catch (error) {
    return outcome("error", error instanceof Error ? error.message : String(error));
  } finally {
    workplace.restore(file);
  }
}

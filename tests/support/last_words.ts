// deno-lint-ignore-file no-console -- what is shown belongs to the test's output
/**
 * What the daemons of a test said, shown where it fails. It imports nothing, since it is loaded before every test.
 * @module
 */

const SHOWN_LINES = 40;
const SHOWN_CHARACTERS = 300;

/** A program that a test runs. */
export interface Witness {
  readonly pid: number;
  /** Every line so far. */
  readonly stderr: readonly string[];
  /** Its test has done with it. */
  readonly isOver: boolean;
}

/** Those of the test that runs; whoever starts one adds it. One whose words are told already is taken out. */
export const witnesses: Set<Witness> = new Set();

/** The last lines of a program, of a bearable length. */
export function lastWords({ pid, stderr }: Witness): string {
  const said = stderr.slice(-SHOWN_LINES).map((line) => line.slice(0, SHOWN_CHARACTERS));
  return `The last lines of the daemon ${pid}:\n${said.join("\n")}`;
}

/** Runs a test; where it fails, or a step of it, that shows the last lines of all that were there meanwhile. */
export async function heard(test: Deno.TestDefinition["fn"], t: Deno.TestContext): Promise<void> {
  for (const witness of witnesses) if (witness.isOver) witnesses.delete(witness);
  // A step that fails throws nothing: it is false.
  const step = t.step.bind(t) as (...args: unknown[]) => Promise<boolean>;
  const heardStep = async (...args: unknown[]): Promise<boolean> => {
    const isGood = await step(...args);
    if (!isGood) tell();
    return isGood;
  };
  try {
    await test(Object.assign(t, { step: heardStep }));
  } catch (error) {
    tell();
    throw error;
  }
}

function tell(): void {
  for (const witness of witnesses) console.error(lastWords(witness));
}

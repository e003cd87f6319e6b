/**
 * Mutation fuzzing of what reads a provider's bytes and the site's, and of what writes to browsers:
 *
 * ```sh
 * deno task fuzz [--inputs 1000000] [--seed N] [TARGET…]
 * ```
 *
 * What breaks a property is printed as hex, to be kept as a test in `finds_test.ts`.
 * @module
 */

import { parseArgs } from "node:util";
import process from "node:process";
import { randomInts } from "../support/random.ts";
import { mutant } from "./mutate.ts";
import { TARGETS } from "./targets.ts";

const MILLION = 1_000_000;

/** Gives a target so many inputs. @throws Error what broke, with the input as hex */
export async function fuzz(name: string, inputs: number, seed: number): Promise<void> {
  const target = TARGETS[name];
  if (target === undefined) throw new Error(`${name} is no target; expected one of ${Object.keys(TARGETS)}`);
  const random = randomInts(seed);
  for (let i = 0; i < inputs; i++) {
    const input = mutant(target.corpus, random);
    const cuts = random(MILLION);
    try {
      const running = target.run(input, randomInts(cuts));
      if (running !== undefined) await running;
    } catch (cause) {
      const hex = [...input].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      throw new Error(`${name}, cuts ${cuts}, input ${hex}: ${cause}`, { cause });
    }
  }
}

if (import.meta.main) {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { inputs: { type: "string" }, seed: { type: "string" } },
  });
  const inputs = Number(values.inputs ?? MILLION);
  const seed = Number(values.seed ?? Date.now() % MILLION);
  for (const name of positionals.length > 0 ? positionals : Object.keys(TARGETS)) {
    const count = Math.ceil(inputs * (TARGETS[name]?.share ?? 0) / MILLION);
    const startMs = performance.now();
    await fuzz(name, count, seed);
    const secs = ((performance.now() - startMs) / 1_000).toFixed(1);
    process.stdout.write(`${name}: ${count} inputs, seed ${seed}, ${secs} s\n`);
  }
}

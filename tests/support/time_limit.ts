/**
 * A time limit for every test that has none of its own: one that hangs fails, by its name, and the others go on; and
 * one that throws shows what its daemons said. Loaded before the tests:
 * `deno test --preload=tests/support/time_limit.ts`.
 * @module
 */
import { heard } from "./last_words.ts";

/** Far above what any test takes beside a busy core, those that boot a Debian aside; for failure alone. */
const LIMIT_MS = Number(Deno.env.get("TEST_LIMIT_SECS") ?? 120) * 1000;

const test = Deno.test;

/** Every form of `Deno.test` has its function last, and its options, if it has some, as an object. */
function limited(...args: readonly unknown[]): void {
  const definition: Record<string, unknown> = { timeout: LIMIT_MS };
  for (const arg of args) {
    if (typeof arg === "string") definition["name"] = arg;
    else if (typeof arg === "function") {
      definition["fn"] = arg;
      definition["name"] ??= arg.name;
    } else Object.assign(definition, arg);
  }
  const { fn, ...rest } = definition as unknown as Deno.TestDefinition;
  test({ ...rest, fn: (t) => heard(fn, t) });
}

Object.assign(Deno, { test: Object.assign(limited, test) });

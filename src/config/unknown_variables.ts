/**
 * Variables of the environment that look like the daemon's and set nothing: one that is misspelt would else be passed
 * over without a word. Pure.
 * @module
 */
import { allBackends, type Config } from "./config.ts";
import { allKeys } from "./key_places.ts";
import { editDistance, nearest } from "./nearest.ts";

/** The one that is no key's: see `src/native/library.ts`. */
const SHIM_PATH = "DAEMON_SHIM_PATH";

/** A line for each of `names` that begins as the daemon's variables do, or its providers', and is none of them. */
export function unknownVariables(names: readonly string[], config: Config): string[] {
  const known = [...allKeys(Object.keys(config.backends)).map(({ key }) => key.env), SHIM_PATH];
  // Those of a provider that is not asked may be there for other programs.
  const providers = allBackends(config).map(([, { provider }]) => provider.replace(/-.*/, "").toUpperCase());
  const ours = ["DAEMON", ...providers].map((first) => `${first}_`);
  return names.filter((name) => !known.includes(name) && ours.some((prefix) => name.startsWith(prefix)))
    .map((name) => {
      const near = nearest(known, (candidate) => distance(name, candidate));
      return `environment ${name}: unknown variable, which sets nothing; the nearest known one is ${near}`;
    });
}

/** By characters, or by words in any order: who writes OPENAI_BASE_URL, as elsewhere, means OPENAI_API_BASE. */
function distance(a: string, b: string): number {
  const [words, others] = [new Set(a.split("_")), new Set(b.split("_"))];
  return Math.min(editDistance(a, b), 2 * words.symmetricDifference(others).size);
}

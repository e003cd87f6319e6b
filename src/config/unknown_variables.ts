/**
 * Variables of the environment that look like the daemon's and set nothing: one that is misspelt would else be passed
 * over without a word. Pure.
 * @module
 */
import { allBackends, type Config } from "./config.ts";
import { allKeys } from "./key_places.ts";
import { nameDistance, nearest } from "./nearest.ts";
import { SHIM_VARIABLE } from "../places.ts";

/** A line for each of `names` that begins as the daemon's variables do, or its providers', and is none of them. */
export function unknownVariables(names: readonly string[], config: Config): string[] {
  const known = [...allKeys(Object.keys(config.backends)).map(({ key }) => key.env), SHIM_VARIABLE];
  // Those of a provider that is not asked may be there for other programs.
  const providers = allBackends(config).map(([, { provider }]) => provider.replace(/-.*/, "").toUpperCase());
  const ours = ["DAEMON", ...providers].map((first) => `${first}_`);
  return names.filter((name) => !known.includes(name) && ours.some((prefix) => name.startsWith(prefix)))
    .map((name) => {
      const near = nearest(known, (candidate) => nameDistance(name, candidate));
      return `environment ${name}: unknown variable, which sets nothing; the nearest known one is ${near}`;
    });
}

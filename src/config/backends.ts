/**
 * What no single key of a backend can tell, of `[backend]` and of each `[backends.NAME]`. Pure.
 * @module
 */
import type { BackendConfig, Config } from "./config.ts";
import { DEFAULT_BACKEND, variableOf } from "./key_places.ts";
import { editDistance, nearest } from "./nearest.ts";

/** A value that cannot be used. */
export interface BackendProblem {
  /** Of the key, such as `backends.claude.models`. */
  readonly path: string;
  /** The value as a message has it. */
  readonly shown: string;
  readonly expected: string;
}

/** All backends of a configuration, by name: `[backend]` first, as `default`. */
export function allBackends(config: Config): readonly (readonly [name: string, config: BackendConfig])[] {
  return [[DEFAULT_BACKEND, config.backend], ...Object.entries(config.backends)];
}

/** What is wrong with them. */
export function checkBackends(config: Config): BackendProblem[] {
  const problems: BackendProblem[] = [];
  const backends = allBackends(config);
  const names = backends.map(([name]) => name);
  const pathOf = (name: string): string => name === DEFAULT_BACKEND ? "backend" : `backends.${name}`;
  const prefixes = new Map<string, string>();
  for (const [name, { provider, openai, models, fallback }] of backends) {
    const path = pathOf(name);
    if (provider === "openai" && openai.apiKey === "" && openai.apiSocket === "") {
      const { apiBase } = openai;
      if (new URL(apiBase).hostname === "api.openai.com") {
        const variable = name === DEFAULT_BACKEND ? "OPENAI_API_KEY" : variableOf(`${path}.openai.api_key`);
        problems.push({
          path: `${path}.openai.api_key`,
          shown: `""`,
          expected: `a key for ${apiBase}, best in the environment ${variable}`,
        });
      }
    }
    if (fallback.includes(name) || new Set(fallback).size < fallback.length) {
      problems.push({
        path: `${path}.fallback`,
        shown: JSON.stringify(fallback),
        expected: "names of other backends, each once",
      });
    }
    problems.push(...unknownNames(`${path}.fallback`, fallback, names));
    for (const prefix of models) {
      const other = prefixes.get(prefix);
      prefixes.set(prefix, path);
      if (other !== undefined) {
        problems.push({
          path: `${path}.models`,
          shown: JSON.stringify(models),
          expected: `beginnings that no other backend has; ${other}.models has ${
            JSON.stringify(prefix)
          }, too`,
        });
      }
    }
  }
  if (Object.hasOwn(config.backends, config.backend.provider)) {
    problems.push({
      path: "backend.provider",
      shown: JSON.stringify(config.backend.provider),
      expected:
        `another name for [backends.${config.backend.provider}], since metrics and log call [backend] by its ` +
        "provider",
    });
  }
  problems.push(...unknownNames("backend.selectable", config.backend.selectable, names));
  return problems;
}

function unknownNames(path: string, given: readonly string[], known: readonly string[]): BackendProblem[] {
  return given.filter((name) => !known.includes(name)).map((name) => {
    const near = nearest(known, (candidate) => editDistance(name, candidate));
    return {
      path,
      shown: JSON.stringify(given),
      expected: `names of [backends.NAME] or "default"; the nearest known one to ${
        JSON.stringify(name)
      } is ${near}`,
    };
  });
}

/**
 * What no single key of a backend can tell, of `[backend]` and of each `[backends.NAME]`. Pure.
 * @module
 */
import { allBackends, type Config, DEFAULT_BACKEND, type HttpSettings, httpTable } from "./config.ts";
import { allKeys } from "./key_places.ts";
import { editDistance, nearest } from "./nearest.ts";

/** Where nobody is answered without a key. */
const KEYED_HOSTS = ["api.openai.com", "api.anthropic.com"];

/** A value that cannot be used. */
export interface BackendProblem {
  /** Of the key, such as `backends.claude.models`. */
  readonly path: string;
  /** The value as a message has it. */
  readonly shown: string;
  readonly expected: string;
}

/** What is wrong with them. @param keyless whether their keys may be missing */
export function checkBackends(config: Config, keyless = false): BackendProblem[] {
  const problems: BackendProblem[] = [];
  const backends = allBackends(config);
  const names = backends.map(([name]) => name);
  const pathOf = (name: string): string => name === DEFAULT_BACKEND ? "backend" : `backends.${name}`;
  const prefixes = new Map<string, string>();
  for (const [name, backend] of backends) {
    const path = pathOf(name);
    const { provider, module, models, fallback } = backend;
    const table = httpTable(backend);
    if (!keyless && table !== undefined && needsKey(table.settings)) {
      const keyPath = `${path}.${table.name}.api_key`;
      const variable = allKeys(names).find((place) => place.path === keyPath)?.key.env;
      problems.push({
        path: keyPath,
        shown: `""`,
        expected: `a key for ${table.settings.apiBase}, best in the environment ${variable}`,
      });
    }
    if (provider === "module" && !module.path.startsWith("/")) {
      problems.push({
        path: `${path}.module.path`,
        shown: JSON.stringify(module.path),
        expected: "the module's path, which begins with /",
      });
    }
    if (backend.maxStreams > 0 && backend.queueMs >= backend.timeoutMs) {
      problems.push({
        path: `${path}.queue_secs`,
        shown: String(backend.queueMs / 1000),
        expected: `less than ${path}.timeout_secs, which counts the wait`,
      });
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

function needsKey({ apiKey, apiBase, apiSocket }: HttpSettings): boolean {
  return apiKey === "" && apiSocket === "" && KEYED_HOSTS.includes(new URL(apiBase).hostname);
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

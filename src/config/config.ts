/**
 * The configuration's type, made of the table of keys, and what can be told of a configuration by itself. Workers import
 * this and not `load.ts`, which brings the schema's library with it: 8 MiB an isolate.
 * @module
 */
import type { BackendProvider, Key, KEYS } from "./keys.ts";

type ValuesOf<Group> = {
  readonly [Name in keyof Group]: Group[Name] extends Key<infer Value> ? Value : ValuesOf<Group[Name]>;
};

/**
 * All that can be configured: `KEYS` of `config/keys.ts` with a value in the place of each key. Durations are in
 * milliseconds. Plain data: it can be sent to a worker.
 */
export type Config = ValuesOf<typeof KEYS> & {
  /** Those of `[backends.NAME]`, by name. */
  readonly backends: Readonly<Record<string, BackendConfig>>;
};

/** What is configured for one backend. */
export type BackendConfig = Omit<ValuesOf<typeof KEYS.backend>, "selectable">;

/** How `[backend]` is called where backends are named. */
export const DEFAULT_BACKEND = "default";

/** All backends of a configuration, by name: `[backend]` first, as `default`. */
export function allBackends(config: Config): readonly (readonly [name: string, config: BackendConfig])[] {
  return [[DEFAULT_BACKEND, config.backend], ...Object.entries(config.backends)];
}

/** The keys that all providers have which are asked over HTTP. */
export type HttpSettings = Omit<BackendConfig["openai"], "organization" | "project" | "includeUsage">;

/** The table of such a provider. */
export interface HttpTable {
  /** Its name below the backend's own table, such as `openai`. */
  readonly name: string;
  readonly settings: HttpSettings;
}

/** The table of the provider that a backend asks; undefined for the mock one, and one's own. */
export function httpTable(backend: BackendConfig): HttpTable | undefined {
  const name = providerTable(backend.provider);
  return name === "mock" || name === "module" ? undefined : { name, settings: backend[name] };
}

/** The name of a provider's table: its own, with `_` for `-`. */
export function providerTable<Provider extends BackendProvider>(provider: Provider): TableOf<Provider> {
  return provider.replace("-", "_") as TableOf<Provider>;
}

type TableOf<Provider extends string> = Provider extends `${infer First}-${infer Rest}` ? `${First}_${Rest}`
  : Provider;

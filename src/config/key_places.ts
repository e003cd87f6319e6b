/**
 * The table of keys as a list: each with its place in TOML and in `Config`. Backends that have a name are tables of
 * the same keys.
 * @module
 */
import { DEFAULT_BACKEND } from "./config.ts";
import { type Key, KEYS } from "./keys.ts";

/** A key of the table with its place: in TOML, and in `Config`. */
export interface KeyPlace {
  /** Such as `server.handoff_timeout_secs`. */
  readonly path: string;
  /** Such as `["server", "handoffTimeoutMs"]`. */
  readonly names: readonly string[];
  readonly key: Key<unknown>;
}

type Tree = { readonly [name: string]: unknown };

/** Whether a backend can have that name. */
export function isBackendName(name: string): boolean {
  return /^[a-z][a-z0-9-]{0,63}$/.test(name) && name !== DEFAULT_BACKEND;
}

function isKey(value: unknown): value is Key<unknown> {
  return typeof value === "object" && value !== null && "env" in value;
}

function* places(group: Tree, path: string, names: readonly string[]): Generator<KeyPlace> {
  for (const [name, value] of Object.entries(group)) {
    if (isKey(value)) yield { path: path + value.name, names: [...names, name], key: value };
    else yield* places(value as Tree, `${path}${name}.`, [...names, name]);
  }
}

/**
 * Every key in the order of `config/daemon.toml`.
 *
 * @param backends names of backends, whose keys follow those of `[backend]`
 */
export function allKeys(backends: readonly string[] = []): readonly KeyPlace[] {
  return Object.entries(KEYS).flatMap(([group, keys]) => [
    ...places(keys, `${group}.`, [group]),
    ...(group === "backend" ? backends.flatMap(backendKeys) : []),
  ]);
}

/** The keys of `[backends.NAME]`. */
export function backendKeys(name: string): readonly KeyPlace[] {
  return [...places(KEYS.backend, `backends.${name}.`, ["backends", name])]
    .filter(({ key }) => !key.defaultOnly)
    .map((place) => ({
      ...place,
      key: { ...place.key, env: variableOf(place.path) },
    }));
}

/** The variable of a key of a backend that has a name: `backends.a-b.openai.api_key` is `DAEMON_BACKENDS_A_B_…`. */
function variableOf(path: string): string {
  return `DAEMON_${path.replaceAll(/[.-]/g, "_").toUpperCase()}`;
}

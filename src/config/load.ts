/**
 * The configuration: defaults, then the TOML file, then the environment, then the flags, checked and frozen.
 * @module
 */
import { parse as parseToml, TomlError } from "smol-toml";
import { checkBackends } from "./backends.ts";
import { type Config, providerTable } from "./config.ts";
import { allKeys, backendKeys, isBackendName, type KeyPlace } from "./key_places.ts";
import { BACKEND_PROVIDERS } from "./keys.ts";
import { LOG_PARTS } from "./log_words.ts";
import { editDistance, nameDistance, nearest } from "./nearest.ts";
import { MAX_SOCKET_PATH_BYTES } from "./types.ts";
import { ConfigError } from "../errors.ts";

export { allBackends, type BackendConfig, type Config, DEFAULT_BACKEND, httpTable } from "./config.ts";
export { allKeys, type KeyPlace } from "./key_places.ts";
export { BACKEND_PROVIDERS, type BackendProvider } from "./keys.ts";
export type { ListenAddr } from "./types.ts";

/** A value that a flag gives to a key. */
export interface FlagValue {
  /** Such as `server.socket_path`. */
  readonly key: string;
  /** How the user wrote it, for messages: `--socket`. */
  readonly flag: string;
  readonly text: string;
}

/** Where a configuration is read from. */
export interface ConfigSources {
  /** The file; none: defaults, environment and flags only. */
  readonly path?: string | undefined;
  readonly flags?: readonly FlagValue[];
  /** Without the providers' keys: for a command about a running daemon, whose environment has them. */
  readonly keyless?: boolean;
  env(name: string): string | undefined;
  readTextFile(path: string): Promise<string>;
}

/** A configuration and, for each key, where its value comes from. */
export interface LoadedConfig {
  readonly config: Config;
  /** From a path such as `server.workers` to `default`, `file …`, `environment …` or `flag …`. */
  readonly origins: ReadonlyMap<string, string>;
}

/** What a new configuration changes in a running daemon. */
export interface ConfigChanges {
  /** The running configuration with every change that needs no restart. */
  readonly config: Config;
  /** Paths of the keys that `config` changes. */
  readonly changed: readonly string[];
  /** Paths of the keys that stay as they were until a restart. */
  readonly needRestart: readonly string[];
}

type Tree = { readonly [name: string]: unknown };

function isTable(value: unknown): value is Tree {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

/**
 * Reads and checks the configuration.
 *
 * @throws {ConfigError} with a line for each problem, which names source, key, value and what is expected
 */
export async function loadConfig(sources: ConfigSources): Promise<LoadedConfig> {
  const problems: string[] = [];
  const given = new Map<string, { value: unknown; shown: string; origin: string }>();
  let keys = allKeys();
  let backends: readonly string[] = [];

  if (sources.path !== undefined) {
    const origin = `file ${sources.path}`;
    const { backends: named = {}, ...tree } = parseFile(
      sources.path,
      await readFile(sources.path, sources.readTextFile),
    );
    const tables = backendTables(named, origin, problems);
    backends = Object.keys(tables);
    keys = allKeys(backends);
    for (const [path, value] of tomlValues(tables, "backends.", keys, origin, problems)) {
      given.set(path, { value, shown: showValue(value), origin });
    }
    for (const [path, value] of tomlValues(tree, "", keys, origin, problems)) {
      given.set(path, { value, shown: showValue(value), origin });
    }
  }
  for (const { path, key } of keys) {
    const text = sources.env(key.env);
    if (text === undefined) continue;
    const origin = `environment ${key.env}`;
    given.set(path, { value: key.type.fromText(text), shown: showValue(text), origin });
  }
  for (const { key: path, flag, text } of sources.flags ?? []) {
    const place = keys.find((candidate) => candidate.path === path);
    if (place === undefined) throw new TypeError(`the flag ${flag} sets "${path}", which is no key`);
    given.set(path, { value: place.key.type.fromText(text), shown: showValue(text), origin: `flag ${flag}` });
  }

  // Each has its own table before anything is set in it: a name may be one of Object's properties.
  const config: Record<string, unknown> = {
    backends: Object.fromEntries(backends.map((name) => [name, {}])),
  };
  const origins = new Map<string, string>();
  for (const { path, names, key } of keys) {
    const { value, shown, origin } = given.get(path) ??
      { value: key.default, shown: "", origin: "default" };
    origins.set(path, origin);
    if (value === undefined && origin === "default") continue; // stream_socket_path, below
    const result = key.type.schema.safeParse(value);
    if (result.success) setValue(config, names, result.data);
    else problems.push(problem(origin, path, key.secret ? "(hidden)" : shown, key.type.expected));
  }
  if (problems.length === 0) {
    const server = config.server as { socketPath: string; streamSocketPath?: string };
    server.streamSocketPath ??= `${server.socketPath}.stream`;
    problems.push(...crossCheck(config as Config, origins, sources.keyless));
  }
  if (problems.length > 0) throw new ConfigError(problems.join("\n"));
  return { config: deepFreeze(config) as Config, origins };
}

/** The configuration as TOML with the origin of each value, where it is known, as a comment; no secrets. */
export function describeConfig({ config, origins }: LoadedConfig): string {
  let table = "";
  let toml = "";
  for (const place of allKeys(Object.keys(config.backends))) {
    const { path, key } = place;
    if (isUnused(place, config)) continue;
    const ownTable = path.slice(0, path.lastIndexOf("."));
    if (ownTable !== table) toml += `${toml === "" ? "" : "\n"}[${table = ownTable}]\n`;
    const value = key.secret ? hide(getValue(config, place)) : getValue(config, place);
    const origin = origins.get(path);
    toml += `${key.name} = ${key.type.toToml(value)}${origin === undefined ? "" : ` # ${origin}`}\n`;
  }
  return toml;
}

/** Whether a key is in the table of a provider that its backend, which has a name, does not ask. */
function isUnused({ names: [group, name = "", table = ""] }: KeyPlace, { backends }: Config): boolean {
  return group === "backends" &&
    BACKEND_PROVIDERS.some((provider) =>
      table === providerTable(provider) && provider !== backends[name]?.provider
    );
}

/** What of `next` a running daemon can take over, and what not. */
export function configChanges(running: Config, next: Config): ConfigChanges {
  const config: Record<string, unknown> = {};
  const changed: string[] = [];
  const needRestart: string[] = [];
  for (const place of allKeys()) {
    const before = getValue(running, place);
    const after = getValue(next, place);
    const same = JSON.stringify(before) === JSON.stringify(after);
    const taken = !same && !place.key.restart;
    if (!same) (taken ? changed : needRestart).push(place.path);
    setValue(config, place.names, taken ? after : before);
  }
  config.backends = next.backends;
  for (const name of new Set([...Object.keys(running.backends), ...Object.keys(next.backends)])) {
    if (!Object.hasOwn(running.backends, name) || !Object.hasOwn(next.backends, name)) {
      changed.push(`backends.${name}`);
      continue;
    }
    for (const place of backendKeys(name)) {
      if (JSON.stringify(getValue(running, place)) !== JSON.stringify(getValue(next, place))) {
        changed.push(place.path);
      }
    }
  }
  return { config: deepFreeze(config) as Config, changed, needRestart };
}

/** What no single key can tell. */
function crossCheck(config: Config, origins: ReadonlyMap<string, string>, keyless?: boolean): string[] {
  const problems: string[] = [];
  const { socketPath, streamSocketPath } = config.server;
  if (streamSocketPath === socketPath) {
    const path = "server.stream_socket_path";
    problems.push(
      problem(origins.get(path), path, showValue(streamSocketPath), "another path than server.socket_path"),
    );
  } else if (new TextEncoder().encode(streamSocketPath).length > MAX_SOCKET_PATH_BYTES) {
    problems.push(
      problem(
        origins.get("server.socket_path"),
        "server.socket_path",
        showValue(socketPath),
        `a path that with ".stream" has at most ${MAX_SOCKET_PATH_BYTES} bytes, or a server.stream_socket_path`,
      ),
    );
  }
  problems.push(
    ...checkBackends(config, keyless).map(({ path, shown, expected }) =>
      problem(origins.get(path), path, shown, expected)
    ),
  );
  if (config.resume.store === "redis" && config.resume.redisUrl === "") {
    const path = "resume.redis_url";
    problems.push(
      problem(origins.get(path), path, `""`, 'the URL of a server, since resume.store is "redis"'),
    );
  }
  for (const part of Object.keys(config.logging.parts)) {
    if ((LOG_PARTS as readonly string[]).includes(part)) continue;
    const known = nearest(LOG_PARTS, (candidate) => editDistance(part, candidate));
    const path = "logging.parts";
    problems.push(`${origins.get(path)}: ${path}: unknown part ${part}; the nearest known one is ${known}`);
  }
  return problems;
}

async function readFile(path: string, readTextFile: ConfigSources["readTextFile"]): Promise<string> {
  try {
    return await readTextFile(path);
  } catch (cause) {
    const why = cause instanceof Deno.errors.NotFound
      ? "there is no such file"
      : cause instanceof Deno.errors.NotCapable
      ? `the sandbox denies it; start with --allow-read=${path} besides the other permissions`
      : cause instanceof Deno.errors.PermissionDenied
      ? "permission denied; the daemon's user must be able to read it"
      : cause instanceof DOMException && cause.name === "TimeoutError"
      ? "it did not come to an end in time"
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw new ConfigError(`file ${path}: cannot read the configuration: ${why}`, { cause });
  }
}

function parseFile(path: string, text: string): Tree {
  try {
    return parseToml(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    // Its message goes on with a picture of the place, whose line could hold a secret.
    const reason = cause.message.split("\n", 1)[0]?.replace(/^Invalid TOML document: /, "");
    // A name before "=" is shown where it is a key's: else it may be the end of a secret in two lines.
    const [, name] = /^\s*(\w+)\s*=/.exec(text.split("\n")[cause.line - 1] ?? "") ?? [];
    const key = allKeys().some(({ key }) => key.name === name) ? name : "key";
    const expected = /^(invalid|illegal|each)/.test(reason ?? "")
      ? `; expected such as ${key} = "text", 5 or true`
      : "";
    throw new ConfigError(
      `file ${path}:${cause.line}:${cause.column}: not valid TOML: ${reason}${expected}`,
    );
  }
}

/** What a file has in `backends`: the tables of backends, by name. The others become problems. */
function backendTables(given: unknown, origin: string, problems: string[]): Readonly<Record<string, Tree>> {
  if (!isTable(given)) {
    problems.push(problem(origin, "backends", showNoTable(given), "tables, [backends.NAME]"));
    return {};
  }
  return Object.fromEntries(
    Object.entries(given).filter((entry): entry is [string, Tree] => {
      const [name, table] = entry;
      const path = `backends.${name}`;
      if (!isBackendName(name)) {
        problems.push(
          `${origin}: ${path}: expected a name of a-z, 0-9 and "-", at most 64, that begins with a letter and is ` +
            `not "default", which is [backend]`,
        );
      } else if (!isTable(table)) {
        problems.push(problem(origin, path, showNoTable(table), `a table, [${path}]`));
      }
      return isBackendName(name) && isTable(table);
    }),
  );
}

/** The known keys of a parsed file; the unknown ones become problems. */
function* tomlValues(
  table: Tree,
  prefix: string,
  keys: readonly KeyPlace[],
  origin: string,
  problems: string[],
): Generator<[path: string, value: unknown]> {
  for (const [name, value] of Object.entries(table)) {
    const path = prefix + name;
    if (keys.some((place) => place.path === path)) yield [path, value];
    else if (!keys.some((place) => place.path.startsWith(`${path}.`))) {
      problems.push(`${origin}: unknown key ${path}; the nearest known one is ${nearestKey(path, keys)}`);
    } else if (isTable(value)) yield* tomlValues(value, `${path}.`, keys, origin, problems);
    else problems.push(problem(origin, path, showNoTable(value), `a table, [${path}]`));
  }
}

/** The known key, or table, that is written most like `path`, or ends most like it. */
function nearestKey(path: string, keys: readonly KeyPlace[]): string {
  const known = new Set(keys.flatMap((place) => {
    const parts = place.path.split(".");
    return parts.map((_, index) => parts.slice(0, parts.length - index).join("."));
  }));
  const last = (dotted: string): string => dotted.slice(dotted.lastIndexOf(".") + 1);
  // The place weighs little, so that a key in the wrong table finds its own.
  const distance = (candidate: string): number =>
    nameDistance(last(path), last(candidate)) + editDistance(path, candidate) / 100;
  return nearest([...known], distance);
}

function problem(origin: string | undefined, path: string, shown: string, expected: string): string {
  return `${origin}: ${path} = ${shown}: expected ${expected}`;
}

/** A value for a message: short, on one line, without what of a URL may be secret: its user info and its query. */
function showValue(value: unknown): string {
  const shown = JSON.stringify(
    value,
    (_, member) => typeof member === "number" && !Number.isFinite(member) ? String(member) : member,
  ).replace(/\/\/[^\s"]*@/g, "//(hidden)@").replace(/(\/\/[^\s"?]*\?)[^\s"]+/g, "$1(hidden)");
  return shown.length > 120 ? `${shown.slice(0, 120)}…` : shown;
}

/** What stands where a table belongs, for a message. A text may be a key of an API, and [[…]] may have one in it. */
function showNoTable(value: unknown): string {
  return Array.isArray(value) ? "(a list)" : typeof value === "string" ? "(a text)" : showValue(value);
}

function hide(value: unknown): unknown {
  if (value === "") return value;
  if (!isTable(value)) return "(set)";
  return Object.fromEntries(Object.keys(value).map((name) => [name, "(set)"]));
}

function getValue(config: Config, place: KeyPlace): unknown {
  return place.names.reduce<unknown>((tree, name) => (tree as Tree)[name], config);
}

function setValue(config: Record<string, unknown>, names: readonly string[], value: unknown): void {
  const [name = "", ...rest] = names;
  if (rest.length === 0) config[name] = value;
  else setValue((config[name] ??= {}) as Record<string, unknown>, rest, value);
}

function deepFreeze<Value>(value: Value): Value {
  if (typeof value === "object" && value !== null) {
    Object.values(value).forEach(deepFreeze);
    Object.freeze(value);
  }
  return value;
}

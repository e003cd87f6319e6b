/** Backends that have a name. */
import assert from "node:assert/strict";
import {
  allKeys,
  configChanges,
  describeConfig,
  loadConfig,
  type LoadedConfig,
} from "../../src/config/load.ts";
import { backendKeys } from "../../src/config/key_places.ts";
import { ConfigError } from "../../src/errors.ts";

function load(toml: string, env: Readonly<Record<string, string>> = {}): Promise<LoadedConfig> {
  return loadConfig({ path: "d.toml", env: (name) => env[name], readTextFile: () => Promise.resolve(toml) });
}

async function refusal(toml: string, env: Readonly<Record<string, string>> = {}): Promise<string> {
  const error = await load(toml, env).then(() => undefined, (error: unknown) => error);
  assert(error instanceof ConfigError, `expected a ConfigError, got ${error}`);
  return error.message;
}

const LOCAL = '[backends.local]\nprovider = "openai"\n[backends.local.openai]\napi_base = "http://h:1/v1"\n';

Deno.test("backends: each has the keys of [backend], with the defaults where it says nothing", async () => {
  const { config, origins } = await load(`[backend]\ntimeout_secs = 3\n${LOCAL}[backends.constructor]\n`);
  const { selectable: _, ...defaults } = (await load("")).config.backend;
  assert.deepEqual(config.backends, {
    local: { ...defaults, provider: "openai", openai: { ...defaults.openai, apiBase: "http://h:1/v1" } },
    constructor: defaults,
  });
  assert.equal(origins.get("backends.local.openai.api_base"), "file d.toml");
  assert.equal(origins.get("backends.local.timeout_secs"), "default");
});

Deno.test("backends: a variable is the name and the key's place; all have the prefix that the sandbox allows", async () => {
  const env = { DAEMON_BACKENDS_A_B_OPENAI_API_KEY: "geheim", DAEMON_BACKENDS_A_B_TIMEOUT_SECS: "7" };
  const loaded = await load("[backends.a-b]\n", env);
  const { config, origins } = loaded;
  assert.equal(config.backends["a-b"]?.openai.apiKey, "geheim");
  assert.equal(config.backends["a-b"].timeoutMs, 7000);
  assert.equal(origins.get("backends.a-b.timeout_secs"), "environment DAEMON_BACKENDS_A_B_TIMEOUT_SECS");
  assert(!describeConfig(loaded).includes("geheim"));
  assert.deepEqual((await load("", env)).config.backends, {});
});

Deno.test("backends: no two keys of any names share a variable", () => {
  // One name could end as another one's keys begin: "x" and "x-openai".
  const names = ["x", ...new Set(backendKeys("x").map(({ path }) => path.split(".")[2] as string))]
    .map((name) => name === "x" ? name : `x-${name.replaceAll("_", "-")}`);
  const variables = allKeys(names).map(({ key }) => key.env);
  assert.equal(new Set(variables).size, variables.length);
  for (const variable of variables) {
    assert.match(variable, /^(DAEMON|OPENAI|ANTHROPIC|LANGGRAPH)(_[A-Z0-9]+)+$/);
  }
});

Deno.test("backends: the description reads as it was, without the tables of other providers", async () => {
  const { config, origins } = await load(`[backend]\nselectable = ["local"]\n${LOCAL}`);
  const described = describeConfig({ config, origins });
  assert.deepEqual((await load(described)).config, config);
  assert.match(described, /^\[backends\.local\.openai\]$/m);
  assert.doesNotMatch(described, /^\[backends\.local\.mock\]$/m);
});

Deno.test("backends: what is wrong is named with its place", async () => {
  const cases: [toml: string, message: string][] = [
    ["backends = 4", "backends = 4: expected tables, [backends.NAME]"],
    ["backends.a = 4", "backends.a = 4: expected a table, [backends.a]"],
    [
      '[[backends.a]]\nopenai = { api_key = "sk-0" }',
      "backends.a = (a list): expected a table, [backends.a]",
    ],
    ['[[backends]]\nopenai = { api_key = "sk-0" }', "backends = (a list): expected tables, [backends.NAME]"],
    [
      "[backends.Big]",
      'backends.Big: expected a name of a-z, 0-9 and "-", at most 64, that begins with a letter and is not ' +
      '"default", which is [backend]',
    ],
    [
      "[backends.default]",
      'backends.default: expected a name of a-z, 0-9 and "-", at most 64, that begins with a letter and is not ' +
      '"default", which is [backend]',
    ],
    [
      "[backends.a]\ntimeout_secs = 0",
      "backends.a.timeout_secs = 0: expected a number of seconds from 0.001 to 86400",
    ],
    [
      "[backends.a]\ndefault_modl = 'x'",
      "unknown key backends.a.default_modl; the nearest known one is backends.a.default_model",
    ],
    [
      "[backends.a]\nselectable = []",
      "unknown key backends.a.selectable; the nearest known one is backend.selectable",
    ],
    [
      "backend.selectable = ['locl']\n[backends.local]",
      'backend.selectable = ["locl"]: expected names of [backends.NAME] or "default"; the nearest known one to "locl" ' +
      "is local",
    ],
    [
      "[backends.a]\nmodels = ['m', 'n']\n[backends.b]\nmodels = ['n']",
      'backends.b.models = ["n"]: expected beginnings that no other backend has; backends.a.models has "n", too',
    ],
    [
      "backend.fallback = ['locl']\n[backends.local]",
      'backend.fallback = ["locl"]: expected names of [backends.NAME] or "default"; the nearest known one to "locl" ' +
      "is local",
    ],
    [
      "[backends.a]\nfallback = ['default', 'a']",
      'backends.a.fallback = ["default","a"]: expected names of other backends, each once',
    ],
    [
      "backend.fallback = ['a', 'a']\n[backends.a]",
      'backend.fallback = ["a","a"]: expected names of other backends, each once',
    ],
    [
      "[backends.a]\nprovider = 'module'\nmodule.path = 'm.ts'",
      'backends.a.module.path = "m.ts": expected the module\'s path, which begins with /',
    ],
    [
      "[backends.a]\nmax_streams = 1\nqueue_secs = 120",
      "backends.a.queue_secs = 120: expected less than backends.a.timeout_secs, which counts the wait",
    ],
    [
      "[backends.a]\nmodels = ['']",
      'backends.a.models = [""]: expected a list of names of models, or of how they begin',
    ],
  ];
  for (const [toml, message] of cases) assert.equal(await refusal(toml), `file d.toml: ${message}`);
  assert.equal(
    await refusal("[backends.mock]"),
    'default: backend.provider = "mock": expected another name for [backends.mock], since metrics and log call ' +
      "[backend] by its provider",
  );
  assert.equal(
    await refusal("[backends.a-b]\nprovider = 'openai'"),
    'default: backends.a-b.openai.api_key = "": expected a key for https://api.openai.com/v1, best in the ' +
      "environment DAEMON_BACKENDS_A_B_OPENAI_API_KEY",
  );
});

Deno.test("backends: a reload takes over all of them, and names what has changed", async () => {
  const { config: running } = await load(`[backends.a]\n[backends.b]\n`);
  const { config: next } = await load(`[backends.b]\ntimeout_secs = 1\n[backends.c]\n`);
  const { config, changed, needRestart } = configChanges(running, next);
  assert.deepEqual(config, next);
  assert.deepEqual([changed, needRestart], [["backends.a", "backends.b.timeout_secs", "backends.c"], []]);
});

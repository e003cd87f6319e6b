import assert from "node:assert/strict";
import { parse as parseToml } from "smol-toml";
import {
  allKeys,
  type Config,
  configChanges,
  describeConfig,
  type FlagValue,
  loadConfig,
  type LoadedConfig,
} from "../../src/config/load.ts";
import { ConfigError } from "../../src/errors.ts";

interface Given {
  readonly toml?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly flags?: readonly FlagValue[];
}

function load({ toml, env = {}, flags = [] }: Given = {}): Promise<LoadedConfig> {
  return loadConfig({
    path: toml === undefined ? undefined : "/etc/d.toml",
    env: (name) => env[name],
    flags,
    readTextFile: (path) => {
      assert.equal(path, "/etc/d.toml");
      return Promise.resolve(toml ?? "");
    },
  });
}

async function refusal(given: Given): Promise<string> {
  const error = await load(given).then(() => undefined, (error: unknown) => error);
  assert(error instanceof ConfigError, `expected a ConfigError, got ${error}`);
  return error.message;
}

function valueOf(config: Config, names: readonly string[]): unknown {
  return names.reduce<unknown>((tree, name) => (tree as Record<string, unknown>)[name], config);
}

const PROVIDERS = `"mock" or "openai" or "openai-responses" or "anthropic" or "langgraph" or "module"`;

Deno.test("config: the defaults are those of the contract", async () => {
  const { config } = await load();
  assert.deepEqual(config, {
    server: {
      socketPath: "/var/run/streaming-daemon-ts.sock",
      streamSocketPath: "/var/run/streaming-daemon-ts.sock.stream",
      socketMode: 0o660,
      socketGroup: "",
      maxConnections: 100_000,
      workers: "auto",
      handoffTimeoutMs: 5000,
      handoffBufferBytes: 131_072,
      writeTimeoutMs: 30_000,
      heartbeatMs: 0,
      maxStreamMs: 0,
      shutdownTimeoutMs: 120_000,
      allowedUids: [],
    },
    backend: {
      provider: "mock",
      defaultModel: "gpt-4o",
      timeoutMs: 120_000,
      requestMembers: [
        "metadata",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "tool_choice",
        "tools",
        "top_p",
      ],
      models: [],
      selectable: [],
      fallback: [],
      fallbackAfterMs: 30_000,
      maxStreams: 0,
      queueMs: 10_000,
      queueLength: 1000,
      circuitFailures: 0,
      circuitWithinMs: 60_000,
      circuitPauseMs: 30_000,
      mock: { tokenDelayMs: 50 },
      openai: {
        apiKey: "",
        apiBase: "https://api.openai.com/v1",
        apiSocket: "",
        http2: true,
        insecureSsl: false,
        poolMaxIdlePerHost: 100,
        organization: "",
        project: "",
        caFile: "",
        headers: {},
        body: {},
        includeUsage: true,
        maxRetries: 2,
        idleTimeoutMs: 90_000,
        pingIntervalMs: 30_000,
      },
      openai_responses: {
        apiKey: "",
        apiBase: "https://api.openai.com/v1",
        apiSocket: "",
        http2: true,
        insecureSsl: false,
        poolMaxIdlePerHost: 100,
        organization: "",
        project: "",
        caFile: "",
        headers: {},
        body: {},
        maxRetries: 2,
        idleTimeoutMs: 90_000,
        pingIntervalMs: 30_000,
      },
      anthropic: {
        apiKey: "",
        apiBase: "https://api.anthropic.com/v1",
        apiSocket: "",
        http2: true,
        insecureSsl: false,
        poolMaxIdlePerHost: 100,
        caFile: "",
        headers: {},
        body: {},
        maxRetries: 2,
        idleTimeoutMs: 90_000,
        pingIntervalMs: 30_000,
        maxTokens: 4096,
      },
      langgraph: {
        apiKey: "",
        apiBase: "http://127.0.0.1:2024",
        apiSocket: "",
        http2: true,
        insecureSsl: false,
        poolMaxIdlePerHost: 100,
        caFile: "",
        headers: {},
        body: {},
        maxRetries: 2,
        idleTimeoutMs: 90_000,
        pingIntervalMs: 30_000,
        assistantId: "agent",
      },
      module: { path: "", options: {}, allowNet: [], allowRead: [] },
    },
    backends: {},
    response: { format: "content", include: [] },
    resume: {
      keepMs: 300_000,
      maxStreamBytes: 1_048_576,
      maxTotalBytes: 67_108_864,
      store: "memory",
      redisUrl: "",
      redisCaFile: "",
    },
    metrics: { enabled: true, listenAddr: { hostname: "127.0.0.1", port: 9090 }, models: [] },
    logging: { level: "info", parts: {}, format: "pretty" },
  });
});

Deno.test("config: the file wins over defaults, the environment over the file, flags over all", async () => {
  const toml = `[server]\nsocket_path = "/file"\nworkers = 2\nmax_connections = 7\n`;
  const env = { DAEMON_SOCKET_PATH: "/env", DAEMON_WORKERS: "3" };
  const flags = [{ key: "server.socket_path", flag: "--socket", text: "/flag" }];
  const { config, origins } = await load({ toml, env, flags });
  assert.equal(config.server.socketPath, "/flag");
  assert.equal(config.server.streamSocketPath, "/flag.stream");
  assert.equal(config.server.workers, 3);
  assert.equal(config.server.maxConnections, 7);
  assert.equal(origins.get("server.socket_path"), "flag --socket");
  assert.equal(origins.get("server.workers"), "environment DAEMON_WORKERS");
  assert.equal(origins.get("server.max_connections"), "file /etc/d.toml");
  assert.equal(origins.get("server.socket_mode"), "default");
});

/** Those that all providers have which are asked over HTTP. */
function httpTexts(prefix: string): Readonly<Record<string, readonly [text: string, value: unknown]>> {
  return {
    [`${prefix}_API_KEY`]: ["sk-1", "sk-1"],
    [`${prefix}_API_BASE`]: ["http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1"],
    [`${prefix}_API_SOCKET`]: ["/s", "/s"],
    [`${prefix}_HTTP2_ENABLED`]: ["0", false],
    [`${prefix}_INSECURE_SSL`]: ["true", true],
    [`${prefix}_POOL_MAX_IDLE_PER_HOST`]: ["0", 0],
    [`${prefix}_CA_FILE`]: ["/ca.pem", "/ca.pem"],
    [`${prefix}_HEADERS`]: [`{"X-A":"b c"}`, { "X-A": "b c" }],
    [`${prefix}_BODY`]: [`{"a":[1,{"b":null}]}`, { a: [1, { b: null }] }],
    [`${prefix}_MAX_RETRIES`]: ["0", 0],
    [`${prefix}_IDLE_TIMEOUT_SECS`]: ["1", 1000],
    [`${prefix}_PING_INTERVAL_SECS`]: ["0", 0],
  };
}

Deno.test("config: every key can be set from its environment variable", async () => {
  const texts: Readonly<Record<string, readonly [text: string, value: unknown]>> = {
    DAEMON_SOCKET_PATH: ["/a.sock", "/a.sock"],
    DAEMON_STREAM_SOCKET_PATH: ["", ""],
    DAEMON_SOCKET_MODE: ["0600", 0o600],
    DAEMON_SOCKET_GROUP: ["www-data", "www-data"],
    DAEMON_MAX_CONNECTIONS: ["12", 12],
    DAEMON_WORKERS: ["4", 4],
    DAEMON_HANDOFF_TIMEOUT_SECS: ["0.25", 250],
    DAEMON_HANDOFF_BUFFER_BYTES: ["4096", 4096],
    DAEMON_WRITE_TIMEOUT_SECS: ["1.5", 1500],
    DAEMON_HEARTBEAT_SECS: ["15", 15_000],
    DAEMON_MAX_STREAM_SECS: ["600", 600_000],
    DAEMON_SHUTDOWN_TIMEOUT_SECS: ["0", 0],
    DAEMON_ALLOWED_UIDS: ["33, 1000", [33, 1000]],
    DAEMON_BACKEND_PROVIDER: ["openai", "openai"],
    DAEMON_DEFAULT_MODEL: ["m", "m"],
    DAEMON_BACKEND_TIMEOUT_SECS: ["9", 9000],
    DAEMON_REQUEST_MEMBERS: ["tools, stop", ["tools", "stop"]],
    DAEMON_BACKEND_MODELS: ["gpt-, o3", ["gpt-", "o3"]],
    DAEMON_BACKEND_SELECTABLE: ["default", ["default"]],
    DAEMON_BACKEND_FALLBACK: ["", []],
    DAEMON_BACKEND_FALLBACK_AFTER_SECS: ["2", 2000],
    DAEMON_BACKEND_MAX_STREAMS: ["7", 7],
    DAEMON_BACKEND_QUEUE_SECS: ["0.5", 500],
    DAEMON_BACKEND_QUEUE_LENGTH: ["0", 0],
    DAEMON_BACKEND_CIRCUIT_FAILURES: ["5", 5],
    DAEMON_BACKEND_CIRCUIT_WITHIN_SECS: ["30", 30_000],
    DAEMON_BACKEND_CIRCUIT_PAUSE_SECS: ["1", 1000],
    DAEMON_TOKEN_DELAY_MS: ["0", 0],
    ...httpTexts("OPENAI"),
    OPENAI_ORG_ID: ["org-1", "org-1"],
    OPENAI_PROJECT_ID: ["proj-1", "proj-1"],
    OPENAI_INCLUDE_USAGE: ["false", false],
    ...httpTexts("OPENAI_RESPONSES"),
    OPENAI_RESPONSES_ORG_ID: ["org-2", "org-2"],
    OPENAI_RESPONSES_PROJECT_ID: ["proj-2", "proj-2"],
    ...httpTexts("ANTHROPIC"),
    ANTHROPIC_MAX_TOKENS: ["8192", 8192],
    ...httpTexts("LANGGRAPH"),
    LANGGRAPH_ASSISTANT_ID: ["researcher", "researcher"],
    DAEMON_MODULE_PATH: ["/m.ts", "/m.ts"],
    DAEMON_MODULE_OPTIONS: [`{"a":1}`, { a: 1 }],
    DAEMON_MODULE_ALLOW_NET: ["h:1, [::1]:2", ["h:1", "[::1]:2"]],
    DAEMON_MODULE_ALLOW_READ: ["/a, /b", ["/a", "/b"]],
    DAEMON_RESPONSE_FORMAT: ["ai-sdk", "ai-sdk"],
    DAEMON_RESPONSE_INCLUDE: ["usage, finish", ["usage", "finish"]],
    DAEMON_RESUME_KEEP_SECS: ["2.5", 2500],
    DAEMON_RESUME_MAX_STREAM_BYTES: ["1024", 1024],
    DAEMON_RESUME_MAX_TOTAL_BYTES: ["0", 0],
    DAEMON_RESUME_STORE: ["redis", "redis"],
    DAEMON_RESUME_REDIS_CA_FILE: ["/ca.pem", "/ca.pem"],
    DAEMON_RESUME_REDIS_URL: [
      "rediss://user:word@cache.internal:6380/2",
      "rediss://user:word@cache.internal:6380/2",
    ],
    DAEMON_METRICS_ENABLED: ["1", true],
    DAEMON_METRICS_ADDR: ["[::1]:0", { hostname: "::1", port: 0 }],
    DAEMON_METRICS_MODELS: ["gpt-4o-mini, o3", ["gpt-4o-mini", "o3"]],
    DAEMON_LOG_LEVEL: ["error", "error"],
    DAEMON_LOG: ["backend=debug, handoff=warning", { backend: "debug", handoff: "warning" }],
    DAEMON_LOG_FORMAT: ["json", "json"],
  };
  const env = Object.fromEntries(Object.entries(texts).map(([name, [text]]) => [name, text]));
  const { config, origins } = await load({ env });
  for (const { path, names, key } of allKeys()) {
    assert(key.env in texts, `${key.env} is missing here`);
    assert.deepEqual(valueOf(config, names), texts[key.env]?.[1], path);
    assert.equal(origins.get(path), `environment ${key.env}`);
  }
  assert.equal(Object.keys(texts).length, allKeys().length);
});

Deno.test("config: the environment's names have the prefixes that the sandbox allows, and no two share one", () => {
  const names = allKeys().map(({ key }) => key.env);
  for (const name of names) {
    assert.match(name, /^(DAEMON|OPENAI|ANTHROPIC|LANGGRAPH)_[A-Z0-9_]+$|^DAEMON_LOG$/);
  }
  assert.equal(new Set(names).size, names.length);
});

Deno.test("config: is frozen to its leaves, and plain data that a worker can be sent", async () => {
  const { config } = await load({ toml: `[backend.openai.body]\na = { b = [1] }\n` });
  const frozen = (value: unknown): boolean =>
    typeof value !== "object" || value === null ||
    (Object.isFrozen(value) && Object.values(value).every(frozen));
  assert(frozen(config));
  assert.deepEqual(structuredClone(config), config);
});

Deno.test("config: socket_mode in each of its spellings", async () => {
  for (const spelling of ["0o660", "0660", "660"]) {
    const { config } = await load({ toml: `[server]\nsocket_mode = "${spelling}"` });
    assert.equal(config.server.socketMode, 0o660);
  }
});

Deno.test("config: listen_addr in each of its spellings", async () => {
  const spellings: [string, string, number][] = [
    ["127.0.0.1:9090", "127.0.0.1", 9090],
    ["localhost:1", "localhost", 1],
    ["[::1]:9090", "::1", 9090],
    ["[::ffff:127.0.0.1]:1", "::ffff:127.0.0.1", 1],
    ["a-b_c.d.:1", "a-b_c.d.", 1],
    [":9090", "0.0.0.0", 9090],
    ["0.0.0.0:65535", "0.0.0.0", 65535],
  ];
  for (const [spelling, hostname, port] of spellings) {
    const { config } = await load({ env: { DAEMON_METRICS_ADDR: spelling } });
    assert.deepEqual(config.metrics.listenAddr, { hostname, port });
  }
});

Deno.test("config: a refused value is named with source, key, value and what is expected", async () => {
  const mode = `permission bits in octal as a string, such as "0o660", "0660" or "660"`;
  const addr = `"host:port", such as "127.0.0.1:9090", "[::1]:9090" or ":9090"`;
  const url = "an http:// or https:// URL without user info, query or fragment";
  const levels =
    'a table with a level (debug, info, warning, error) for each part, such as { backend = "debug" } ' +
    "(in the environment: backend=debug,handoff=warning)";
  const secs = "a number of seconds from 0.001 to 86400";
  const cases: [toml: string, line: string][] = [
    [
      `[server]\nworkers = "many"`,
      `server.workers = "many": expected "auto" or a whole number from 1 to 256`,
    ],
    [
      `backend.module.options = { since = 2026-01-01 }`,
      "backend.module.options = (hidden): expected a table without dates, inf and nan (in the environment: a JSON object)",
    ],
    [
      `backend.openai.body = { top_p = inf }`,
      `backend.openai.body = {"top_p":"Infinity"}: expected a table without dates, inf and nan (in the environment: a JSON object)`,
    ],
    [`server.workers = 0`, `server.workers = 0: expected "auto" or a whole number from 1 to 256`],
    [`server.workers = 1.5`, `server.workers = 1.5: expected "auto" or a whole number from 1 to 256`],
    [
      `server.max_connections = "9"`,
      `server.max_connections = "9": expected a whole number from 1 to 10000000`,
    ],
    [`server.socket_mode = 660`, `server.socket_mode = 660: expected ${mode}`],
    [`server.socket_mode = "0668"`, `server.socket_mode = "0668": expected ${mode}`],
    [`server.socket_mode = "1660"`, `server.socket_mode = "1660": expected ${mode}`],
    [`server.socket_path = ""`, `server.socket_path = "": expected a path of at most 107 bytes`],
    [
      `server.socket_path = "/a\\u0000b"`,
      `server.socket_path = "/a\\u0000b": expected a path of at most 107 bytes`,
    ],
    [`server.handoff_timeout_secs = 0`, `server.handoff_timeout_secs = 0: expected ${secs}`],
    [`server.handoff_timeout_secs = nan`, `server.handoff_timeout_secs = "NaN": expected ${secs}`],
    [`server.handoff_timeout_secs = 1e9`, `server.handoff_timeout_secs = 1000000000: expected ${secs}`],
    [`server.write_timeout_secs = true`, `server.write_timeout_secs = true: expected ${secs}`],
    [
      `server.allowed_uids = [4294967295]`, // (uid_t) -1, nobody's
      `server.allowed_uids = [4294967295]: expected a list of numeric user ids`,
    ],
    [
      `server.allowed_uids = ["www-data"]`,
      `server.allowed_uids = ["www-data"]: expected a list of numeric user ids`,
    ],
    [`backend.provider = "opnai"`, `backend.provider = "opnai": expected ${PROVIDERS}`],
    [
      `backend.request_members = ["tools", "stream"]`,
      `backend.request_members = ["tools","stream"]: expected a list of names of members, none of ` +
      "max_completion_tokens, max_tokens, messages, model, n, stream, stream_options, temperature",
    ],
    [
      `response.include = ["usage", "cost"]`,
      `response.include = ["usage","cost"]: expected a list of usage, finish, reasoning, tool_calls`,
    ],
    [`backend.mock = 4`, `backend.mock = 4: expected a table, [backend.mock]`],
    [`backend.openai = "sk-0"`, `backend.openai = (a text): expected a table, [backend.openai]`],
    [
      `[[backend.openai]]\napi_key = "sk-0"`,
      `backend.openai = (a list): expected a table, [backend.openai]`,
    ],
    ...["h", "h:70000", "*:1", "a..b:1", "[:::]:1", "h:1,i:2", "http://h:1"].map((host): [string, string] => [
      `backend.module.allow_net = ["${host}"]`,
      `backend.module.allow_net = ["${host}"]: expected a list of "host:port", such as "127.0.0.1:11434" or ` +
      `"[::1]:11434"`,
    ]),
    [
      `backend.module.allow_read = ["a"]`,
      `backend.module.allow_read = ["a"]: expected a list of paths that begin with /, without commas`,
    ],
    [
      `backend.module.allow_read = ["/a,b"]`, // to Deno, two
      `backend.module.allow_read = ["/a,b"]: expected a list of paths that begin with /, without commas`,
    ],
    [
      `backend.openai.headers = { "X-A" = "a\\nb" }`,
      "backend.openai.headers = (hidden): expected a table of HTTP header names and values (in the environment: " +
      "a JSON object)",
    ],
    [`backend.openai.http2 = "yes"`, `backend.openai.http2 = "yes": expected true or false`],
    [`backend.openai.api_base = "localhost"`, `backend.openai.api_base = "localhost": expected ${url}`],
    [
      `backend.openai.api_base = "https://me:pw@h/"`,
      `backend.openai.api_base = "https://(hidden)@h/": expected ${url}`,
    ],
    [
      `backend.openai.api_base = "https://me:p@s/s@h/"`,
      `backend.openai.api_base = "https://(hidden)@h/": expected ${url}`,
    ],
    [
      `backend.openai.api_base = "https://h/v1?key=sk-0"`,
      `backend.openai.api_base = "https://h/v1?(hidden)": expected ${url}`,
    ],
    ...["::1:90", "*:90", "a..b:90", "h,i:90", "[:::]:90"].map((host): [string, string] => [
      `metrics.listen_addr = "${host}"`,
      `metrics.listen_addr = "${host}": expected ${addr}`,
    ]),
    [
      `backend.openai.api_socket = "llm.sock"`,
      `backend.openai.api_socket = "llm.sock": expected a path of at most 107 bytes that begins with /, or "" for none`,
    ],
    [`backend.openai.api_base = "http://*/v1"`, `backend.openai.api_base = "http://*/v1": expected ${url}`],
    [`metrics.listen_addr = "h:70000"`, `metrics.listen_addr = "h:70000": expected ${addr}`],
    [
      `logging.parts = { backend = "warn" }`,
      `logging.parts = {"backend":"warn"}: expected ${levels}`,
    ],
    [
      `logging.parts = "backend=debug"`,
      `logging.parts = "backend=debug": expected ${levels}`,
    ],
  ];
  for (const [toml, line] of cases) assert.equal(await refusal({ toml }), `file /etc/d.toml: ${line}`);
});

Deno.test("config: a refused value of the environment or of a flag is named as written", async () => {
  assert.equal(
    await refusal({ env: { DAEMON_WORKERS: "" } }),
    `environment DAEMON_WORKERS: server.workers = "": expected "auto" or a whole number from 1 to 256`,
  );
  assert.equal(
    await refusal({ env: { OPENAI_HTTP2_ENABLED: "on" } }),
    `environment OPENAI_HTTP2_ENABLED: backend.openai.http2 = "on": expected true or false`,
  );
  assert.equal(
    await refusal({ flags: [{ key: "backend.provider", flag: "--backend", text: "gpt" }] }),
    `flag --backend: backend.provider = "gpt": expected ${PROVIDERS}`,
  );
  for (const filter of ["backend", "backend=", "=debug", "a=debug,", "a=debug=info", "A=debug"]) {
    assert.match(
      await refusal({ env: { DAEMON_LOG: filter } }),
      /^environment DAEMON_LOG: logging\.parts = ".*": /,
    );
  }
});

Deno.test("config: an unknown part of the log names the nearest known one", async () => {
  assert.equal(
    await refusal({ env: { DAEMON_LOG: "bakend=debug,handoff=warning,streams=info" } }),
    "environment DAEMON_LOG: logging.parts: unknown part bakend; the nearest known one is backend\n" +
      "environment DAEMON_LOG: logging.parts: unknown part streams; the nearest known one is stream",
  );
  assert.equal(
    await refusal({ toml: '[logging.parts]\nhandof = "debug"' }),
    "file /etc/d.toml: logging.parts: unknown part handof; the nearest known one is handoff",
  );
});

Deno.test("config: an unknown key names the nearest known one", async () => {
  const cases: [toml: string, key: string, nearest: string][] = [
    [`[server]\nmax_conections = 1`, "server.max_conections", "server.max_connections"],
    [`max_connections = 1`, "max_connections", "server.max_connections"],
    [`[sever]\nworkers = 1`, "sever", "server"],
    [`[backend]\napi_key = "x"`, "backend.api_key", "backend.openai.api_key"],
    [`[backend.openai]\ntimeout_secs = 1`, "backend.openai.timeout_secs", "backend.timeout_secs"],
    [`[server]\nhandoffTimeoutMs = 1`, "server.handoffTimeoutMs", "server.handoff_timeout_secs"],
    [`[server]\ngroup = "apache"`, "server.group", "server.socket_group"],
    [`[metrics]\naddr = ":80"`, "metrics.addr", "metrics.listen_addr"],
    [`[backend.openai]\nbase_url = "x"`, "backend.openai.base_url", "backend.openai.api_base"],
    [`[backend.openai]\nkey = "x"`, "backend.openai.key", "backend.openai.api_key"],
    [`[server]\nsocket = "x"`, "server.socket", "server.socket_path"],
    [`[log]\nlevel = "info"`, "log", "logging"],
  ];
  for (const [toml, key, nearest] of cases) {
    assert.equal(
      await refusal({ toml }),
      `file /etc/d.toml: unknown key ${key}; the nearest known one is ${nearest}`,
    );
  }
});

Deno.test("config: names of Object's own properties are unknown keys like others", async () => {
  for (const name of ["__proto__", "constructor", "toString"]) {
    assert.match(await refusal({ toml: `[server]\n${name} = 1` }), /unknown key server\.\w+; the nearest/);
  }
});

Deno.test("config: several problems are one line each", async () => {
  const message = await refusal({
    toml: `nope = 1\n[server]\nworkers = 0\n`,
    env: { DAEMON_LOG_LEVEL: "loud" },
  });
  const lines = message.split("\n");
  assert.equal(lines.length, 3);
  assert.match(lines[0] ?? "", /^file \/etc\/d\.toml: unknown key nope/);
  assert.match(lines[1] ?? "", /^file \/etc\/d\.toml: server\.workers = 0: /);
  assert.match(lines[2] ?? "", /^environment DAEMON_LOG_LEVEL: logging\.level = "loud": /);
});

Deno.test("config: a refused secret is not shown", async () => {
  const message = await refusal({
    toml: `[backend.openai]\napi_key = "sk geheim"\nheaders = { "a b" = "geheim" }\n`,
    env: { OPENAI_API_KEY: "geheim\n" },
  });
  assert(!message.includes("geheim"), message);
  assert.match(
    message,
    /^environment OPENAI_API_KEY: backend\.openai\.api_key = \(hidden\): expected visible ASCII/,
  );
});

Deno.test("config: TOML that does not parse is refused with its place, and without its text", async () => {
  const message = await refusal({ toml: `[server]\n\n[backend.openai]\napi_key = "geheim\n` });
  assert.match(message, /^file \/etc\/d\.toml:4:\d+: not valid TOML: /);
  assert(!message.includes("geheim") && !message.includes("\n"), message);
});

Deno.test("config: TOML that does not parse names the key, where it is one, and what is expected", async () => {
  const cases: [toml: string, message: string][] = [
    [
      "[server]\nsocket_path = /run/x",
      '2:15: not valid TOML: invalid value; expected such as socket_path = "text", 5 or true',
    ],
    [
      '[backend.openai]\napi_key = "a\ngeheim=="',
      "2:13: not valid TOML: control characters are not allowed in strings",
    ],
    [
      "[backend.openai]\ngeheim==",
      '2:8: not valid TOML: invalid value; expected such as key = "text", 5 or true',
    ],
    [
      "[server]\n; text",
      '2:1: not valid TOML: illegal character in key; expected such as key = "text", 5 or true',
    ],
    [
      "[server]\nworkers = 1\nworkers = 2",
      "3:1: not valid TOML: trying to redefine an already defined table or value",
    ],
  ];
  for (const [toml, message] of cases) assert.equal(await refusal({ toml }), `file /etc/d.toml:${message}`);
});

Deno.test("config: a file that cannot be read is refused with the reason and the way out", async () => {
  const cases: [error: Error, reason: string][] = [
    [new Deno.errors.NotFound("x"), "there is no such file"],
    [
      new Deno.errors.NotCapable("x"),
      "the sandbox denies it; start with --allow-read=/c.toml besides the other permissions",
    ],
    [new Deno.errors.PermissionDenied("x"), "permission denied; the daemon's user must be able to read it"],
    [new DOMException("x", "TimeoutError"), "it did not come to an end in time"],
    [new Error("Is a directory (os error 21)"), "Is a directory (os error 21)"],
  ];
  for (const [error, reason] of cases) {
    const loading = loadConfig({
      path: "/c.toml",
      env: () => undefined,
      readTextFile: () => Promise.reject(error),
    });
    await assert.rejects(loading, {
      name: "ConfigError",
      message: `file /c.toml: cannot read the configuration: ${reason}`,
      cause: error,
    });
  }
});

Deno.test("config: the two sockets need two paths that fit", async () => {
  assert.equal(
    await refusal({ toml: `[server]\nsocket_path = "/a"\nstream_socket_path = "/a"\n` }),
    `file /etc/d.toml: server.stream_socket_path = "/a": expected another path than server.socket_path`,
  );
  const longest = "/".padEnd(107, "x");
  assert.equal(
    await refusal({ env: { DAEMON_SOCKET_PATH: longest } }),
    `environment DAEMON_SOCKET_PATH: server.socket_path = "${longest}": expected a path that with ".stream" ` +
      "has at most 107 bytes, or a server.stream_socket_path",
  );
  const { config } = await load({ env: { DAEMON_SOCKET_PATH: longest, DAEMON_STREAM_SOCKET_PATH: "" } });
  assert.equal(config.server.socketPath, longest);
  await refusal({ env: { DAEMON_SOCKET_PATH: `${longest}x`, DAEMON_STREAM_SOCKET_PATH: "" } });
  await refusal({ env: { DAEMON_SOCKET_PATH: "/".padEnd(106, "ü"), DAEMON_STREAM_SOCKET_PATH: "" } });
});

Deno.test("config: a provider needs a key at its own address only", async () => {
  const openai = { DAEMON_BACKEND_PROVIDER: "openai" };
  assert.equal(
    await refusal({ env: openai }),
    `default: backend.openai.api_key = "": expected a key for https://api.openai.com/v1, ` +
      "best in the environment OPENAI_API_KEY",
  );
  await load({ env: { ...openai, OPENAI_API_KEY: "sk-1" } });
  await load({ env: { ...openai, OPENAI_API_BASE: "http://127.0.0.1:1/v1" } });
  await load({ env: { ...openai, OPENAI_API_SOCKET: "/s" } });
  const anthropic = { DAEMON_BACKEND_PROVIDER: "anthropic" };
  assert.equal(
    await refusal({ env: anthropic }),
    `default: backend.anthropic.api_key = "": expected a key for https://api.anthropic.com/v1, ` +
      "best in the environment ANTHROPIC_API_KEY",
  );
  await load({ env: { ...anthropic, ANTHROPIC_API_KEY: "sk-ant-1" } });
});

Deno.test("config: its description is TOML that gives the same configuration, with origins", async () => {
  const toml = `
    [server]
    socket_mode = "060"
    workers = 3
    handoff_timeout_secs = 1.001
    allowed_uids = [33, 0]
    [backend]
    default_model = 'a "b" \\ ü'
    [backend.openai.body]
    tier = { "odd key" = [1.5, true, "x"] }
    [metrics]
    listen_addr = "[::1]:9"
    [logging]
    parts = { backend = "debug" }
  `;
  const loaded = await load({ toml });
  const described = describeConfig(loaded);
  assert.deepEqual((await load({ toml: described })).config, loaded.config);
  const lines = described.split("\n");
  assert(lines.includes(`workers = 3 # file /etc/d.toml`));
  assert(lines.includes(`socket_mode = "0o060" # file /etc/d.toml`));
  assert(lines.includes("handoff_timeout_secs = 1.001 # file /etc/d.toml"));
  assert(lines.includes(`level = "info" # default`));
});

Deno.test("config: what TOML has no word for is left out of the description", async () => {
  const described = describeConfig(await load({ env: { OPENAI_BODY: `{"a":null,"b":[1]}` } }));
  assert.match(described, /^body = \{ b = \[1\] \} # environment OPENAI_BODY$/m);
});

Deno.test("config: its description says of secrets only that they are set", async () => {
  const env = { OPENAI_API_KEY: "geheim", OPENAI_HEADERS: `{"X-Key":"geheim"}` };
  const described = describeConfig(await load({ env }));
  assert(!described.includes("geheim"));
  assert.match(described, /^api_key = "\(set\)" # environment OPENAI_API_KEY$/m);
  assert.match(described, /^headers = \{ X-Key = "\(set\)" \} # environment OPENAI_HEADERS$/m);
  assert.match(describeConfig(await load()), /^api_key = "" # default$/m);
});

Deno.test("config: a reload takes over what needs no restart and names the rest", async () => {
  const { config: running } = await load({ toml: `server.workers = 2` });
  const { config: next } = await load({
    toml: `
      [server]
      workers = 3
      socket_path = "/new"
      max_connections = 5
      write_timeout_secs = 1
      [backend.openai]
      headers = { a = "b" }
      [logging]
      level = "debug"
    `,
  });
  const { config, changed, needRestart } = configChanges(running, next);
  assert.deepEqual(changed, [
    "server.max_connections",
    "server.write_timeout_secs",
    "backend.openai.headers",
    "logging.level",
  ]);
  assert.deepEqual(needRestart, ["server.socket_path", "server.stream_socket_path", "server.workers"]);
  assert.deepEqual(config, {
    ...next,
    server: { ...running.server, maxConnections: 5, writeTimeoutMs: 1000 },
  });
  assert(Object.isFrozen(config.server));
  assert.deepEqual(configChanges(running, running), { config: running, changed: [], needRestart: [] });
});

Deno.test("config: only sockets, workers, the store of streams, metrics and the log's format need a restart", () => {
  const restart = allKeys().filter(({ key }) => key.restart).map(({ path }) => path);
  assert.deepEqual(restart, [
    "server.socket_path",
    "server.stream_socket_path",
    "server.socket_mode",
    "server.socket_group",
    "server.workers",
    "resume.store",
    "resume.redis_url",
    "resume.redis_ca_file",
    "metrics.enabled",
    "metrics.listen_addr",
    "logging.format",
  ]);
});

Deno.test("config: config/daemon.toml lists exactly the keys of the code, with default, variable and doc", async () => {
  const file = await Deno.readTextFile(new URL("../../config/daemon.toml", import.meta.url));
  assert.deepEqual(
    (await load({ toml: file })).config,
    (await load()).config,
    "as it is, it changes nothing",
  );

  const uncommented = file.replaceAll(/^#(?=\w+ = )/gm, "");
  const { config, origins } = await load({ toml: uncommented });
  assert.deepEqual(config, (await load()).config, "its values are the defaults");
  for (const { path } of allKeys()) assert.equal(origins.get(path), "file /etc/d.toml", `${path} is missing`);
  assert.doesNotThrow(() => parseToml(uncommented));

  for (const { key } of allKeys()) {
    const head = `# ${key.doc}\n# ${key.env}${key.restart ? ", restart" : ""}\n#${key.name} = `;
    assert(file.includes(head), `expected in config/daemon.toml:\n${head}`);
  }
});

Deno.test("config: a store needs its URL, which is never shown", async () => {
  const store = { DAEMON_RESUME_STORE: "redis" };
  assert.equal(
    await refusal({ env: store }),
    'default: resume.redis_url = "": expected the URL of a server, since resume.store is "redis"',
  );
  const bad = [
    "geheim",
    "http://u:geheim@cache:1",
    "redis://",
    "redis://a..geheim",
    "redis://u:100%geheim@cache",
    "redis://cache/geheim",
    "redis://cache/1/2",
    "redis://cache?db=1",
  ];
  for (const url of bad) {
    assert.equal(
      await refusal({ env: { ...store, DAEMON_RESUME_REDIS_URL: url } }),
      "environment DAEMON_RESUME_REDIS_URL: resume.redis_url = (hidden): " +
        'expected a URL as redis://user:password@host:6379/2 or rediss://host, with %25 for a "%", or "" for none',
    );
  }
  for (const url of ["redis://[::1]:7", "rediss://u:100%25@cache.internal:6380/2", "redis://:p@cache/"]) {
    assert.equal(
      (await load({ env: { ...store, DAEMON_RESUME_REDIS_URL: url } })).config.resume.redisUrl,
      url,
    );
  }
  const described = describeConfig(
    await load({ env: { ...store, DAEMON_RESUME_REDIS_URL: "rediss://u:geheim@cache" } }),
  );
  assert.match(described, /^redis_url = "\(set\)" # environment DAEMON_RESUME_REDIS_URL$/m);
});

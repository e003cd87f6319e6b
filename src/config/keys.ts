/**
 * The one table of configuration keys: the schema, the environment, `--check`, the suggestions for unknown keys and
 * the test of `config/daemon.toml` all come from here.
 * @module
 */
import { INCLUDES, RESPONSE_FORMATS } from "../protocol/response_choice.ts";
import { httpKeys } from "./http_keys.ts";
import { LOG_LEVELS, LOG_PARTS } from "./log_words.ts";
import {
  bool,
  DAY_SECS,
  fileMode,
  hosts,
  integer,
  jsonObject,
  levelsByPart,
  listenAddr,
  names,
  oneOf,
  paths,
  redisUrl,
  requestMembers,
  seconds,
  secret,
  socketPath,
  someOf,
  text,
  uids,
  type ValueType,
  workers,
} from "./types.ts";

/** The providers that `backend.provider` can name. */
export const BACKEND_PROVIDERS = [
  "mock",
  "openai",
  "openai-responses",
  "anthropic",
  "langgraph",
  "module",
] as const;
/** One of {@linkcode BACKEND_PROVIDERS}. */
export type BackendProvider = typeof BACKEND_PROVIDERS[number];

/** One key. The property that holds it in {@linkcode KEYS} is its name in `Config`. */
export interface Key<Value> {
  /** Its name in its TOML table. */
  readonly name: string;
  readonly env: string;
  readonly type: ValueType<Value>;
  /** As TOML would give it. */
  readonly default: unknown;
  /** One line for `config/daemon.toml`, its unit included. */
  readonly doc: string;
  /** SIGHUP does not change it. */
  readonly restart?: true;
  /** Its value, or that of its members, is never printed. */
  readonly secret?: true;
  /** Of `[backend]` alone: no backend with a name has it. */
  readonly defaultOnly?: true;
}

/** The tables of the file as groups, in its order. */
export const KEYS = {
  server: {
    socketPath: {
      name: "socket_path",
      env: "DAEMON_SOCKET_PATH",
      type: socketPath({ orNone: false }),
      default: "/var/run/streaming-daemon-ts.sock",
      doc: "Unix socket of type SOCK_SEQPACKET that takes handoffs from mod_socket_handoff.",
      restart: true,
    },
    streamSocketPath: {
      name: "stream_socket_path",
      env: "DAEMON_STREAM_SOCKET_PATH",
      type: socketPath({ orNone: true }),
      default: undefined, // socket_path + ".stream", see loadConfig
      doc:
        `The same of type SOCK_STREAM, for mod_proxy_fdpass and nc -U; "": none. Default: socket_path + ".stream".`,
      restart: true,
    },
    socketMode: {
      name: "socket_mode",
      env: "DAEMON_SOCKET_MODE",
      type: fileMode(),
      default: "0o660",
      doc: "Permission bits of both sockets, in octal.",
      restart: true,
    },
    socketGroup: {
      name: "socket_group",
      env: "DAEMON_SOCKET_GROUP",
      type: text(),
      default: "",
      doc: `Group of both sockets, such as www-data; "": left as it is.`,
      restart: true,
    },
    maxConnections: {
      name: "max_connections",
      env: "DAEMON_MAX_CONNECTIONS",
      type: integer(1, 10_000_000),
      default: 100_000,
      doc: "Clients at a time; more get a 503. Capped to what the limit of open files allows.",
    },
    workers: {
      name: "workers",
      env: "DAEMON_WORKERS",
      type: workers(256),
      default: "auto",
      doc: `Threads that serve clients; "auto": one per core.`,
      restart: true,
    },
    handoffTimeoutMs: {
      name: "handoff_timeout_secs",
      env: "DAEMON_HANDOFF_TIMEOUT_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 5,
      doc: "Seconds from accepting a handoff to having all of its data.",
    },
    handoffBufferBytes: {
      name: "handoff_buffer_bytes",
      env: "DAEMON_HANDOFF_BUFFER_BYTES",
      type: integer(1024, 16_777_216),
      default: 131_072,
      doc: "Bytes of handoff data that are taken at most.",
    },
    writeTimeoutMs: {
      name: "write_timeout_secs",
      env: "DAEMON_WRITE_TIMEOUT_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 30,
      doc: "Seconds without progress after which a client that does not read is given up.",
    },
    heartbeatMs: {
      name: "heartbeat_secs",
      env: "DAEMON_HEARTBEAT_SECS",
      type: seconds(0, DAY_SECS),
      default: 0,
      doc: "Seconds of silence after which a client gets a comment as a sign of life; 0: none.",
    },
    maxStreamMs: {
      name: "max_stream_secs",
      env: "DAEMON_MAX_STREAM_SECS",
      type: seconds(0, 7 * DAY_SECS),
      default: 0,
      doc: "Seconds that a stream may last; 0: as long as it likes.",
    },
    shutdownTimeoutMs: {
      name: "shutdown_timeout_secs",
      env: "DAEMON_SHUTDOWN_TIMEOUT_SECS",
      type: seconds(0, DAY_SECS),
      default: 120,
      doc: "Seconds that streams have to finish after SIGTERM.",
    },
    allowedUids: {
      name: "allowed_uids",
      env: "DAEMON_ALLOWED_UIDS",
      type: uids(),
      default: [],
      doc:
        "Numeric user ids that may hand off; []: any that socket_mode lets in. In the environment: 33,1000.",
    },
  },
  backend: {
    provider: {
      name: "provider",
      env: "DAEMON_BACKEND_PROVIDER",
      type: oneOf(BACKEND_PROVIDERS),
      default: "mock",
      doc:
        `Who answers: "mock", "openai" (any API of that style), "openai-responses", "anthropic", "langgraph" or "module" (one's own).`,
    },
    defaultModel: {
      name: "default_model",
      env: "DAEMON_DEFAULT_MODEL",
      type: text("the name of a model", (value) => value !== ""),
      default: "gpt-4o",
      doc: "Model of requests that name none.",
    },
    timeoutMs: {
      name: "timeout_secs",
      env: "DAEMON_BACKEND_TIMEOUT_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 120,
      doc: "Seconds to the head of the provider's response, and between its events.",
    },
    requestMembers: {
      name: "request_members",
      env: "DAEMON_REQUEST_MEMBERS",
      type: requestMembers(),
      default: [
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
      doc: "Members of the provider's request that a handoff may set in its request object.",
    },
    models: {
      name: "models",
      env: "DAEMON_BACKEND_MODELS",
      type: names("models, or of how they begin"),
      default: [],
      doc: "How the models begin that this backend is asked for; of several that fit, the longest counts.",
    },
    selectable: {
      name: "selectable",
      env: "DAEMON_BACKEND_SELECTABLE",
      type: names("backends"),
      default: [],
      doc: `Names of [backends.NAME] that a handoff may ask for in its field backend; "default" is this one.`,
      defaultOnly: true,
    },
    fallback: {
      name: "fallback",
      env: "DAEMON_BACKEND_FALLBACK",
      type: names("backends"),
      default: [],
      doc:
        `Names of [backends.NAME] that are asked one after the other where this one fails before its answer begins.`,
    },
    fallbackAfterMs: {
      name: "fallback_after_secs",
      env: "DAEMON_BACKEND_FALLBACK_AFTER_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 30,
      doc:
        "Seconds to the first piece of an answer, after which the next backend is asked, where there is one.",
    },
    maxStreams: {
      name: "max_streams",
      env: "DAEMON_BACKEND_MAX_STREAMS",
      type: integer(0, 10_000_000),
      default: 0,
      doc: "Streams that it has at a time, an equal part for each worker; more wait. 0: any number.",
    },
    queueMs: {
      name: "queue_secs",
      env: "DAEMON_BACKEND_QUEUE_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 10,
      doc: "Seconds that a stream waits for its place at most.",
    },
    queueLength: {
      name: "queue_length",
      env: "DAEMON_BACKEND_QUEUE_LENGTH",
      type: integer(0, 1_000_000),
      default: 1000,
      doc: "Streams that wait at a time, an equal part for each worker; more get a 503. 0: none waits.",
    },
    circuitFailures: {
      name: "circuit_failures",
      env: "DAEMON_BACKEND_CIRCUIT_FAILURES",
      type: integer(0, 1_000_000),
      default: 0,
      doc:
        "Failures in a row, of one worker, after which it is left alone for a while; 0: it is always asked.",
    },
    circuitWithinMs: {
      name: "circuit_within_secs",
      env: "DAEMON_BACKEND_CIRCUIT_WITHIN_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 60,
      doc: "Seconds within which these have to come.",
    },
    circuitPauseMs: {
      name: "circuit_pause_secs",
      env: "DAEMON_BACKEND_CIRCUIT_PAUSE_SECS",
      type: seconds(0.001, DAY_SECS),
      default: 30,
      doc: "Seconds until one stream tries whether it answers again.",
    },
    mock: {
      tokenDelayMs: {
        name: "token_delay_ms",
        env: "DAEMON_TOKEN_DELAY_MS",
        type: integer(0, 3_600_000),
        default: 50,
        doc: "Milliseconds between two pieces of the answer.",
      },
    },
    openai: {
      ...httpKeys("OPENAI", "https://api.openai.com/v1"),
      organization: {
        name: "organization",
        env: "OPENAI_ORG_ID",
        type: secret(),
        default: "",
        doc: `Sent as OpenAI-Organization; "": not sent.`,
      },
      project: {
        name: "project",
        env: "OPENAI_PROJECT_ID",
        type: secret(),
        default: "",
        doc: `Sent as OpenAI-Project; "": not sent.`,
      },
      includeUsage: {
        name: "include_usage",
        env: "OPENAI_INCLUDE_USAGE",
        type: bool(),
        default: true,
        doc: "Ask for the count of tokens at the end of each stream.",
      },
    },
    openai_responses: {
      ...httpKeys("OPENAI_RESPONSES", "https://api.openai.com/v1"),
      organization: {
        name: "organization",
        env: "OPENAI_RESPONSES_ORG_ID",
        type: secret(),
        default: "",
        doc: `Sent as OpenAI-Organization; "": not sent.`,
      },
      project: {
        name: "project",
        env: "OPENAI_RESPONSES_PROJECT_ID",
        type: secret(),
        default: "",
        doc: `Sent as OpenAI-Project; "": not sent.`,
      },
    },
    anthropic: {
      ...httpKeys("ANTHROPIC", "https://api.anthropic.com/v1"),
      maxTokens: {
        name: "max_tokens",
        env: "ANTHROPIC_MAX_TOKENS",
        type: integer(1, 10_000_000),
        default: 4096,
        doc: "Tokens of an answer at most, of handoffs that do not say.",
      },
    },
    langgraph: {
      ...httpKeys("LANGGRAPH", "http://127.0.0.1:2024"),
      assistantId: {
        name: "assistant_id",
        env: "LANGGRAPH_ASSISTANT_ID",
        type: text("the name or id of an assistant", (value) => value !== ""),
        default: "agent",
        doc: "Assistant or graph that runs, of handoffs that do not say.",
      },
    },
    module: {
      path: {
        name: "path",
        env: "DAEMON_MODULE_PATH",
        type: text("a path"),
        default: "",
        doc: "Module, in TypeScript or JavaScript, whose default export makes the backend.",
      },
      options: {
        name: "options",
        env: "DAEMON_MODULE_OPTIONS",
        type: jsonObject(),
        default: {},
        doc: `What that function gets. Values are never printed. In the environment: {"url":"http://…"}.`,
        secret: true,
      },
      allowNet: {
        name: "allow_net",
        env: "DAEMON_MODULE_ALLOW_NET",
        type: hosts(),
        default: [],
        doc: `Hosts that the module may reach, as "host:port"; no others.`,
      },
      allowRead: {
        name: "allow_read",
        env: "DAEMON_MODULE_ALLOW_READ",
        type: paths(),
        default: [],
        doc: "Files and folders that the module may read, such as modules that it imports, besides itself.",
      },
    },
  },
  response: {
    format: {
      name: "format",
      env: "DAEMON_RESPONSE_FORMAT",
      type: oneOf(RESPONSE_FORMATS),
      default: "content",
      doc: `What the answer is written as, of handoffs that do not say: "content", "openai" or "ai-sdk".`,
    },
    include: {
      name: "include",
      env: "DAEMON_RESPONSE_INCLUDE",
      type: someOf(INCLUDES),
      default: [],
      doc:
        "What goes to the browser besides the text, of handoffs that do not say: usage, finish, reasoning, tool_calls.",
    },
  },
  resume: {
    keepMs: {
      name: "keep_secs",
      env: "DAEMON_RESUME_KEEP_SECS",
      type: seconds(0, DAY_SECS),
      default: 300,
      doc: "Seconds that a stream with an id is kept after its end; 0: not at all.",
    },
    maxStreamBytes: {
      name: "max_stream_bytes",
      env: "DAEMON_RESUME_MAX_STREAM_BYTES",
      type: integer(1024, 1_073_741_824),
      default: 1_048_576,
      doc: "Bytes that are kept of one stream, the last ones.",
    },
    maxTotalBytes: {
      name: "max_total_bytes",
      env: "DAEMON_RESUME_MAX_TOTAL_BYTES",
      type: integer(0, 1_099_511_627_776),
      default: 67_108_864,
      doc: "Bytes that are kept of all streams together; each worker has its part.",
    },
    store: {
      name: "store",
      env: "DAEMON_RESUME_STORE",
      type: oneOf(["memory", "redis"]),
      default: "memory",
      doc:
        `Where streams are kept: "memory", or "redis" besides (Valkey or Redis), where several daemons meet.`,
      restart: true,
    },
    redisUrl: {
      name: "redis_url",
      env: "DAEMON_RESUME_REDIS_URL",
      type: redisUrl(),
      default: "",
      doc: "Its server, such as redis://cache.internal:6379; rediss:// with TLS. Never printed or logged.",
      restart: true,
      secret: true,
    },
    redisCaFile: {
      name: "redis_ca_file",
      env: "DAEMON_RESUME_REDIS_CA_FILE",
      type: text("a path"),
      default: "",
      doc: `PEM file of the certificates to trust with rediss://, in place of Mozilla's list; "": that list.`,
      restart: true,
    },
  },
  metrics: {
    enabled: {
      name: "enabled",
      env: "DAEMON_METRICS_ENABLED",
      type: bool(),
      default: true,
      doc: "Serve /metrics, /status, /healthz and /readyz.",
      restart: true,
    },
    listenAddr: {
      name: "listen_addr",
      env: "DAEMON_METRICS_ADDR",
      type: listenAddr(),
      default: "127.0.0.1:9090",
      doc: `Where: "host:port", "[::1]:9090", or ":9090" for every IPv4 address.`,
      restart: true,
    },
    models: {
      name: "models",
      env: "DAEMON_METRICS_MODELS",
      type: names("models"),
      default: [],
      doc: `Models besides default_model whose tokens are counted by name; of all others: "other".`,
    },
  },
  logging: {
    level: {
      name: "level",
      env: "DAEMON_LOG_LEVEL",
      type: oneOf(LOG_LEVELS),
      default: "info",
      doc: `Least level that is logged: "debug", "info", "warning" or "error".`,
    },
    parts: {
      name: "parts",
      env: "DAEMON_LOG",
      type: levelsByPart(LOG_LEVELS),
      default: {},
      doc: `Levels of single parts (${
        LOG_PARTS.join(", ")
      }). In the environment: backend=debug,handoff=warning.`,
    },
    format: {
      name: "format",
      env: "DAEMON_LOG_FORMAT",
      type: oneOf(["pretty", "json"]),
      default: "pretty",
      doc: `"pretty" for people, "json" for one object per line.`,
      restart: true,
    },
  },
} as const;

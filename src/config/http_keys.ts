/**
 * The keys that every provider has which is asked over HTTP: where it is, who asks, and how.
 * @module
 */
import {
  bool,
  DAY_SECS,
  httpHeaders,
  httpUrl,
  integer,
  jsonObject,
  seconds,
  secret,
  socketToAsk,
  text,
} from "./types.ts";

/**
 * Its keys.
 *
 * @param env what the names of their variables begin with, such as `OPENAI`
 * @param apiBase where it is by default
 */
// deno-lint-ignore explicit-module-boundary-types explicit-function-return-type -- the keys say their types
export function httpKeys(env: string, apiBase: string) {
  return {
    apiKey: {
      name: "api_key",
      env: `${env}_API_KEY`,
      type: secret(),
      default: "",
      doc: "Key of the API. Never printed or logged.",
      secret: true,
    },
    apiBase: {
      name: "api_base",
      env: `${env}_API_BASE`,
      type: httpUrl(),
      default: apiBase,
      doc: "Base URL of the API.",
    },
    apiSocket: {
      name: "api_socket",
      env: `${env}_API_SOCKET`,
      type: socketToAsk(),
      default: "",
      doc: `Unix socket to connect to in place of TCP; "": none.`,
    },
    http2: {
      name: "http2",
      env: `${env}_HTTP2_ENABLED`,
      type: bool(),
      default: true,
      doc: "HTTP/2, on http:// with prior knowledge; false: HTTP/1.1.",
    },
    insecureSsl: {
      name: "insecure_ssl",
      env: `${env}_INSECURE_SSL`,
      type: bool(),
      default: false,
      doc: "Accept any certificate. For tests only.",
    },
    poolMaxIdlePerHost: {
      name: "pool_max_idle_per_host",
      env: `${env}_POOL_MAX_IDLE_PER_HOST`,
      type: integer(0, 100_000),
      default: 100,
      doc: "Connections that are kept open without a request.",
    },
    caFile: {
      name: "ca_file",
      env: `${env}_CA_FILE`,
      type: text("a path"),
      default: "",
      doc: `PEM file of certificates to trust besides the system's; "": none.`,
    },
    headers: {
      name: "headers",
      env: `${env}_HEADERS`,
      type: httpHeaders(),
      default: {},
      doc: `Further request headers. Values are never printed. In the environment: {"X-Name":"value"}.`,
      secret: true,
    },
    body: {
      name: "body",
      env: `${env}_BODY`,
      type: jsonObject(),
      default: {},
      doc: `Further members of the request body. In the environment: {"service_tier":"flex"}.`,
    },
    maxRetries: {
      name: "max_retries",
      env: `${env}_MAX_RETRIES`,
      type: integer(0, 10),
      default: 2,
      doc: "Further tries of a request that failed before its response began.",
    },
    idleTimeoutMs: {
      name: "idle_timeout_secs",
      env: `${env}_IDLE_TIMEOUT_SECS`,
      type: seconds(0.001, DAY_SECS),
      default: 90,
      doc: "Seconds after which a connection without a request is closed.",
    },
    pingIntervalMs: {
      name: "ping_interval_secs",
      env: `${env}_PING_INTERVAL_SECS`,
      type: seconds(0, DAY_SECS),
      default: 30,
      doc: "Seconds between HTTP/2 PINGs that find a dead connection; 0: none.",
    },
  } as const;
}

/**
 * What a backend over HTTP is made with, and what of it cannot be used.
 * @module
 */

import { ConfigError } from "../../errors.ts";
import { proxyFor, type ProxySettings } from "../../upstream/proxy.ts";

/** The keys that each provider's table in the configuration has, and what else is needed. Empty strings mean none. */
export interface HttpOptions {
  readonly apiKey: string;
  /** With its path, such as `https://api.openai.com/v1`. */
  readonly apiBase: string;
  /** A Unix socket in place of TCP, without TLS; the address's host goes into the requests only. */
  readonly apiSocket: string;
  /** By ALPN on https://; on http:// with prior knowledge, and HTTP/1.1 if the server does not understand that. */
  readonly http2: boolean;
  readonly insecureSsl: boolean;
  /** PEM file with certificates to trust besides the system's. */
  readonly caFile: string;
  readonly poolMaxIdlePerHost: number;
  readonly idleTimeoutMs: number;
  /** HTTP/2: silence before a ping, and the longest wait for its answer; 0: no pings. */
  readonly pingIntervalMs: number;
  /** Further headers of each request. */
  readonly headers: Readonly<Record<string, string>>;
  /** Further fields of each request's body; the request's own win. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Further tries after the first, before the head only. */
  readonly maxRetries: number;
  /** What the daemon waits for the head: no pause is begun that would not end before. */
  readonly headTimeoutMs: number;
  readonly proxy: ProxySettings;
}

/** What a request's framing, its connection and the reading of its answer hang on: not a user's to set. */
const OWN_HEADERS = [
  "accept-encoding",
  "connection",
  "content-length",
  "expect",
  "host",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
];

/**
 * Looks through the options.
 *
 * @param table where they stand, such as `backend.openai`, for messages
 * @returns the address
 * @throws ConfigError the address, a header or the proxy cannot be used
 */
export function checkOptions(options: HttpOptions, table: string): URL {
  const base = URL.parse(options.apiBase);
  if (base === null || !/^https?:$/.test(base.protocol)) {
    throw new ConfigError(
      `${table}.api_base is ${JSON.stringify(options.apiBase)}; expected http(s)://host/path`,
    );
  }
  if (options.apiSocket === "" && proxyFor(base, options.proxy) !== null && options.insecureSsl) {
    throw new ConfigError(
      `${table}.insecure_ssl cannot be used through a proxy; expected a ca_file, or NO_PROXY`,
    );
  }
  for (const [name, value] of Object.entries(options.headers)) {
    if (OWN_HEADERS.includes(name.toLowerCase())) {
      throw new ConfigError(
        `${table}.headers has ${JSON.stringify(name)}, which the daemon sets itself; expected none of ` +
          OWN_HEADERS.join(", "),
      );
    }
    if (!isHeader(name, value)) {
      throw new ConfigError(`${table}.headers has ${JSON.stringify(name)}, which cannot be sent as a header`);
    }
  }
  return base;
}

/** Headers that say who asks, */
const KEY_HEADERS = /auth|cookie|key|secret|token/i;
/** and the shortest of their values that is no number or flag. */
const LEAST_KEY_CHARACTERS = 8;

/** What of the options no log may have: the key, and those in further headers, without a word before them such as Bearer. */
export function secretsOf({ apiKey, headers }: Pick<HttpOptions, "apiKey" | "headers">): readonly string[] {
  const keys = Object.entries(headers).filter(([name]) => KEY_HEADERS.test(name))
    .map(([, value]) => value.trim().replace(/^\w+ +/, ""))
    .filter((value) => value.length >= LEAST_KEY_CHARACTERS);
  return apiKey === "" ? keys : [apiKey, ...keys];
}

/** RFC 9110, section 5.1 and 5.5. */
export function isHeader(name: string, value: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9a-z-]+$/i.test(name) && /^[\x20-\x7e\x80-\xff\t]*$/.test(value);
}

/**
 * The certificates of `ca_file`, as PEM: one text, or none where no file is named.
 *
 * @param table see {@linkcode checkOptions}
 * @throws ConfigError it cannot be read, or is no certificate
 */
export function readCaCerts(path: string, table: string): readonly string[] {
  if (path === "") return [];
  try {
    const text = Deno.readTextFileSync(path);
    if (text.includes("-----BEGIN CERTIFICATE-----")) return [text];
  } catch (cause) {
    throw new ConfigError(`${table}.ca_file ${path} cannot be read: ${String(cause)}`, { cause });
  }
  throw new ConfigError(`${table}.ca_file ${path} has no certificate; expected PEM`);
}

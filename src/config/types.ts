/**
 * The types a configuration value can have: what is accepted, how it is read from text (environment, flags), and
 * how it is written as TOML.
 * @module
 */
import { z } from "zod";
import { OWN_MEMBERS } from "../protocol/handoff_request.ts";
import { hasReadableUser, isHost } from "./host.ts";

/** What is known about one type of value. `Value` is what the daemon gets, in the unit of the name. */
export interface ValueType<Value> {
  /** Follows "expected" in a message. */
  readonly expected: string;
  /** From what TOML gives to the value. */
  readonly schema: z.ZodType<Value>;
  /** From the text of an environment variable or flag to what TOML would give; `undefined` if it cannot be. */
  fromText(text: string): unknown;
  /** The value as TOML. */
  toToml(value: Value): string;
}

/** Where the metrics page is served. */
export interface ListenAddr {
  /** A name or address, IPv6 without brackets. */
  readonly hostname: string;
  readonly port: number;
}

const asText = (text: string): unknown => text;
const quote = (value: string): string => JSON.stringify(value).replaceAll("\x7f", "\\u007f");

function numberFromText(text: string): unknown {
  return /^[+-]?\d+(\.\d+)?$/.test(text.trim()) ? Number(text) : undefined;
}

function namesFromText(text: string): unknown {
  return text.trim() === "" ? [] : text.split(",").map((name) => name.trim());
}

function jsonFromText(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined; // the caller says what was expected
  }
}

/** Text of one line that `accepts` takes. */
export function text(
  expected = "a text of one line",
  accepts: (value: string) => boolean = () => true,
): ValueType<string> {
  return {
    expected,
    // deno-lint-ignore no-control-regex -- control characters are what is refused
    schema: z.string().refine((value) => !/[\0-\x1f\x7f]/.test(value) && accepts(value)),
    fromText: asText,
    toToml: quote,
  };
}

/** The longest path of a Unix socket: sun_path of unix(7) has 108 bytes, the NUL at the end included. */
export const MAX_SOCKET_PATH_BYTES = 107;

/** A path that connect(2) takes, and Deno's sandbox, which wants a whole one. */
export function socketToAsk(): ValueType<string> {
  const { expected, ...type } = socketPath({ orNone: true });
  return {
    ...type,
    expected: expected.replace("bytes", "bytes that begins with /"),
    schema: type.schema.refine((path) => path === "" || path.startsWith("/")),
  };
}

/** A path that bind(2) takes. */
export function socketPath(options: { readonly orNone: boolean }): ValueType<string> {
  return text(
    `a path of at most ${MAX_SOCKET_PATH_BYTES} bytes` + (options.orNone ? `, or "" for none` : ""),
    (value) =>
      (options.orNone || value !== "") && new TextEncoder().encode(value).length <= MAX_SOCKET_PATH_BYTES,
  );
}

/** One of the given words. */
export function oneOf<const Words extends readonly [string, ...string[]]>(
  words: Words,
): ValueType<Words[number]> {
  return {
    expected: words.map(quote).join(" or "),
    schema: z.enum(words) as unknown as z.ZodType<Words[number]>,
    fromText: asText,
    toToml: quote,
  };
}

/** Any of the given words; in text separated by commas. */
export function someOf<const Words extends readonly [string, ...string[]]>(
  words: Words,
): ValueType<readonly Words[number][]> {
  return {
    expected: `a list of ${words.join(", ")}`,
    schema: z.array(oneOf(words).schema),
    fromText: namesFromText,
    toToml: tomlValue,
  };
}

/** `true` or `false`; in text also `1` and `0`. */
export function bool(): ValueType<boolean> {
  const words: Readonly<Record<string, boolean>> = { true: true, "1": true, false: false, "0": false };
  return {
    expected: "true or false",
    schema: z.boolean(),
    fromText: (value) => Object.hasOwn(words, value) ? words[value] : undefined,
    toToml: String,
  };
}

/** A whole number, both ends included. */
export function integer(min: number, max: number): ValueType<number> {
  return {
    expected: `a whole number from ${min} to ${max}`,
    schema: z.int().min(min).max(max),
    fromText: numberFromText,
    toToml: String,
  };
}

/** The longest that most durations may be. */
export const DAY_SECS = 86_400;

/** Seconds, also fractional; the value is in whole milliseconds. */
export function seconds(minSecs: number, maxSecs: number): ValueType<number> {
  return {
    expected: `a number of seconds from ${minSecs} to ${maxSecs}`,
    schema: z.number().min(minSecs).max(maxSecs).transform((secs) => Math.round(secs * 1000)),
    fromText: numberFromText,
    toToml: (ms) => String(ms / 1000),
  };
}

/** How many workers: `"auto"` or a number. */
export function workers(max: number): ValueType<"auto" | number> {
  return {
    expected: `"auto" or a whole number from 1 to ${max}`,
    schema: z.union([z.literal("auto"), z.int().min(1).max(max)]),
    fromText: (value) => value === "auto" ? value : numberFromText(value),
    toToml: (value) => value === "auto" ? quote(value) : String(value),
  };
}

/** Permission bits of a file, written in octal. */
export function fileMode(): ValueType<number> {
  return {
    expected: `permission bits in octal as a string, such as "0o660", "0660" or "660"`,
    schema: z.string().regex(/^(0o|0)?[0-7]{3}$/).transform((value) => parseInt(value.slice(-3), 8)),
    fromText: asText,
    toToml: (mode) => quote(`0o${mode.toString(8).padStart(3, "0")}`),
  };
}

/** Names of something; in text separated by commas. */
export function names(of: string): ValueType<readonly string[]> {
  return {
    expected: `a list of names of ${of}`,
    schema: z.array(text("", (name) => name !== "").schema),
    fromText: namesFromText,
    toToml: tomlValue,
  };
}

/** Names of members of a provider's request; in text separated by commas. */
export function requestMembers(): ValueType<readonly string[]> {
  const own: readonly string[] = OWN_MEMBERS;
  return {
    ...names("members"),
    expected: `a list of names of members, none of ${OWN_MEMBERS.join(", ")}`,
    schema: z.array(text("", (name) => name !== "" && !own.includes(name)).schema),
  };
}

/** User ids; in text separated by commas. */
export function uids(): ValueType<readonly number[]> {
  return {
    expected: "a list of numeric user ids",
    // (uid_t) -1 means "no user", see chown(2).
    schema: z.array(z.int().min(0).max(0xffff_fffe)),
    fromText: (value) => value.trim() === "" ? [] : value.split(",").map(numberFromText),
    toToml: (value) => `[${value.join(", ")}]`,
  };
}

/** The base of an HTTP API. What could hide a secret (user info) or get lost (query, fragment) is refused. */
export function httpUrl(): ValueType<string> {
  return text("an http:// or https:// URL without user info, query or fragment", (value) => {
    const url = URL.parse(value);
    return url !== null && /^https?:$/.test(url.protocol) && !/[?#@\s]/.test(value) && isHost(url.hostname);
  });
}

/** Where a Valkey or Redis server is; user and password are part of it. What the client cannot read is refused. */
export function redisUrl(): ValueType<string> {
  const expected =
    'a URL as redis://user:password@host:6379/2 or rediss://host, with %25 for a "%", or "" for none';
  return text(expected, (value) => {
    const url = URL.parse(value);
    return value === "" ||
      (url !== null && /^rediss?:$/.test(url.protocol) && isHost(url.hostname) && !/[?#\s]/.test(value) &&
        /^(\/\d*)?$/.test(url.pathname) && hasReadableUser(url));
  });
}

/** `host:port`, `[IPv6]:port`, or `:port` for every IPv4 address of the machine. Port 0: any free one. */
export function listenAddr(): ValueType<ListenAddr> {
  const pattern = /^(?:\[([0-9A-Fa-f:.]+)\]|([^:[\]\s/]*)):(\d{1,5})$/;
  return {
    expected: `"host:port", such as "127.0.0.1:9090", "[::1]:9090" or ":9090"`,
    schema: z.string().regex(pattern).transform((value) => {
      const [, ipv6, name, port] = pattern.exec(value) ?? [];
      return { hostname: ipv6 ?? (name || "0.0.0.0"), port: Number(port) };
    }).refine(({ hostname, port }) =>
      isHost(hostname.includes(":") ? `[${hostname}]` : hostname) && port <= 65535
    ),
    fromText: asText,
    toToml: (addr) =>
      quote((addr.hostname.includes(":") ? `[${addr.hostname}]` : addr.hostname) + `:${addr.port}`),
  };
}

/** Hosts, each with its port; in text separated by commas. */
export function hosts(): ValueType<readonly string[]> {
  const host = text(
    "",
    (value) => {
      const [, name, port] = /^(.+):(\d{1,5})$/.exec(value) ?? [];
      return name !== undefined && isHost(name) && Number(port) <= 65535;
    },
  );
  return {
    ...names("hosts"),
    expected: `a list of "host:port", such as "127.0.0.1:11434" or "[::1]:11434"`,
    schema: z.array(host.schema),
  };
}

/** Whole paths; in text separated by commas. */
export function paths(): ValueType<readonly string[]> {
  return {
    ...names("paths"),
    expected: "a list of paths that begin with /, without commas",
    schema: z.array(text("", (path) => /^\/[^,]*$/.test(path)).schema),
  };
}

/** A secret that goes into an HTTP header: visible ASCII (RFC 9110, 5.5), so a pasted line end shows early. */
export function secret(): ValueType<string> {
  return text("visible ASCII characters without spaces", (value) => /^[\x21-\x7e]*$/.test(value));
}

/** HTTP fields; a name is a token and a value has no control characters (RFC 9110, 5.1 and 5.5). */
export function httpHeaders(): ValueType<Readonly<Record<string, string>>> {
  return {
    expected: "a table of HTTP header names and values (in the environment: a JSON object)",
    schema: z.record(z.string().regex(/^[\w!#$%&'*+.^`|~-]+$/), z.string().regex(/^[\x20-\x7e]*$/)),
    fromText: jsonFromText,
    toToml: tomlValue,
  };
}

/** Members for a JSON object, of any type. */
export function jsonObject(): ValueType<Readonly<Record<string, unknown>>> {
  return {
    expected: "a table without dates, inf and nan (in the environment: a JSON object)",
    schema: z.record(z.string(), z.json()),
    fromText: jsonFromText,
    toToml: tomlValue,
  };
}

/** Levels by name; in text `name=level,name=level`. */
export function levelsByPart<const Words extends readonly [string, ...string[]]>(
  words: Words,
): ValueType<Readonly<Record<string, Words[number]>>> {
  return {
    expected: `a table with a level (${
      words.join(", ")
    }) for each part, such as { backend = "debug" } (in the environment: backend=debug,handoff=warning)`,
    schema: z.record(z.string().regex(/^[a-z][a-z0-9_]*$/), oneOf(words).schema),
    fromText: (value) =>
      value.trim() === "" ? {} : Object.fromEntries(
        value.split(",").map((item) => {
          const [part, level, ...more] = item.split("=").map((side) => side.trim());
          return more.length === 0 ? [part, level] : [part, undefined];
        }),
      ),
    toToml: tomlValue,
  };
}

/** Any JSON value as TOML on one line. TOML has no null: the key of one is left out. */
function tomlValue(value: unknown): string {
  if (typeof value === "string") return quote(value);
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(", ")}]`;
  if (typeof value !== "object" || value === null) return String(value);
  const members = Object.entries(value)
    .filter(([, member]) => member !== null)
    .map(([name, member]) => `${/^[\w-]+$/.test(name) ? name : quote(name)} = ${tomlValue(member)}`);
  return members.length === 0 ? "{}" : `{ ${members.join(", ")} }`;
}

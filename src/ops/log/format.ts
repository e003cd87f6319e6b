/**
 * How a log record becomes a line. Pure. Whatever the fields hold: one line comes out, it is bounded, it has no
 * control characters (nobody forges a line or talks to the terminal), and no secret that can be told by its name or
 * its shape.
 * @module
 */
import type { LogRecord } from "@logtape/logtape";

/**
 * How lines look: `json`; `journal` (with the priority of sd-daemon(3), since journald adds the time); `plain` or
 * `colour` for people.
 */
export type LogStyle = "json" | "journal" | "plain" | "colour";

const MAX_TEXT_CHARS = 2048;
const MAX_MEMBERS = 64;
const MAX_DEPTH = 6;

/** Priorities of sd-daemon(3) and colours of ECMA-48 (SGR). */
const LEVELS: Readonly<Record<LogRecord["level"], { readonly priority: number; readonly colour: number }>> = {
  trace: { priority: 7, colour: 2 },
  debug: { priority: 7, colour: 2 },
  info: { priority: 6, colour: 32 },
  warning: { priority: 4, colour: 33 },
  error: { priority: 3, colour: 31 },
  fatal: { priority: 2, colour: 31 },
};

/** The line, its LF included. JSON: `time` (RFC 3339), `level`, `part`, `message`, `fields` where there are any. */
export function formatLine(record: LogRecord, style: LogStyle): string {
  const part = record.category.at(-1) ?? "";
  // The raw message: LogTape's own would fill in what looks like a placeholder, and texts of others have braces.
  const message = cleanText(String(record.rawMessage));
  const members = Object.entries(record.properties);
  const { level, timestamp } = record;
  const time = new Date(timestamp).toISOString();
  if (style === "json") {
    const fields = cleanMembers(members, MAX_DEPTH);
    const line = { time, level, part, message };
    return escape(
      JSON.stringify(fields.length === 0 ? line : { ...line, fields: Object.fromEntries(fields) }),
    ) +
      "\n";
  }
  const fields = cleanMembers(
    members.map(([name, value]) => [name, value instanceof Error ? errorText(value, MAX_DEPTH) : value]),
    MAX_DEPTH,
  );
  const text = escape(`${part}: ${message}`) +
    fields.map(([name, value]) => ` ${escape(name)}=${prettyValue(value)}`).join("");
  const { priority, colour } = LEVELS[level];
  const name = level.toUpperCase().padEnd("WARNING".length);
  switch (style) {
    case "journal":
      return `<${priority}>${text}\n`;
    case "plain":
      return `${time} ${name} ${text}\n`;
    case "colour":
      return `\x1b[2m${time}\x1b[0m \x1b[${colour}m${name}\x1b[0m ${text}\n`;
  }
}

function prettyValue(value: unknown): string {
  return typeof value === "string" && /^[\w.:/@%+-]+$/.test(value) ? value : escape(JSON.stringify(value));
}

/** Escapes, as JSON does, the control characters (C0, DEL, C1) and the two line separators of Unicode. */
function escape(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex -- control characters are what is replaced
    /[\0-\x1f\x7f-\x9f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const SECRET_NAME = /(^|_)(api_?key|authorization|cookie|password|secret|token)$/;

function isSecretName(name: string): boolean {
  return SECRET_NAME.test(name.toLowerCase().replaceAll("-", "_"));
}

/** Without credentials that show themselves: a bearer's, keys of the `sk-` kind, those in a URL. */
function cleanText(text: string): string {
  const clean = text
    .replace(/\bBearer +[\w.~+/=-]+/gi, "Bearer (hidden)")
    .replace(/\bsk-[\w-]{8,}/g, "sk-(hidden)")
    .replace(/:\/\/[^/@\s]*@/g, "://(hidden)@");
  const moreChars = clean.length - MAX_TEXT_CHARS;
  return moreChars > 0 ? `${clean.slice(0, MAX_TEXT_CHARS)}… (${moreChars} characters more)` : clean;
}

function cleanMembers(members: readonly (readonly [string, unknown])[], depth: number): [string, unknown][] {
  return members.slice(0, MAX_MEMBERS)
    .map(([name, value]): [string, unknown] => [
      name,
      isSecretName(name) && value !== "" ? "(hidden)" : cleanValue(value, depth),
    ])
    .filter(([, value]) => value !== undefined);
}

/** A value as JSON can have it; `undefined` where there is nothing to say. */
function cleanValue(value: unknown, depth: number): unknown {
  switch (typeof value) {
    case "string":
      return cleanText(value);
    case "boolean":
      return value;
    case "number":
      return Number.isFinite(value) ? value : String(value);
    case "bigint":
      return String(value);
    case "object":
      if (value === null) return null;
      // A cycle ends here as well.
      return depth === 0 ? "…" : cleanObject(value, depth - 1);
    default:
      return undefined;
  }
}

function cleanObject(value: object, depth: number): unknown {
  try {
    if (value instanceof Error) return cleanError(value, depth);
    if (value instanceof Date) return isNaN(value.getTime()) ? "invalid date" : value.toISOString();
    if (value instanceof URL) return cleanText(value.href);
    if (value instanceof Headers || value instanceof Map) {
      const members = [...value].map(([name, member]): [string, unknown] => [String(name), member]);
      return Object.fromEntries(cleanMembers(members, depth));
    }
    if (ArrayBuffer.isView(value)) return `(${value.byteLength} bytes)`;
    if (Array.isArray(value) || value instanceof Set) {
      return [...value].slice(0, MAX_MEMBERS).map((member) => cleanValue(member, depth) ?? null);
    }
    return Object.fromEntries(cleanMembers(Object.entries(value), depth));
  } catch (error) {
    // A getter of the value threw; the line is still worth having.
    return `(unreadable: ${error instanceof Error ? cleanText(error.message) : typeof error})`;
  }
}

/** What our errors and those of Deno and Node carry besides name and message. */
const ERROR_MEMBERS = ["kind", "code", "status", "cause", "errors"] as const;

function cleanError(error: Error, depth: number): unknown {
  const more = ERROR_MEMBERS.filter((name) => name in error)
    .map((name): [string, unknown] => [name, (error as unknown as Record<string, unknown>)[name]]);
  return {
    name: error.name,
    message: cleanText(error.message),
    ...Object.fromEntries(cleanMembers(more, depth)),
  };
}

/** An error and its causes on one line. */
function errorText(error: Error, depth: number): string {
  const kind = "kind" in error ? ` (${error.kind})` : "";
  const cause = error.cause === undefined || depth === 0
    ? ""
    : `; caused by ${error.cause instanceof Error ? errorText(error.cause, depth - 1) : String(error.cause)}`;
  return `${error.name}${kind}: ${error.message}${cause}`;
}

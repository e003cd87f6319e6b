/**
 * How a log record becomes a line. Pure. Whatever the fields hold: one line comes out, it is bounded, it has no
 * control characters (nobody forges a line or talks to the terminal), and no secret that can be told by its name or
 * its shape. Plain texts and numbers, of which nearly all lines are made, take a short way.
 * @module
 */
import type { LogLevel, LogPart } from "../../config/log_words.ts";
import { cleanText, cleanValue, errorText, isSecretName, MAX_DEPTH, MAX_MEMBERS } from "./clean.ts";

/**
 * How lines look: `json`; `journal` (without the time, which journald adds); `plain` or `colour` for people. Those for
 * journald begin with the priority of sd-daemon(3), which it takes off.
 */
export type LogStyle = "json" | "journal-json" | "journal" | "plain" | "colour";

/** What a line says besides its message. Values of secret-looking names are masked. */
export type LogFields = Readonly<Record<string, unknown>>;

/** What a line is made of. */
export interface LogRecord {
  /** Milliseconds since 1970. */
  readonly timeMs: number;
  readonly level: LogLevel;
  readonly part: LogPart;
  readonly message: string;
  readonly fields: LogFields | undefined;
}

/** Priorities of sd-daemon(3) and colours of ECMA-48 (SGR). */
const LEVELS: Readonly<Record<LogLevel, { readonly priority: number; readonly colour: number }>> = {
  debug: { priority: 7, colour: 2 },
  info: { priority: 6, colour: 32 },
  warning: { priority: 4, colour: 33 },
  error: { priority: 3, colour: 31 },
};

const NO_FIELDS: LogFields = {};

/** The line, its LF included. JSON: `time` (RFC 3339), `level`, `part`, `message`, `fields` where there are any. */
export function formatLine(record: LogRecord, style: LogStyle): string {
  if (style === "json") return jsonLine(record);
  if (style === "journal-json") return `<${LEVELS[record.level].priority}>${jsonLine(record)}`;
  return textLine(record, style);
}

function jsonLine({ timeMs, level, part, message, fields = NO_FIELDS }: LogRecord): string {
  let members = "";
  let count = 0;
  for (const name of Object.keys(fields)) {
    const value = jsonValue(name, fields[name]);
    if (value === undefined) continue;
    members += `${members === "" ? "" : ","}${quote(name)}:${value}`;
    if (++count === MAX_MEMBERS) break;
  }
  return `{"time":"${isoTime(timeMs)}","level":"${level}","part":"${part}","message":${
    quote(cleanText(message))
  }` +
    (members === "" ? "}\n" : `,"fields":{${members}}}\n`);
}

function textLine(
  { timeMs, level, part, message, fields = NO_FIELDS }: LogRecord,
  style: Exclude<LogStyle, "json" | "journal-json">,
): string {
  let text = `${part}: ${escape(cleanText(message))}`;
  let count = 0;
  for (const name of Object.keys(fields)) {
    const value = textValue(name, fields[name]);
    if (value === undefined) continue;
    text += ` ${escape(name)}=${value}`;
    if (++count === MAX_MEMBERS) break;
  }
  const { priority, colour } = LEVELS[level];
  const name = level.toUpperCase().padEnd("WARNING".length);
  switch (style) {
    case "journal":
      return `<${priority}>${text}\n`;
    case "plain":
      return `${isoTime(timeMs)} ${name} ${text}\n`;
    case "colour":
      return `\x1b[2m${isoTime(timeMs)}\x1b[0m \x1b[${colour}m${name}\x1b[0m ${text}\n`;
  }
}

function jsonValue(name: string, value: unknown): string | undefined {
  if (value === undefined) return undefined;
  if (isSecretName(name) && value !== "") return '"(hidden)"';
  if (typeof value === "number" && Number.isFinite(value)) return String(value);
  if (typeof value === "string") return quote(cleanText(value));
  const clean = cleanValue(value, MAX_DEPTH);
  return clean === undefined ? undefined : escape(JSON.stringify(clean));
}

const BARE = /^[\w.:/@%+-]+$/;

function textValue(name: string, value: unknown): string | undefined {
  const text = value instanceof Error ? errorText(value, MAX_DEPTH) : value;
  const json = jsonValue(name, text);
  return typeof text === "string" && json !== undefined && BARE.test(json.slice(1, -1))
    ? json.slice(1, -1)
    : json;
}

const PLAIN_ASCII = /^[ !#-[\]-~]*$/;

/** A text as JSON, without control characters. */
function quote(text: string): string {
  return PLAIN_ASCII.test(text) ? `"${text}"` : escape(JSON.stringify(text));
}

/** Escapes, as JSON does, the control characters (C0, DEL, C1) and the two line separators of Unicode. */
function escape(text: string): string {
  if (PLAIN_ASCII.test(text)) return text;
  return text.replace(
    // deno-lint-ignore no-control-regex -- control characters are what is replaced
    /[\0-\x1f\x7f-\x9f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

let lastTimeMs = -1;
let lastTime = "";

// Many lines are of the same millisecond.
function isoTime(timeMs: number): string {
  if (timeMs !== lastTimeMs) {
    lastTimeMs = timeMs;
    lastTime = new Date(timeMs).toISOString();
  }
  return lastTime;
}

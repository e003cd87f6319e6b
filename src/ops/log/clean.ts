/**
 * What may go into a log line of a value: bounded, and without secrets that can be told by their name or their shape.
 * Pure.
 * @module
 */

const MAX_TEXT_CHARS = 2048;
/** Members of an object, or of a line, that are shown at most. */
export const MAX_MEMBERS = 64;
/** Levels of a value that are shown at most. */
export const MAX_DEPTH = 6;

const SECRET_NAME = /(^|_)(api_?key|authorization|cookie|password|secret|token)$/;
// Names come from the code, and a few from headers; the bound is for the latter.
const MAX_KNOWN_NAMES = 512;
const knownNames = new Map<string, boolean>();

/** Whether a field's name says that its value is a secret. */
export function isSecretName(name: string): boolean {
  const known = knownNames.get(name);
  if (known !== undefined) return known;
  const isSecret = SECRET_NAME.test(name.toLowerCase().replaceAll("-", "_"));
  if (knownNames.size < MAX_KNOWN_NAMES) knownNames.set(name, isSecret);
  return isSecret;
}

const SECRET_SHAPE = /Bearer|sk-|:\/\//i;

/** A text without credentials that show themselves: a bearer's, keys of the `sk-` kind, those in a URL. */
export function cleanText(text: string): string {
  const clean = SECRET_SHAPE.test(text)
    ? text
      .replace(/\bBearer +[\w.~+/=-]+/gi, "Bearer (hidden)")
      .replace(/\bsk-[\w-]{8,}/g, "sk-(hidden)")
      .replace(/:\/\/[^/@\s]*@/g, "://(hidden)@")
    : text;
  const moreChars = clean.length - MAX_TEXT_CHARS;
  return moreChars > 0 ? `${clean.slice(0, MAX_TEXT_CHARS)}… (${moreChars} characters more)` : clean;
}

/** Names and values; those with nothing to say are left out. */
function cleanMembers(members: readonly (readonly [string, unknown])[], depth: number): [string, unknown][] {
  return members.slice(0, MAX_MEMBERS)
    .map(([name, value]): [string, unknown] => [
      name,
      isSecretName(name) && value !== "" ? "(hidden)" : cleanValue(value, depth),
    ])
    .filter(([, value]) => value !== undefined);
}

/** A value as JSON can have it; `undefined` where there is nothing to say. */
export function cleanValue(value: unknown, depth: number): unknown {
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
export function errorText(error: Error, depth: number): string {
  const kind = "kind" in error ? ` (${error.kind})` : "";
  const cause = error.cause === undefined || depth === 0
    ? ""
    : `; caused by ${error.cause instanceof Error ? errorText(error.cause, depth - 1) : String(error.cause)}`;
  return `${error.name}${kind}: ${error.message}${cause}`;
}

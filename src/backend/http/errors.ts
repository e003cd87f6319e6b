/**
 * What a failed request to a provider means: its kind, and its message for the log. Pure.
 * @module
 */

import { BackendError, type BackendFailure } from "../../errors.ts";

const MAX_MESSAGE_CHARACTERS = 500;
const EXCERPT_CHARACTERS = 120;

/**
 * Words of a provider (or of an error) that can go into a log: one line of bounded length without any key. OpenAI
 * itself quotes parts of a wrong key.
 */
export function loggable(text: string, secrets: readonly string[]): string {
  const bare = secrets.reduce((rest, secret) => rest.replaceAll(secret, "[key]"), text);
  // deno-lint-ignore no-control-regex -- control characters are what is taken out
  const plain = bare.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
  const line = plain.replace(/\b(?:sk|pk)-[\w*.-]{4,}/g, "[key]").trim();
  return line.length <= MAX_MESSAGE_CHARACTERS ? line : `${line.slice(0, MAX_MESSAGE_CHARACTERS)}…`;
}

/** The beginning of what a provider sent, for a message; to the last whole word, since a key that is cut is not found. */
export function excerpt(text: string): string {
  const isWhole = text.length <= EXCERPT_CHARACTERS;
  return JSON.stringify(isWhole ? text : text.slice(0, EXCERPT_CHARACTERS).replace(/[^\s"'<>]*$/, "…"));
}

/** @returns the kind that an HTTP status stands for */
export function kindOfStatus(status: number): BackendFailure {
  if (status === 401 || status === 403) return "auth";
  if (status === 404) return "not_found";
  if (status === 407) return "unavailable"; // of a proxy on the way
  if (status === 408) return "timeout"; // Azure's, where a model takes too long
  if (status === 429) return "rate_limited";
  if (status >= 500 || status === 424) return "server_error"; // 424: of TGI, where a model fails
  return status >= 400 ? "bad_request" : "other";
}

/** @returns an error of the pool's, fit for the log */
export function asLoggable(error: BackendError, secrets: readonly string[]): BackendError {
  return new BackendError(error.kind, loggable(error.message, secrets), { cause: error.cause });
}

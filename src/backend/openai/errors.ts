/**
 * What a failed request to an OpenAI-style provider means: its kind, its message for the log, and whether and when
 * it is worth another try. Pure.
 * @module
 */

import { APIError } from "openai";
import { BackendError, type BackendFailure } from "../../errors.ts";

const MAX_MESSAGE_CHARACTERS = 500;
/** The pause before the first repeated try; it doubles with each, up to the longest. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** How much is added at random, so that those who failed together do not come back together. */
const JITTER = 0.25;

/**
 * Words of a provider (or of an error) that can go into a log: one line of bounded length without any key. OpenAI
 * itself quotes parts of a wrong key.
 */
export function loggable(text: string, apiKey: string): string {
  const bare = apiKey === "" ? text : text.replaceAll(apiKey, "[key]");
  // deno-lint-ignore no-control-regex -- control characters are what is taken out
  const plain = bare.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
  const line = plain.replace(/\b(?:sk|pk)-[\w*.-]{4,}/g, "[key]").trim();
  return line.length <= MAX_MESSAGE_CHARACTERS ? line : `${line.slice(0, MAX_MESSAGE_CHARACTERS)}…`;
}

/** @returns the kind that an HTTP status stands for */
export function kindOfStatus(status: number): BackendFailure {
  if (status === 401 || status === 403) return "auth";
  if (status === 404) return "not_found";
  if (status === 429) return "rate_limited";
  if (status >= 500) return "server_error";
  return status >= 400 ? "bad_request" : "other";
}

/** @returns what the SDK threw, as the daemon's error; the SDK's own errors carry ours as their cause */
export function backendError(error: unknown, apiKey: string): BackendError {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 4; cause = cause.cause, depth++) {
    if (cause instanceof BackendError) {
      return new BackendError(cause.kind, loggable(cause.message, apiKey), { cause: cause.cause });
    }
  }
  if (error instanceof APIError && typeof error.status === "number") {
    return new BackendError(
      kindOfStatus(error.status),
      `the provider answered ${loggable(error.message, apiKey)}`,
    );
  }
  const text = error instanceof Error ? error.message : String(error);
  return new BackendError("other", `the request cannot be sent: ${loggable(text, apiKey)}`);
}

/**
 * Whether a failure before the head may be gone at the next try: connection trouble, 408, 409, 429, 5xx, unless the
 * provider says otherwise (`x-should-retry`).
 */
export function isRepeatable(error: unknown, asBackendError: BackendError): boolean {
  if (error instanceof APIError && typeof error.status === "number") {
    const advice = error.headers?.get("x-should-retry");
    if (advice === "true" || advice === "false") return advice === "true";
    return [408, 409, 429].includes(error.status) || error.status >= 500;
  }
  return asBackendError.kind === "unavailable";
}

/**
 * How long to wait before the next try, in milliseconds: what the provider asks for (`retry-after-ms`, or
 * `Retry-After` in seconds or as a date: RFC 9110, section 10.2.3), else twice the last pause. Never less than
 * asked, and a little more at random.
 *
 * @param tries how many there were
 * @param nowMs the time since the epoch
 * @param random from 0 to 1
 */
export function pauseMs(error: unknown, tries: number, nowMs: number, random: number): number {
  const headers = error instanceof APIError ? error.headers : undefined;
  const asked = askedPauseMs(headers?.get("retry-after-ms"), headers?.get("retry-after"), nowMs);
  const own = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1));
  return asked === null
    ? own * (1 - JITTER * random)
    : asked + Math.min(asked, FIRST_PAUSE_MS) * JITTER * random;
}

function askedPauseMs(
  ms: string | null | undefined,
  after: string | null | undefined,
  nowMs: number,
): number | null {
  if (ms && /^\d+(\.\d+)?$/.test(ms)) return Number(ms);
  if (!after) return null;
  if (/^\d+(\.\d+)?$/.test(after)) return 1_000 * Number(after);
  const date = Date.parse(after);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
}

/**
 * Whether and when a request that failed is worth another try. Pure.
 * @module
 */

import type { BackendError } from "../../errors.ts";
import type { Refused } from "./refusal.ts";

/** The pause before the first repeated try; it doubles with each, up to the longest. */
const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 8_000;
/** How much is added at random, so that those who failed together do not come back together. */
const JITTER = 0.25;

/**
 * Whether a failure before the head may be gone at the next try, by the SDK's rules: connection trouble, 408, 409,
 * 429, 5xx, unless the provider says otherwise (`x-should-retry`).
 *
 * @param refused what the provider answered; null: it did not
 * @param mayBeDone the provider may have processed it, and must not do so twice: then only 429 and 503 are tried again
 */
export function isRepeatable(
  failure: BackendError,
  refused: Refused | null,
  mayBeDone: boolean,
): boolean {
  if (refused === null) return failure.kind === "unavailable" && !mayBeDone;
  const { status, shouldRetry } = refused;
  if (mayBeDone && status !== 429 && status !== 503) return false;
  if (shouldRetry === "true" || shouldRetry === "false") return shouldRetry === "true";
  return [408, 409, 429].includes(status) || status >= 500;
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
export function pauseMs(refused: Refused | null, tries: number, nowMs: number, random: number): number {
  const asked = refused === null ? null : askedPauseMs(refused, nowMs);
  const own = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1));
  return asked === null
    ? own * (1 - JITTER * random)
    : asked + Math.min(asked, FIRST_PAUSE_MS) * JITTER * random;
}

function askedPauseMs({ retryAfterMs: ms, retryAfter: after }: Refused, nowMs: number): number | null {
  if (ms !== null && /^\d+(\.\d+)?$/.test(ms)) return Number(ms);
  if (after === null) return null;
  if (/^\d+(\.\d+)?$/.test(after)) return 1_000 * Number(after);
  const date = Date.parse(after);
  return Number.isNaN(date) ? null : Math.max(0, date - nowMs);
}

/**
 * The further fields of a response's head that a handoff may ask for (`response_headers`), checked. Pure.
 * @module
 */
import { HandoffRequestError } from "../errors.ts";
import { phpObject } from "./php_object.ts";

/** Fields in all, a name with several values counted as several. */
export const MAX_HEADER_LINES = 64;
/** All of them as they go out. */
export const MAX_HEADER_BYTES = 8192;

/**
 * What says something to the browser about the answer or its page. Not here: what frames the response or is the daemon's
 * own (`Content-Length`, `Transfer-Encoding`, `Connection`, `Content-Type`, `Cache-Control`, …).
 */
const ALLOWED = new Set([
  "content-language",
  "content-security-policy",
  "content-security-policy-report-only",
  "link",
  "nel",
  "permissions-policy",
  "referrer-policy",
  "report-to",
  "reporting-endpoints",
  "server-timing",
  "set-cookie",
  "strict-transport-security",
  "timing-allow-origin",
  "vary",
]);
const ALLOWED_FAMILY = /^(?:access-control|cross-origin|x)-[a-z0-9-]{1,64}$/;
/** Of those, what a server in front would act on, and what the daemon says itself. */
const REFUSED = /^x-(?:accel-|sendfile|lighttpd-|socket-handoff|handoff-|vercel-ai-ui-message-stream)/;

/** A value in RFC 9110, 5.5, in ASCII: no CR, LF, NUL or other control character but the tab. */
const VALUE = /^[\t\x20-\x7e]*$/;

/**
 * The lines of the head, each with its CRLF; "" for none.
 *
 * @param value an object of names, each with a string or an array of strings
 * @throws {HandoffRequestError} if a name is not allowed, a value cannot be sent, or it is too much
 */
export function headerLines(value: unknown): string {
  const fields = phpObject(value);
  if (fields === undefined) {
    throw new HandoffRequestError('Field "response_headers" is not an object of names and values');
  }
  let lines = "";
  let count = 0;
  for (const [name, given] of Object.entries(fields)) {
    if (given === null) continue;
    if (!isAllowed(name)) {
      throw new HandoffRequestError(
        `Field "response_headers" has ${
          /^[\w-]{1,64}$/.test(name) ? `"${name}"` : "a name"
        } that a site may not set, expected Access-Control-…, Cross-Origin-…, Set-Cookie, Vary, X-… or the like`,
      );
    }
    for (const each of Array.isArray(given) ? given : [given]) {
      if (typeof each !== "string" || !VALUE.test(each)) {
        throw new HandoffRequestError(
          `Field "response_headers.${name}" is not a string, or an array of strings, of printable ASCII`,
        );
      }
      lines += `${name}: ${each}\r\n`;
      count++;
    }
  }
  if (count > MAX_HEADER_LINES || lines.length > MAX_HEADER_BYTES) {
    throw new HandoffRequestError(
      `Field "response_headers" has ${count} fields of ${lines.length} bytes, ` +
        `expected at most ${MAX_HEADER_LINES} fields of ${MAX_HEADER_BYTES} bytes in all`,
    );
  }
  return lines;
}

function isAllowed(name: string): boolean {
  const lower = name.toLowerCase();
  return ALLOWED.has(lower) || (ALLOWED_FAMILY.test(lower) && !REFUSED.test(lower));
}

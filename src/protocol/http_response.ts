/**
 * HTTP response heads and plain answers, byte for byte as docs/apache-php.md, "What the browser
 * receives", has them (RFC 9112). Pure.
 * @module
 */

const STREAM_LINES = "HTTP/1.1 200 OK\r\n" +
  "Content-Type: text/event-stream\r\n" +
  "Cache-Control: no-cache\r\n" +
  "Connection: close\r\n" +
  "X-Accel-Buffering: no\r\n";

/** The head of every stream for which nothing else is asked; the events follow. */
export const STREAM_HEAD = `${STREAM_LINES}\r\n`;

/**
 * The head of a stream.
 *
 * @param headers further lines, each with its CRLF
 */
export function streamHead(headers: string): string {
  return headers === "" ? STREAM_HEAD : `${STREAM_LINES}${headers}\r\n`;
}

/** How long a client that found the daemon full or stopping should wait, in seconds. */
const RETRY_AFTER_SECS = 5;

/** The answers other than a stream. */
export type PlainStatus = 200 | 204 | 400 | 404 | 413 | 502 | 503 | 504;

const REASONS: Record<PlainStatus, string> = {
  200: "OK",
  204: "No Content",
  400: "Bad Request",
  404: "Not Found",
  413: "Content Too Large",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};

const encoder = new TextEncoder();

/**
 * A whole answer with one line of plain text.
 *
 * @param status the HTTP status; 503 carries `Retry-After`, 204 no body
 * @param line the body, without its line break; a line break inside becomes a space
 * @param headers further lines of the head, each with its CRLF
 */
export function plainResponse(status: PlainStatus, line: string, headers = ""): string {
  if (status === 204) return `HTTP/1.1 204 ${REASONS[204]}\r\nConnection: close\r\n${headers}\r\n`;
  const body = line.replace(/[\r\n]+/g, " ") + "\n";
  return `HTTP/1.1 ${status} ${REASONS[status]}\r\n` +
    "Content-Type: text/plain; charset=utf-8\r\n" +
    `Content-Length: ${encoder.encode(body).length}\r\n` +
    (status === 503 ? `Retry-After: ${RETRY_AFTER_SECS}\r\n` : "") +
    "Connection: close\r\n" +
    headers +
    "\r\n" +
    body;
}

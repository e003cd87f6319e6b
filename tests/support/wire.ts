/**
 * What goes over the wire to a browser, as docs/apache-php.md has it: on its own, so that tests do not expect of the
 * daemon what the daemon itself makes.
 * @module
 */

/** The head of a stream for which nothing else is asked. */
export const STREAM_HEAD =
  "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
  "Connection: close\r\nX-Accel-Buffering: no\r\n\r\n";

/** The head of a stream with further lines, each with its CRLF. */
export function streamHead(headers: string): string {
  return STREAM_HEAD.replace(/\r\n$/, () => `${headers}\r\n`);
}

/** A sign of life. */
export const HEARTBEAT = ":\n\n";

/** The last event of a whole answer. */
export const DONE_EVENT = "data: [DONE]\n\n";

/** The event of a piece of text. */
export function textEvent(content: string): string {
  return `data: ${JSON.stringify({ content })}\n\n`;
}

/** The event of a failure after the head. */
export function errorEvent(error: string): string {
  return `data: ${JSON.stringify({ error })}\n\n`;
}

const STATUS_LINES = {
  200: "200 OK",
  400: "400 Bad Request",
  404: "404 Not Found",
  413: "413 Content Too Large",
  502: "502 Bad Gateway",
  503: "503 Service Unavailable",
  504: "504 Gateway Timeout",
};

/** An answer of one line of ASCII. */
export function plainResponse(status: keyof typeof STATUS_LINES, line: string, headers = ""): string {
  return `HTTP/1.1 ${STATUS_LINES[status]}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
    `Content-Length: ${line.length + 1}\r\n${
      status === 503 ? "Retry-After: 5\r\n" : ""
    }Connection: close\r\n` +
    `${headers}\r\n${line}\n`;
}

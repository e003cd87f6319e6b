/**
 * The way to providers: the pool, proxies, the event stream.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const UPSTREAM: readonly FaultyFile[] = [
  {
    file: "src/upstream/forget_oldest.ts",
    faults: [
      {
        id: "nothing-is-forgotten",
        text: "if (known.size <= most) return;",
        instead: "if (most > 0) return;",
        tests: ["upstream/forget_oldest_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/sse_parser.ts",
    faults: [
      {
        id: "a-line-without-a-bound",
        text: "    if (bytes > this.#maxBytes) return this.#tooLong();\n",
        instead: "",
        tests: ["upstream/sse_parser_test.ts"],
      },
      {
        id: "an-event-of-many-lines-without-a-bound",
        text: "      if (this.#data.length > this.#maxBytes) this.#tooLong();\n",
        instead: "",
        tests: ["upstream/sse_parser_test.ts"],
      },
      {
        id: "crlf-is-two-line-ends",
        text: "      if (byte === LF && this.#afterCr) {",
        instead: "      if (false) {",
        tests: ["upstream/sse_parser_test.ts"],
      },
      {
        id: "a-mark-of-order-is-text",
        text: ") start += 3;",
        instead: ") start += 0;",
        tests: ["upstream/sse_parser_test.ts"],
      },
      {
        id: "an-event-s-name-stays",
        text: '    this.#event = "";\n    if (data === null) return;',
        instead: "    if (data === null) return;",
        tests: ["upstream/sse_parser_test.ts"],
      },
      {
        id: "a-space-of-the-data-is-lost",
        text: "if (from < end && bytes[from] === SPACE) from++;",
        instead: "while (from < end && bytes[from] === SPACE) from++;",
        tests: ["upstream/sse_parser_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/pool.ts",
    faults: [
      {
        id: "hosts-are-kept-for-ever",
        text: "      if (!host.unused) continue;\n",
        instead: "      continue;\n",
        tests: ["upstream/pool_test.ts", "upstream/keep_alive_test.ts"],
      },
      {
        id: "the-count-of-connections-goes-back",
        text: "      this.#openedBefore += host.opened;\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "an-open-end-is-never-reset",
        text: "    for (const exchange of this.#leftEarlier) exchange.cancel();\n",
        instead: "",
        tests: ["upstream/pool_test.ts", "backend/openai/openai_test.ts"],
      },
      {
        id: "a-closed-pool-takes-requests",
        text: "if (this.#closed) exchange.fail(CLOSED);\n    else this",
        instead: "this",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "the-count-of-failed-dials-goes-back",
        text: "      this.#failedBefore += host.failedDials;\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/host_pool.ts",
    faults: [
      {
        id: "a-server-that-leaves-at-once-is-dialled-for-ever",
        text: "      if (connection.room === 0) {\n        connection.close(",
        instead: "      if (connection.maxStreams === 0) {\n        connection.close(",
        tests: ["e2e/openai_h2_frames_test.ts"],
      },
      {
        id: "who-agrees-on-http2-and-does-not-speak-it-is-dialled-for-ever",
        text: "      this.#http2 = false;",
        instead: "      this.#http2 = this.#target.secure;",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "who-closes-on-http2-is-not-asked-in-http1",
        text: "if (guessed && this.opened === 0 && ",
        instead: "if (false && this.opened === 0 && ",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "who-spoke-http2-is-taken-for-one-of-http1",
        text: "guessed && this.opened === 0 && ",
        instead: "guessed && ",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "dials-without-a-bound",
        text: "have < wanted && this.#dials.size < MAX_DIALS;",
        instead: "have < wanted;",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "idle-connections-without-a-bound",
        text: "rank >= this.#limits.maxIdlePerHost || ",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "connections-idle-for-ever",
        text: "rank >= this.#limits.maxIdlePerHost || nowMs - connection.idleSinceMs >= limitMs",
        instead: "rank >= this.#limits.maxIdlePerHost",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-dial-takes-as-long-as-it-likes",
        text: "if (nowMs - sinceMs >= this.#limits.connectTimeoutMs) {",
        instead: "if (false) {",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "cancelled-in-a-pause-it-is-sent",
        text: "    clearTimeout(this.#pausing.get(exchange));\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-refused-stream-is-tried-for-ever",
        text: "if (pauseMs === undefined) failUnprocessed(exchange, why);",
        instead: "if (pauseMs === undefined) this.submit(exchange);",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-refused-stream-may-have-been-processed",
        text: "  exchange.unprocessed = true;\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "failed-dials-not-counted",
        text: "      this.failedDials++;\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "one-failed-dial-fails-nobody",
        text: "let victims = Math.min(this.#expected,",
        instead: "let victims = Math.min(0,",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "the-last-connection-is-filled-before-the-next",
        text: "if (connection instanceof H2Connection) this.#grow(Packing.ahead(connection.maxStreams));",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "idle-connections-are-kept-by-age",
        text: "    idle.sort((a, b) => b.idleSinceMs - a.idleSinceMs);\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-failed-dial-fails-whom-another-is-for",
        text: "this.#waiting.size - this.#dials.size * this.#expected",
        instead: "this.#waiting.size",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "connections-are-opened-one-by-one",
        text: "    this.#expected = connection.maxStreams;\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "what-was-sent-again-waits-for-ever",
        text: "        this.#pausing.delete(exchange);\n        this.submit",
        instead: "        this.submit",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/transport.ts",
    faults: [
      {
        id: "a-proxy-s-refusal-is-a-tunnel",
        text: 'if (status === undefined || !status.startsWith("2")) {',
        instead: "if (status === undefined) {",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-proxy-s-head-without-a-bound",
        text:
          '    if (answer.length > MAX_PROXY_HEAD_BYTES) throw new Error("the proxy\'s answer is too long");\n',
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-silent-handshake-stays-open",
        text: "    if (owned !== tcp) end = shutDown(localAddr, remoteAddr).catch(() => {});\n",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "no-keep-alive",
        text: "    tcp.setKeepAlive();\n",
        instead: "",
        tests: ["upstream/keep_alive_test.ts"],
      },
      {
        id: "a-proxy-s-password-stays-encoded",
        text: "${decodeURIComponent(proxy.password)}",
        instead: "${proxy.password}",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "an-ipv6-address-is-asked-for-bare",
        text:
          'const host = target.hostname.includes(":") ? `[${target.hostname}]` : target.hostname;\n  const authority',
        instead: "const host = target.hostname;\n  const authority",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "an-insecure-dial-that-was-given-up-stays-open",
        text: "    socket.destroy();\n    reject(signal.reason);",
        instead: "    reject(signal.reason);",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/proxy.ts",
    faults: [
      {
        id: "no-proxy-s-names-match-in-the-middle",
        text: "host.endsWith(`.${name}`)",
        instead: "host.endsWith(name)",
        tests: ["upstream/proxy_test.ts"],
      },
      {
        id: "no-proxy-knows-no-networks",
        text: " || isInNetwork(host, entry)",
        instead: "",
        tests: ["upstream/proxy_test.ts"],
      },
      {
        id: "no-proxy-ignores-the-port",
        text: "(match?.[3] !== undefined && match[3] !== port)",
        instead: "false",
        tests: ["upstream/proxy_test.ts"],
      },
      {
        id: "an-unknown-kind-of-proxy-is-asked",
        text: 'if (address.protocol !== "http:") {',
        instead: "if (false) {",
        tests: ["upstream/proxy_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/exchange.ts",
    faults: [
      {
        id: "a-consumer-that-throws-stays-on-its-connection",
        text: "  #consumerFailed(cause: unknown): void {\n    this.carrier?.drop(this);",
        instead: "  #consumerFailed(cause: unknown): void {",
        tests: ["upstream/h2_connection_test.ts"],
      },
      {
        id: "a-consumer-that-throws-when-it-fails-keeps-others-from-being-told",
        text: "    reportError(cause);",
        instead: "    throw cause;",
        tests: ["upstream/exchange_test.ts"],
      },
      {
        id: "what-broke-after-the-head-is-unavailable",
        text: 'this.headSeen ? "truncated" : "unavailable"',
        instead: '"unavailable"',
        tests: ["upstream/h2_connection_test.ts", "upstream/pool_test.ts"],
      },
      {
        id: "cancelled-the-server-goes-on",
        text: "  cancel(): void {\n    this.carrier?.drop(this);",
        instead: "  cancel(): void {",
        tests: ["upstream/h2_connection_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/byte_writer.ts",
    faults: [
      {
        id: "a-half-written-request-is-cut",
        text: "          bytes = bytes.subarray(count);",
        instead: "          bytes = bytes.subarray(bytes.length);",
        tests: ["upstream/byte_writer_test.ts"],
      },
      {
        id: "replies-that-went-out-count-on",
        text: "        this.replyBytes -= replyBytes;\n",
        instead: "",
        tests: ["upstream/byte_writer_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/node_byte_stream.ts",
    faults: [
      {
        id: "what-a-read-has-no-room-for-is-lost",
        text: "count < chunk.length ? chunk.subarray(count) : null",
        instead: "null",
        tests: ["backend/openai/openai_test.ts"],
      },
    ],
  },
];

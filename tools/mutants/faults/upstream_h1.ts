/**
 * HTTP/1.1 to providers.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const H1: readonly FaultyFile[] = [
  {
    file: "src/upstream/h1/parser.ts",
    faults: [
      {
        id: "a-chunk-may-be-longer-than-its-size",
        text: 'if (!withCr || end > start) throw malformed("a chunk longer than its size");',
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "heads-without-a-bound",
        text: "if (this.#headBytes + this.#lineBytes + end - at > maxBytes) {",
        instead: "if (false) {",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "interim-heads-without-a-bound",
        text: "if (++this.#interimHeads > MAX_INTERIM_HEADS) throw",
        instead: "if (false) throw",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-chunk-s-size-of-any-length",
        text: "at - start > MAX_SIZE_DIGITS || ",
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-bare-line-feed-ends-a-chunk-s-line",
        text: '        if (!withCr) throw malformed("a chunk\'s line without a carriage return");\n',
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "empty-lines-without-a-bound",
        text: "if (++this.#emptyLines > MAX_EMPTY_LINES) throw",
        instead: "if (false) throw",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "trailers-are-not-looked-at",
        text: "          parseFields(this.#lines);\n",
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-cut-answer-is-whole",
        text: "if (this.#state !== State.UntilClose) return false;",
        instead: "",
        tests: ["upstream/h1_parser_test.ts", "backend/openai/openai_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h1/head.ts",
    faults: [
      {
        id: "a-connection-that-is-kept-for-no-time-is-used",
        text: " && idleMs > 0 &&\n",
        instead: " &&\n",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "two-lengths-are-one",
        text: "lengths.size > 1 || ",
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-coding-beside-a-length",
        text:
          '    if (length !== undefined) throw malformed("both a transfer coding and a content length");\n',
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-coding-in-http-1-0",
        text: '    if (old) throw malformed("a transfer coding in HTTP/1.0");\n',
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-304-has-a-body",
        text: " || status === 304) return 0;",
        instead: ") return 0;",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-close-is-not-heard",
        text: ': !connection.includes("close")),',
        instead: ": true),",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-server-s-seconds-are-milliseconds",
        text: "const timeoutMs = 1_000 * Number(secs);",
        instead: "const timeoutMs = Number(secs);",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-switch-of-protocols-is-followed",
        text: '  if (status === 101) throw malformed("a switch of protocols that was not asked for");\n',
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "nul-in-a-header",
        text: "    if (/[\\0\\r]/.test(line)) throw malformed(`the header line ${quoted(line)}`);\n",
        instead: "",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "any-coding-is-chunked",
        text: 'if (coding.length !== 1 || coding[0] !== "chunked") {',
        instead: "if (coding.length !== 1) {",
        tests: ["upstream/h1_parser_test.ts"],
      },
      {
        id: "a-long-gap-in-a-header-takes-seconds",
        text: "while (end > start && isBlank(text[end - 1])) end--;",
        instead: 'return text.slice(start).replace(/[ \\t]+$/, "");',
        tests: ["upstream/h1_parser_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h1/connection.ts",
    faults: [
      {
        id: "http1-providers-are-never-paused",
        text: "if (paused) await new Promise<void>((resolve) => this.#unpause = resolve);",
        instead: "",
        tests: ["upstream/h1_connection_test.ts", "backend/openai/openai_test.ts"],
      },
      {
        id: "a-request-that-may-have-arrived-is-sent-again",
        text: "if (this.#writer.begun) exchange.broke(why, cause);",
        instead: "if (false) exchange.broke(why, cause);",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-request-that-was-not-written-has-failed",
        text: "if (this.#writer.begun) exchange.broke(why, cause);",
        instead: "if (true) exchange.broke(why, cause);",
        tests: ["upstream/h1_connection_test.ts"],
      },
      {
        id: "bytes-of-the-request-before-count-as-this-one",
        text: "    this.#writer.begun = false;\n",
        instead: "",
        tests: ["upstream/h1_connection_test.ts"],
      },
      {
        id: "a-half-sent-request-leaves-its-connection",
        text: " && this.#writer.pendingBytes === 0;",
        instead: ";",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "bytes-behind-an-answer-are-passed-over",
        text: "if (taken < bytes.length || !this.#keep)",
        instead: "if (!this.#keep)",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "bytes-without-a-question-are-passed-over",
        text: 'if (parser === null) return this.#end("the server sent bytes that belong to no answer");',
        instead: "if (parser === null) return;",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-cancelled-request-keeps-its-connection",
        text: '    this.#exchange = null;\n    this.#end("the request was cancelled");',
        instead: "    this.#exchange = null;",
        tests: ["backend/openai/openai_test.ts", "upstream/pool_test.ts"],
      },
      {
        id: "a-413-keeps-its-connection",
        text: " && head.status !== 413",
        instead: "",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "a-read-buffer-stays-large",
        text: "else if (buffer.length > LEAST_BUFFER_BYTES) buffer =",
        instead: "else if (false) buffer =",
        tests: ["upstream/h1_connection_test.ts"],
      },
      {
        id: "an-address-s-query-is-lost-over-http1",
        text: "const target = url.pathname + url.search;",
        instead: "const target = url.pathname;",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
  {
    file: "src/upstream/h1/idle_stack.ts",
    faults: [
      {
        id: "a-connection-about-to-close-is-waited-for",
        text: "this.#idle.filter((connection) => isUsable(connection, nowMs)).length",
        instead: "this.#idle.length",
        tests: ["upstream/idle_stack_test.ts"],
      },
      {
        id: "no-rest-after-an-answer",
        text: "if (connection.resting) {",
        instead: "connection.resting = false;\n    if (connection.resting) {",
        tests: ["upstream/pool_test.ts"],
      },
      {
        id: "the-connection-idle-longest-is-used",
        text: "for (let at = this.#idle.length - 1; at >= 0; at--) {",
        instead: "for (let at = 0; at < this.#idle.length; at++) {",
        tests: ["upstream/pool_test.ts"],
      },
    ],
  },
];

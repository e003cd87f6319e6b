/**
 * Backends: the mock, the queue of events, the adapter.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const BACKEND: readonly FaultyFile[] = [
  {
    file: "src/backend/mock.ts",
    faults: [
      {
        id: "a-piece-is-missing",
        text: '  "socket ",\n',
        instead: "",
        tests: ["backend/mock_test.ts"],
      },
      {
        id: "a-prompt-is-quoted-too-long",
        text: "const QUOTED_CHARACTERS = 50;",
        instead: "const QUOTED_CHARACTERS = 51;",
        tests: ["backend/mock_test.ts"],
      },
      {
        id: "a-cancelled-pause-goes-on",
        text: "    this.#backend.options.wheel.cancel(this);\n",
        instead: "",
        tests: ["backend/mock_test.ts"],
      },
      {
        id: "a-paused-mock-goes-on",
        text: "while (!this.#paused && this.#next < MOCK_PIECES) {",
        instead: "while (this.#next < MOCK_PIECES) {",
        tests: ["backend/mock_test.ts"],
      },
      {
        id: "a-cancelled-answer-is-under-way-for-ever",
        text: "    this.#backend.options.wheel.cancel(this);\n    this.#backend.live.ended();",
        instead: "    this.#backend.options.wheel.cancel(this);",
        tests: ["backend/mock_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/event_queue.ts",
    faults: [
      {
        id: "a-chunk-without-a-bound",
        text: "    if (this.#units >= CHUNK_UNITS) this.#flush();\n",
        instead: "",
        tests: ["backend/event_queue_test.ts"],
      },
      {
        id: "a-tool-call-weighs-nothing",
        text: '(event.kind === "tool_call" ? event.arguments.length : 0)',
        instead: "0",
        tests: ["backend/event_queue_test.ts"],
      },
      {
        id: "closing-drops-what-is-left",
        text: "    this.#flush();\n    this.#controller?.close();",
        instead: "    this.#controller?.close();",
        tests: ["backend/event_queue_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/from_streams.ts",
    faults: [
      {
        id: "a-paused-stream-is-passed-on",
        text: "        await this.#room?.promise;\n",
        instead: "",
        tests: ["backend/from_streams_test.ts"],
      },
      {
        id: "an-answer-takes-all-turns",
        text: "        if (units >= TURN_UNITS) {",
        instead: "        if (false) {",
        tests: ["backend/from_streams_test.ts"],
      },
      {
        id: "what-cancelling-brings-about-is-an-error",
        text: "    if (this.#abort.signal.aborted) return; // what cancelling it brought about\n",
        instead: "",
        tests: ["backend/from_streams_test.ts"],
      },
      {
        id: "a-cancelled-stream-is-left-open",
        text: "    this.#reader?.cancel(reason).catch(() => {});\n",
        instead: "",
        tests: ["backend/from_streams_test.ts"],
      },
      {
        id: "a-cancelled-pause-waits-for-ever",
        text: "    this.#abort.abort(reason);\n    this.resume();",
        instead: "    this.#abort.abort(reason);",
        tests: ["backend/from_streams_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/live_answers.ts",
    faults: [
      {
        id: "a-backend-closes-under-its-answers",
        text: "if (--this.#count === 0) this.#none?.resolve();",
        instead: "this.#count--;\n    this.#none?.resolve();",
        tests: ["backend/from_streams_test.ts", "backend/mock_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/refusal.ts",
    faults: [
      {
        id: "an-error-that-nests-deeply-ends-a-worker",
        text: 'return "an error that nests too deeply to be shown";',
        instead: "throw new RangeError();",
        tests: ["backend/http/errors_test.ts"],
      },
      {
        id: "what-was-asked-is-in-the-log",
        text: ', (name, said) => name === "input" ? undefined : said);',
        instead: ");",
        tests: ["backend/http/errors_test.ts"],
      },
      {
        id: "an-error-s-body-without-a-bound",
        text: 'this.#reason === "coding" || this.#bytes >= MAX_BODY_BYTES;',
        instead: 'this.#reason === "coding";',
        tests: ["backend/http/errors_test.ts"],
      },
      {
        id: "a-body-of-empty-lines-takes-seconds",
        text: "/^[ \\t]*data:(.*)/m",
        instead: "/^\\s*data:(.*)/m",
        tests: ["backend/http/errors_test.ts"],
      },
      {
        id: "characters-of-many-bytes-are-split",
        text: ", { stream: true }",
        instead: "",
        tests: ["backend/http/errors_test.ts"],
      },
      {
        id: "an-error-that-is-null-is-one",
        text: '(body["error"] ?? null) !== null',
        instead: '"error" in body',
        tests: ["backend/http/errors_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/mod.ts",
    faults: [
      {
        id: "a-worker-reads-the-certificates-itself",
        text: "plan.caCerts ?? []",
        instead: "readCaCerts(options.caFile, `backend.${name}`)",
        tests: ["e2e/openai_routes_test.ts"],
      },
    ],
  },
];

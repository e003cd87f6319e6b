/**
 * The border to the shim.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const NATIVE: readonly FaultyFile[] = [
  {
    file: "src/native/reactor.ts",
    faults: [
      {
        id: "a-turn-without-an-end",
        text: "      if (performance.now() > untilMs) return;\n",
        instead: "",
        tests: ["native/reactor_turns_test.ts"],
      },
      {
        id: "a-payload-s-padding-is-a-record",
        text: "payloadAt + ((payloadBytes + 3) & ~3);",
        instead: "payloadAt + payloadBytes;",
        tests: ["native/reactor_test.ts"],
      },
      {
        id: "events-of-a-number-s-former-client",
        text: "closedByEnd(client: number): void {\n    this.#clients[client] = undefined;",
        instead: "closedByEnd(client: number): void {",
        tests: ["native/reactor_test.ts"],
        survives:
          "an ended connection ignores what it is told, and the next client of its number takes its place",
      },
      {
        id: "a-handoff-s-time-in-milliseconds",
        text: "(this.#words[word + 3] as number) / 1e6",
        instead: "(this.#words[word + 3] as number) / 1e3",
        tests: ["native/reactor_test.ts"],
      },
      {
        id: "a-rest-hands-nothing-on",
        text: ">= 0) this.#turn();",
        instead: ">= 0) return;",
        tests: ["native/reactor_turns_test.ts"],
      },
      {
        id: "a-turn-takes-all-handoffs",
        text: "const HANDOFFS_AT_ONCE = 128;",
        instead: "const HANDOFFS_AT_ONCE = 1_000_000;",
        tests: ["native/reactor_turns_test.ts"],
      },
      {
        id: "a-turn-takes-one-long-conversation",
        text: "const FIRST_BUFFER_BYTES = 512 * 1024;",
        instead: "const FIRST_BUFFER_BYTES = 64 * 1024;",
        tests: ["native/reactor_turns_test.ts"],
      },
      {
        id: "a-buffer-does-not-grow",
        text: "      this.#buffer = new Uint8Array(buffer.byteLength * 2);\n",
        instead: "",
        tests: ["native/reactor_test.ts"],
      },
      {
        id: "results-of-a-large-batch-find-no-room",
        text: "if (this.#results.length < count) this.#results = new Int32Array(count * 2);",
        instead: "",
        tests: ["native/reactor_test.ts"],
      },
      {
        id: "no-room-is-over-the-limit",
        text: "noRoom: (flags & NO_ROOM) !== 0,",
        instead: "noRoom: false,",
        tests: ["native/reactor_test.ts"],
      },
      {
        id: "a-reactor-leaves-its-clients-open",
        text: "    closeReactor(this.handle);\n    this.#bell?.close();",
        instead: "    this.#bell?.close();",
        tests: ["native/reactor_test.ts"],
      },
    ],
  },
  {
    file: "src/native/acceptor.ts",
    faults: [
      {
        id: "a-refusal-s-time-in-milliseconds",
        text: "durationSecs: micros / 1e6,",
        instead: "durationSecs: micros / 1e3,",
        tests: ["native/acceptor_test.ts"],
      },
      {
        id: "the-client-time-out-stays-behind",
        text: "    policy.clientTimeoutMs,\n",
        instead: "    0,\n",
        tests: ["e2e/clients_test.ts"],
      },
      {
        id: "a-stop-does-not-hurry",
        text: 'now ? 1 : 0), "remove',
        instead: '0), "remove',
        tests: ["native/acceptor_test.ts"],
      },
      {
        id: "a-mode-is-not-passed-on",
        text: "      mode,\n      groupBytes,",
        instead: "      0o600,\n      groupBytes,",
        tests: ["native/acceptor_test.ts"],
      },
    ],
  },
  {
    file: "src/native/bell.ts",
    faults: [
      {
        id: "a-thread-that-ends-is-no-failure",
        text: 'else reject(new ShimError(STATUS.panic, "A thread of the shim ended by itself"));',
        instead: "else resolve();",
        tests: ["native/reactor_test.ts"],
      },
    ],
  },
  {
    file: "src/native/reasons.ts",
    faults: [
      {
        id: "two-reasons-are-swapped",
        text: '  "no_fd",\n  "many_fds",',
        instead: '  "many_fds",\n  "no_fd",',
        tests: ["native/acceptor_test.ts", "e2e/refusals_test.ts"],
      },
    ],
  },
];

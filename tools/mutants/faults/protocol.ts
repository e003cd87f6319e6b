/**
 * The handoff, the response and its formats; time.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const PROTOCOL: readonly FaultyFile[] = [
  {
    file: "src/protocol/handoff_request.ts",
    faults: [
      {
        id: "data-that-nests-deeply-ends-a-worker",
        text: "    // V8 calls back from calls within calls, some thousands deep",
        instead: "    throw cause;\n    // V8 calls back from calls within calls, some thousands deep",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "spaces-around-an-id-stay",
        text: "optionalString(fields, name)?.trim();",
        instead: "optionalString(fields, name);",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "any-user-id-of-the-data-is-the-user-s",
        text: "found.findLast(([holder]) => holder === root)",
        instead: "found.findLast(() => true)",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "a-nul-byte-followed-by-data-is-data",
        text: "payload[0] === 0 ?",
        instead: "(payload.length === 1 && payload[0] === 0) ?",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-empty-model-is-asked",
        text: "model: model || defaultModel,",
        instead: "model: model ?? defaultModel,",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-empty-prompt-is-asked",
        text: "prompt || DEFAULT_PROMPT",
        instead: "prompt ?? DEFAULT_PROMPT",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-empty-request-id-is-refused",
        text: 'if (value === undefined || value === "") return undefined;',
        instead: "if (value === undefined) return undefined;",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-id-of-128-characters-is-refused",
        text: "{1,128}$/",
        instead: "{1,127}$/",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-id-of-129-characters-is-taken",
        text: "{1,128}$/",
        instead: "{1,129}$/",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "max-tokens-of-0-are-taken",
        text: "value < 1)",
        instead: "value < 0)",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "a-temperature-of-0-is-refused",
        text: "if (temperature < 0 ||",
        instead: "if (temperature <= 0 ||",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "a-temperature-without-end-is-sent-as-null",
        text: " || temperature === Infinity",
        instead: "",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-empty-conversation-is-asked",
        text: "value.length > 0 ? value as ChatMessage[] : undefined",
        instead: "value as ChatMessage[]",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "bytes-that-are-not-utf-8-are-taken",
        text: 'new TextDecoder("utf-8", { fatal: true })',
        instead: 'new TextDecoder("utf-8")',
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "any-word-can-be-included",
        text: "if ((INCLUDES as readonly unknown[]).includes(each)) return;",
        instead: "return;",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "include-is-the-configuration-s",
        text: "optionalIncludes(fields) ?? rules.include",
        instead: "rules.include",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "an-empty-system-message-is-asked",
        text: "return system ? [",
        instead: "return system !== undefined ? [",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "members-that-are-not-allowed-are-taken",
        text: "if (allowed.includes(name)) continue;",
        instead: "continue;",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "bad-data-is-quoted",
        text: "is not valid JSON (${payload.length} bytes)`",
        instead: "is not valid JSON (${text})`",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "a-refused-id-is-in-the-log",
        text: 'return optionalHeaderText(parseObject(payload), "request_id");',
        instead: 'return optionalString(parseObject(payload), "request_id");',
        tests: ["protocol/handoff_request_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/http_response.ts",
    faults: [
      {
        id: "a-503-does-not-say-when-to-come-back",
        text: "(status === 503 ?",
        instead: "(status === 504 ?",
        tests: ["protocol/http_response_test.ts"],
      },
      {
        id: "a-length-in-characters",
        text: "${encoder.encode(body).length}",
        instead: "${body.length}",
        tests: ["protocol/http_response_test.ts"],
      },
      {
        id: "a-line-break-gets-into-an-answer",
        text: 'line.replace(/[\\r\\n]+/g, " ")',
        instead: "line",
        tests: ["protocol/http_response_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/sse.ts",
    faults: [
      {
        id: "a-head-with-each-event",
        text: "  recipient.headSent = true;\n",
        instead: "",
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "a-shutdown-before-the-head-is-a-502",
        text: 'if (failure === "shutdown" || failure === "backend_busy") {',
        instead: 'if (failure === "backend_busy") {',
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "text-beyond-ascii-finds-no-room",
        text: "const longest = text.length * 3;",
        instead: "const longest = text.length;",
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "a-large-turn-s-memory-is-kept",
        text: "else if (this.#data.length > KEPT_DATA_BYTES &&",
        instead: "else if (false &&",
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "a-two-byte-letter-counts-as-one",
        text: "if (unit < 0x80) continue;",
        instead: "if (unit < 0x100) continue;",
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "unwanted-events-are-encoded",
        text: "      if (!recipient.note(event)) continue;\n",
        instead: "      recipient.note(event);\n",
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "each-backend-s-failure-is-a-time-out",
        text: 'return kind === "timeout" ? "backend_timeout" : "backend_error";',
        instead: 'return "backend_timeout";',
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "max-stream-before-the-head-is-a-502",
        text: 'if (failure === "backend_timeout" || failure === "max_stream") {',
        instead: 'if (failure === "backend_timeout") {',
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "a-connection-stays-open-after-its-end",
        text: '    case "end":\n      recipient.frameEnds = true;',
        instead: '    case "end":',
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "many-clients-of-a-turn-find-no-room",
        text: "if (this.#entries.length < recipients.length * ENTRY_WORDS) {",
        instead: "if (this.#entries.length < recipients.length) {",
        tests: ["protocol/sse_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/response_headers.ts",
    faults: [
      {
        id: "64-header-lines-are-too-many",
        text: "if (count > MAX_HEADER_LINES ||",
        instead: "if (count >= MAX_HEADER_LINES ||",
        tests: ["protocol/response_headers_test.ts"],
      },
      {
        id: "headers-without-a-bound-in-bytes",
        text: "|| lines.length > MAX_HEADER_BYTES)",
        instead: ")",
        tests: ["protocol/response_headers_test.ts"],
      },
      {
        id: "a-header-s-value-begins-a-line",
        text: "const VALUE = /^[\\t\\x20-\\x7e]*$/;",
        instead: "const VALUE = /^[\\t\\r\\n\\x20-\\x7e]*$/;",
        tests: ["protocol/response_headers_test.ts"],
      },
      {
        id: "x-accel-headers-are-let-through",
        text: "/^x-(?:accel-|sendfile",
        instead: "/^x-(?:sendfile",
        tests: ["protocol/response_headers_test.ts"],
      },
      {
        id: "header-names-are-allowed-as-written",
        text: "const lower = name.toLowerCase();",
        instead: "const lower = name;",
        tests: ["protocol/response_headers_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/trace_context.ts",
    faults: [
      {
        id: "no-trace-is-sampled",
        text: "(parseInt(flags, 16) & SAMPLED) !== 0",
        instead: "parseInt(flags, 16) === SAMPLED && false",
        tests: ["protocol/trace_context_test.ts"],
      },
      {
        id: "a-trace-of-zeros-is-one",
        text: "if (/^0+$/.test(traceId) ||",
        instead: "if (",
        tests: ["protocol/trace_context_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/formats/content.ts",
    faults: [
      {
        id: "text-breaks-the-framing",
        text: "${JSON.stringify(text)}}",
        instead: '"${text}"}',
        tests: ["protocol/sse_test.ts"],
      },
      {
        id: "what-is-not-included-is-written",
        text: 'return this.#include.includes(name) ? named(name, value) : "";',
        instead: "return named(name, value);",
        tests: ["protocol/formats_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/formats/openai.ts",
    faults: [
      {
        id: "a-chunk-of-several-lines-is-cut",
        text: 'event.data.replaceAll("\\n", "\\ndata: ")',
        instead: "event.data",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "a-role-with-each-chunk",
        text: "    this.#role = undefined;\n",
        instead: "",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "no-finish-where-the-provider-has-none",
        text: 'this.#passesOn || this.#finished ? "" :',
        instead: 'true ? "" :',
        tests: ["protocol/formats_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/formats/ai_sdk.ts",
    faults: [
      {
        id: "a-cut-is-no-abort",
        text: "(CUTS.includes(failure) ?",
        instead: "(false ?",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "a-call-s-arguments-have-no-bound",
        text: "if (this.#argumentsChars <= MAX_ARGUMENTS_CHARS) call",
        instead: "call",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "a-call-ends-where-another-model-speaks",
        text: "return out + this.#ended(isWhole);",
        instead: "return out + this.#ended(() => true);",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "a-call-ends-with-any-brace",
        text: "    JSON.parse(text);\n    return true;",
        instead: "    return true;",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "calls-end-with-the-answer-alone",
        text: "return out + this.#ended(isWhole);",
        instead: "return out;",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "a-text-for-a-tool-is-no-json",
        text: 'custom ? text : text === ""',
        instead: 'text === ""',
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "a-text-for-a-tool-is-cut-in-silence",
        text: "    else call.cut = true;\n",
        instead: "",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "parts-share-a-number",
        text: "`${this.#parts++}`",
        instead: "`${this.#parts}`",
        tests: ["protocol/formats_test.ts"],
      },
      {
        id: "to-be-stopped-is-an-error",
        text: '    if (failure === "stopped") return this.#begin() + dataEvent({ type: "abort" });\n',
        instead: "",
        tests: ["protocol/formats_test.ts"],
      },
    ],
  },
  {
    file: "src/timing/turn_clock.ts",
    faults: [
      {
        id: "the-time-stands-still",
        text: "    queueMicrotask(over);\n",
        instead: "",
        tests: ["timing/turn_clock_test.ts"],
      },
    ],
  },
  {
    file: "src/timing/timer_wheel.ts",
    faults: [
      {
        id: "a-timer-cannot-be-moved-nearer",
        text: "if (dueTick >= timer.lookTick) return;",
        instead: "return;",
        tests: ["timing/timer_wheel_test.ts"],
      },
      {
        id: "a-wheel-without-timers-turns-on",
        text: "    if (!this.#turning) this.#stopIfEmpty();\n",
        instead: "",
        tests: ["timing/timer_wheel_test.ts"],
      },
      {
        id: "a-pace-drifts",
        text: "(nowMs - timer.dueMs > delayMs / 2 ? nowMs : timer.dueMs)",
        instead: "nowMs",
        tests: ["timing/timer_wheel_test.ts"],
      },
      {
        id: "timers-come-a-tick-early",
        text: "const dueTick = Math.ceil(timer.dueMs / this.#tickMs);",
        instead: "const dueTick = Math.floor(timer.dueMs / this.#tickMs);",
        tests: ["timing/timer_wheel_test.ts"],
      },
      {
        id: "a-far-timer-comes-with-its-slot",
        text: "if (dueTick > nowTick) this.#link(timer, dueTick);\n      else timer",
        instead: "timer",
        tests: ["timing/timer_wheel_test.ts"],
      },
      {
        id: "a-long-sleep-looks-at-slots-again-and-again",
        text: "Math.max(this.#tick + 1, nowTick - SLOTS + 1)",
        instead: "this.#tick + 1",
        tests: ["timing/timer_wheel_test.ts"],
        survives: "each slot is empty after the first look at it: it only takes longer",
      },
    ],
  },
  {
    file: "src/timing/read_coalescer.ts",
    faults: [
      {
        id: "a-rest-after-each-turn",
        text: "this.#now() - this.#lastEndMs < REST_MS;",
        instead: "this.#now() > 0;",
        tests: ["timing/read_coalescer_test.ts"],
      },
      {
        id: "a-rest-after-a-full-turn",
        text: "if (follows && !isFull)",
        instead: "if (follows)",
        tests: ["timing/read_coalescer_test.ts"],
      },
    ],
  },
];

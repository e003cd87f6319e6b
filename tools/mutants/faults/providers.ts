/**
 * Providers over HTTP: what they share, and the languages that are not chat completions.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const PROVIDERS: readonly FaultyFile[] = [
  {
    file: "src/backend/http/text_template.ts",
    faults: [
      {
        id: "one-of-two-like-texts-is-learned",
        text: "data.indexOf(literal) === at && ",
        instead: "",
        tests: ["backend/http/text_template_test.ts"],
      },
      {
        id: "a-text-in-escapes-is-learned",
        text: ' && !data.includes("\\\\")',
        instead: "",
        tests: ["backend/http/text_template_test.ts"],
      },
      {
        id: "a-text-is-learned-unseen",
        text: "contentOf(JSON.parse(prefix + PROBE + suffix)) === PROBE",
        instead: "true",
        tests: ["backend/http/text_template_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/head.ts",
    faults: [
      {
        id: "a-header-of-the-configuration-does-not-win",
        text:
          "    ...own,\n    ...Object.entries(headers).map(([name, value]): Field => [name.toLowerCase(), value]),\n",
        instead:
          "    ...Object.entries(headers).map(([name, value]): Field => [name.toLowerCase(), value]),\n    ...own,\n",
        tests: ["backend/http/head_test.ts"],
      },
      {
        id: "a-base-that-ends-with-a-slash-has-two",
        text: 'apiBase.replace(/\\/$/, "") + path',
        instead: "apiBase + path",
        tests: ["backend/http/head_test.ts", "e2e/langgraph_test.ts"],
      },
      {
        id: "an-empty-key-is-sent",
        text: '.filter(([, value]) => value !== "")',
        instead: "",
        tests: ["backend/http/head_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/retry.ts",
    faults: [
      {
        id: "what-may-be-done-is-done-again-after-any-status",
        text: "if (mayBeDone && status !== 429 && status !== 503) return false;",
        instead: "",
        tests: ["backend/langgraph/langgraph_test.ts"],
      },
      {
        id: "what-may-be-done-is-done-again-after-a-break",
        text: 'failure.kind === "unavailable" && !mayBeDone',
        instead: 'failure.kind === "unavailable"',
        tests: ["backend/langgraph/langgraph_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/answer.ts",
    faults: [
      {
        id: "a-request-that-cannot-be-written-is-never-over",
        text: "if (error instanceof BackendError) return this.#fail(error);",
        instead: "if (error instanceof BackendError) return this.#fail(error);\n      throw error;",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-refusal-that-drips-is-silence",
        text: 'this.#leaveRefused(refusal) : this.event({ kind: "alive" });',
        instead: "this.#leaveRefused(refusal) : undefined;",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-refusal-without-an-end-is-waited-for",
        text: "Math.min(REFUSAL_MS, headTimeoutMs / 2)",
        instead: "2 ** 30",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "what-a-broken-answer-has-cost-is-lost",
        text: "this.#reader?.broke(error);",
        instead: "this.#fail(error);",
        tests: ["e2e/anthropic_test.ts"],
      },
      {
        id: "a-request-is-kept-while-its-answer-goes-on",
        text: "      this.#asking = null;\n      this.#reader =",
        instead: "      this.#reader =",
        tests: ["backend/http/answer_test.ts"],
      },
      {
        id: "retries-are-not-told",
        text: 'this.#shared.hooks.log.debug("Provider is asked again", {',
        instead: "void ({",
        tests: ["e2e/log_test.ts"],
      },
      {
        id: "asked-for-what-the-model-takes-is-a-try",
        text: "    asking.tries--; //",
        instead: "    //",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "what-was-not-processed-is-given-up",
        text: " && this.#exchange?.unprocessed !== true",
        instead: "",
        tests: ["backend/langgraph/langgraph_test.ts"],
      },
      {
        id: "a-refusal-hides-what-the-next-try-came-to",
        text: "    asking.refusal = null;\n",
        instead: "",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "each-pause-has-the-whole-time-out",
        text: "spentMs + waitMs < headTimeoutMs",
        instead: "waitMs < headTimeoutMs",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-paused-answer-s-next-try-is-not",
        text: "    if (this.#paused) this.#exchange.paused = true;\n",
        instead: "",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "spaces-around-a-test-pattern",
        text: "request.testPattern.trim()",
        instead: "request.testPattern",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-refusal-without-an-end-keeps-its-connection",
        text: "    if (this.#exchange !== null) this.#shared.pool.leave(this.#exchange);\n",
        instead: "",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "what-cannot-be-read-goes-on",
        text: "    exchange?.cancel();\n  }\n\n  /** Its body",
        instead: "  }\n\n  /** Its body",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-refusal-that-breaks-off-says-nothing",
        text: "    else if (asking.refusal !== null) this.#onRefusal(asking.refusal.result());\n",
        instead: "",
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-key-that-an-event-quotes-is-logged",
        text: "this.#fail(asLoggable(error, this.#shared.secrets));",
        instead: "this.#fail(error);",
        tests: ["backend/openai/openai_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/dialect.ts",
    faults: [
      {
        id: "the-format-openai-has-no-calls-unless-they-are-included",
        text: 'toolCalls: chunks || include.includes("tool_calls"),',
        instead: 'toolCalls: include.includes("tool_calls"),',
        tests: ["e2e/anthropic_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/errors.ts",
    faults: [
      {
        id: "a-key-that-an-excerpt-cuts-is-shown",
        text: '.replace(/[^\\s"\'<>]*$/, "…")',
        instead: "",
        tests: ["backend/http/errors_test.ts"],
      },
      {
        id: "a-time-out-of-the-provider-s-is-the-request-s-fault",
        text: '  if (status === 408) return "timeout";',
        instead: "",
        tests: ["backend/http/errors_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/options.ts",
    faults: [
      {
        id: "keys-in-headers-are-logged",
        text: '  return apiKey === "" ? keys : [apiKey, ...keys];',
        instead: '  return apiKey === "" ? [] : [apiKey];',
        tests: ["backend/openai/openai_test.ts"],
      },
      {
        id: "a-proxy-is-on-the-way-to-a-unix-socket",
        text: 'options.apiSocket === "" && proxyFor',
        instead: "proxyFor",
        tests: ["backend/openai/openai_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/event_reader.ts",
    faults: [
      {
        id: "half-a-character-is-lost",
        text: "      this.#half = text.slice(-1);\n",
        instead: "",
        tests: ["backend/anthropic/message_reader_test.ts", "backend/openai/answer_reader_test.ts"],
      },
      {
        id: "something-follows-the-end",
        text: "    this.#over = true;\n    this.#parser.stop();\n",
        instead: "    this.#over = true;\n",
        tests: ["backend/anthropic/message_reader_test.ts", "backend/openai/answer_reader_test.ts"],
      },
      {
        id: "reasoning-that-nobody-asked-for",
        text: "if (!this.wanted.reasoning || typeof text",
        instead: "if (typeof text",
        tests: ["backend/anthropic/message_reader_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/openai/request.ts",
    faults: [
      {
        id: "a-configured-limit-keeps-the-name-that-is-refused",
        text: "  return name === null ? given : {",
        instead: "  return name === null || maxTokens === maxCompletionTokens ? given : {",
        tests: ["backend/openai/request_test.ts"],
      },
      {
        id: "what-was-refused-is-sent-again-as-it-was",
        text:
          "other !== null && requestBody(request, other, options) !== requestBody(request, traits, options)",
        instead: "other !== null",
        tests: ["backend/openai/request_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/openai/answer_reader.ts",
    faults: [
      {
        id: "an-empty-name-hides-the-reasoning",
        text: "delta.reasoning_content || delta.reasoning",
        instead: "delta.reasoning_content ?? delta.reasoning",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "a-role-alone-is-an-answer",
        text: "this.#held !== null && this.#held.length < MAX_HELD &&",
        instead: "false &&",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "what-was-held-is-lost-at-the-end",
        text: "    this.#begin();\n    this.done();",
        instead: "    this.done();",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "content-in-parts-says-nothing",
        text: "{ for (const part of delta.content) this.#part(part); }",
        instead: "{ /* nothing */ }",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "thoughts-in-parts-are-lost",
        text: "for (const each of texts) this.reasoning(each?.text);",
        instead: "texts.at(0);",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "calls-of-one-index-are-one-call",
        text: "call === undefined || another && name",
        instead: "call === undefined",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "an-id-alone-makes-another-call",
        text: "another && name",
        instead: "another",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "a-call-of-a-custom-tool-has-no-name",
        text: "const name = (custom ?? called)?.name;",
        instead: "const name = called?.name;",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "a-call-of-a-custom-tool-has-no-input",
        text: "custom ? custom.input : called?.arguments",
        instead: "called?.arguments",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "two-calls-have-one-number",
        text: "number: Math.max(index, this.#nextCall)",
        instead: "number: index",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "calls-beyond-the-first-thousand-fall-apart",
        text: "      this.#calls.set(index, call);\n",
        instead: "      if (index < MAX_CALLS) this.#calls.set(index, call);\n",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
      {
        id: "a-choice-whose-index-is-null-is-another",
        text: "(choice.index ?? 0) === 0",
        instead: "(choice.index === undefined || choice.index === 0)",
        tests: ["backend/openai/answer_reader_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/chat_words.ts",
    faults: [
      {
        id: "developer-messages-are-no-instructions",
        text: 'role !== "system" && role !== "developer"',
        instead: 'role !== "system"',
        tests: ["backend/anthropic/request_test.ts", "backend/openai_responses/request_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/anthropic/request.ts",
    faults: [
      {
        id: "results-of-tools-are-a-message-each",
        text: "      if (results.length === 0) turns.push(",
        instead: "      turns.push(",
        tests: ["backend/anthropic/request_test.ts"],
      },
      {
        id: "results-of-two-turns-are-one-message",
        text: "    results = [];\n    const calls",
        instead: "    const calls",
        tests: ["backend/anthropic/request_test.ts"],
      },
      {
        id: "the-configured-limit-wins-over-the-body",
        text: "    max_tokens: options.maxTokens,\n    ...options.body,\n",
        instead: "    ...options.body,\n    max_tokens: options.maxTokens,\n",
        tests: ["backend/anthropic/request_test.ts"],
      },
      {
        id: "metadata-that-it-refuses-goes-out",
        text: '? { metadata: { user_id: metadata["user_id"] } }',
        instead: "? { metadata }",
        tests: ["backend/anthropic/request_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/anthropic/message_reader.ts",
    faults: [
      {
        id: "blocks-of-text-count-as-calls",
        text: "this.toolCall(this.#calls - 1, undefined, undefined, delta.partial_json);",
        instead: "this.toolCall(Number(index), undefined, undefined, delta.partial_json);",
        tests: ["backend/anthropic/message_reader_test.ts"],
      },
      {
        id: "what-the-providers-own-tools-are-asked-is-a-call",
        text: "    this.#callBlock = undefined;\n",
        instead: "    this.#callBlock = index;\n",
        tests: ["backend/anthropic/message_reader_test.ts"],
      },
      {
        id: "a-call-without-pieces-has-no-input",
        text: "if (this.#input === undefined) return;",
        instead: "if (this.#input !== null) return;",
        tests: ["backend/anthropic/message_reader_test.ts"],
      },
      {
        id: "a-call-with-pieces-has-its-input-twice",
        text: "          this.#input = undefined;\n",
        instead: "",
        tests: ["backend/anthropic/message_reader_test.ts"],
      },
      {
        id: "tokens-of-caches-are-free",
        text:
          "const input = [usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens];",
        instead: "const input = [usage.input_tokens];",
        tests: ["backend/anthropic/message_reader_test.ts"],
      },
      {
        id: "a-template-of-another-event",
        text: 'event === "content_block_delta" ? this.#template.match(data) : null',
        instead: "this.#template.match(data)",
        tests: ["backend/anthropic/message_reader_test.ts"],
        survives: "the data of other events has another type, and never fits the template",
      },
    ],
  },
  {
    file: "src/backend/openai_responses/request.ts",
    faults: [
      {
        id: "answers-are-stored",
        text: "    store: false,\n",
        instead: "",
        tests: ["backend/openai_responses/request_test.ts"],
      },
      {
        id: "functions-are-strict-by-default",
        text: "parameters: null, strict: false, ...called",
        instead: "parameters: null, ...called",
        tests: ["backend/openai_responses/request_test.ts"],
      },
      {
        id: "an-empty-message-beside-calls",
        text: "return said.length === 0 && calls.length > 0 ? calls : ",
        instead: "return ",
        tests: ["backend/openai_responses/request_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/openai_responses/response_reader.ts",
    faults: [
      {
        id: "a-response-with-calls-just-stops",
        text: 'this.#callCount > 0 ? "tool_calls" : "stop"',
        instead: '"stop"',
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "calls-of-custom-tools-are-none",
        text: 'if (!custom && item?.type !== "function_call") return;',
        instead: 'if (item?.type !== "function_call") return;',
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "what-a-custom-tool-is-given-is-lost",
        text: 'case "response.custom_tool_call_input.delta":',
        instead: 'case "response.custom_tool_call_input":',
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "paragraphs-of-reasoning-run-together",
        text: 'this.reasoning("\\n\\n");',
        instead: 'this.reasoning("");',
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "a-call-that-comes-whole-has-no-input",
        text: "if (call === undefined || call.begun) return;",
        instead: "if (call !== null) return;",
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "a-call-in-pieces-comes-twice",
        text: "    call.begun = true;\n",
        instead: "",
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "a-call-that-begins-whole-comes-twice",
        text: 'begun: typeof input === "string" && input !== ""',
        instead: "begun: false",
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
      {
        id: "calls-without-a-bound",
        text: "this.#calls.size >= MAX_CALLS",
        instead: "this.#calls.size < 0",
        tests: ["backend/openai_responses/response_reader_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/langgraph/langgraph.ts",
    faults: [
      {
        id: "a-thread-leads-to-another-path",
        text: "encodeURIComponent(threadId)",
        instead: "threadId",
        tests: ["e2e/langgraph_test.ts"],
      },
      {
        id: "a-message-comes-twice-to-a-thread",
        text: "() => this.#body(request), false)",
        instead: "() => this.#body(request))",
        tests: ["backend/langgraph/langgraph_test.ts"],
      },
      {
        id: "a-joined-run-begins-in-the-middle",
        text: ", FROM_THE_BEGINNING]",
        instead: "]",
        tests: ["e2e/langgraph_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/langgraph/request.ts",
    faults: [
      {
        id: "a-run-goes-on-for-nobody",
        text: 'on_disconnect: "cancel", ',
        instead: "",
        tests: ["e2e/langgraph_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/langgraph/run_reader.ts",
    faults: [
      {
        id: "what-people-say-is-an-answer",
        text: '(type !== "ai" || this.#known.has(id))',
        instead: "this.#known.has(id)",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "a-whole-message-repeats-its-pieces",
        text: '(type !== "ai" || this.#known.has(id))',
        instead: 'type !== "ai"',
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "messages-run-together",
        text: "this.#paragraph = this.#said && !this.#known.has(id);",
        instead: "this.#paragraph = false;",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "calls-of-two-messages-are-mixed",
        text: "JSON.stringify([message, index])",
        instead: "JSON.stringify([index])",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "calls-of-a-run-are-forgotten-at-its-next-message",
        text: "    this.#message = id;\n",
        instead: "    this.#message = id;\n    this.#calls.clear();\n",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "calls-of-a-run-beyond-the-first-thousand-fall-apart",
        text: "        this.#calls.set(place, this.#callCount);\n",
        instead: "        if (this.#callCount < MAX_KNOWN - 2) this.#calls.set(place, this.#callCount);\n",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "a-run-that-refuses-says-nothing",
        text: "    this.#text(refusal);\n",
        instead: "",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "a-refusal-is-part-of-a-template",
        text: "!further && !refusal && ",
        instead: "!further && ",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "a-refusal-in-a-part-is-lost",
        text: '        this.#text(part["refusal"]);\n',
        instead: "",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "a-run-that-never-began-is-whole",
        text: "if (this.#begun) this.#ended();",
        instead: "if (!this.over) this.#ended();",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
      {
        id: "counts-of-the-last-message-alone",
        text: "this.#tokens.input += usage.input_tokens;",
        instead: "this.#tokens.input = usage.input_tokens;",
        tests: ["backend/langgraph/run_reader_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/http/http.ts",
    faults: [
      {
        id: "idle-connections-are-kept-as-many-as-there-are",
        text: "maxIdlePerHost: options.poolMaxIdlePerHost",
        instead: "maxIdlePerHost: 1000",
        tests: ["backend/openai/openai_test.ts"],
      },
    ],
  },
];

/**
 * What the stand-in provider says, by the request's X-Test-Pattern: see {@linkcode PATTERNS}.
 * @module
 */

/** One step of an answer's body. */
export type Step =
  | { readonly send: Uint8Array | string }
  | { readonly waitMs: number }
  /** Resets the stream (HTTP/2) or the connection (HTTP/1.1). */
  | { readonly reset: true }
  /** Stays silent until the client goes. */
  | { readonly stall: true }
  /** Waits until the test opens the gate. */
  | { readonly gate: true };

/** An answer: the head, or how it fails to come, and the body. */
export interface Script {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  /** In place of a head. */
  readonly noHead?: "stall" | "reset";
  readonly steps: Iterable<Step>;
}

/** The pace and length of what has no other. */
export interface Pace {
  readonly events: number;
  readonly delayMs: number;
}

const PLAIN = "text/event-stream; charset=utf-8";
const encoder = new TextEncoder();

/** A `chat.completion.chunk` as JSON. */
export function chunk(choices: readonly unknown[], rest: Readonly<Record<string, unknown>> = {}): string {
  const head = {
    id: "chatcmpl-mock",
    object: "chat.completion.chunk",
    created: 1_700_000_000,
    model: "mock",
  };
  return JSON.stringify({ ...head, choices, ...rest });
}

/** A chunk with a piece of text. */
export const text = (content: string): string =>
  chunk([{ index: 0, delta: { content }, finish_reason: null }]);

/** A chunk that says why the model stopped. */
export const finish = (reason: string): string => chunk([{ index: 0, delta: {}, finish_reason: reason }]);

/** The chunk with token counts that `stream_options.include_usage` asks for. */
export const usage = (input: number, output: number): string =>
  chunk([], { usage: { prompt_tokens: input, completion_tokens: output, total_tokens: input + output } });

/** An event of the stream. */
export const sse = (data: string): string => `data: ${data}\n\n`;

/** The texts of the pattern `unicode`: two, three and four bytes, joined and combined characters. */
export const UNICODE_TEXTS = [
  "Grüße, ",
  "Привет, ",
  "你好，",
  "こんにちは ",
  "🌍🚀 ",
  "👩‍👩‍👧‍👦 ",
  "é\u0301 ",
  "\u2028 ",
];

/** The text of the pattern `pieces-4096`, in each of its events. */
export const LONG_TEXT = "0123456789abcdef".repeat(256);

function* answer(texts: readonly string[], delayMs: number, reason = "stop"): Generator<Step> {
  yield { send: sse(chunk([{ index: 0, delta: { role: "assistant", content: "" }, finish_reason: null }])) };
  for (const [i, content] of texts.entries()) {
    if (i > 0 && delayMs > 0) yield { waitMs: delayMs };
    yield { send: sse(text(content)) };
  }
  yield { send: sse(finish(reason)) };
  yield { send: sse(usage(7, texts.length)) };
  yield { send: sse("[DONE]") };
}

export const words = (count: number): string[] => Array.from({ length: count }, (_, i) => `word${i} `);

function* first(texts: number, delayMs: number, ...then: Step[]): Generator<Step> {
  for (const content of words(texts)) {
    yield { send: sse(text(content)) };
    yield { waitMs: delayMs };
  }
  yield* then;
}

/** The same, so many bytes at a time. */
export function* cut(steps: Iterable<Step>, bytes: number): Generator<Step> {
  for (const step of steps) {
    if (!("send" in step)) {
      yield step;
      continue;
    }
    const all = typeof step.send === "string" ? encoder.encode(step.send) : step.send;
    for (let at = 0; at < all.length; at += bytes) yield { send: all.subarray(at, at + bytes) };
  }
}

/** Makes an answer that is a status and an error object. */
export type Refuse = (status: number, headers?: Record<string, string>, message?: string) => Script;

/** A pattern's name, and its numbers. */
export interface Pattern {
  readonly name: string;
  /** The first number, NaN where there is none. */
  readonly n: number;
  readonly times: string | undefined;
}

/** Takes `status-429-times-2` apart. */
export function parsePattern(pattern: string): Pattern {
  const [, name = "", n, times] = /^([a-z_-]+?)(?:-(\d+))?(?:-times-(\d+))?$/.exec(pattern) ?? [];
  return { name, n: n === undefined ? NaN : Number(n), times };
}

/**
 * What goes wrong before any event, the same way at every provider.
 *
 * @param plain the good answer, with that pause between its words
 * @returns null for another pattern
 */
export function faultFor(
  { name, n, times }: Pattern,
  tries: number,
  key: string,
  plain: (delayMs?: number) => Script,
  refuse: Refuse,
): Script | null {
  switch (name) {
    case "status":
      return times !== undefined && tries > Number(times) ? plain() : refuse(n);
    case "drip": {
      const { steps, ...head } = refuse(n);
      return { ...head, steps: [...cut(steps, 10)].flatMap((step) => [step, { waitMs: 0 }]) };
    }
    case "retry-after":
      return tries > Number(times) ? plain() : refuse(429, { "retry-after": `${n}` });
    case "echo-key":
      return refuse(401, {}, `Incorrect API key provided: ${key}`);
    case "html":
      return { status: 200, headers: { "content-type": "text/html" }, steps: [{ send: "<h1>Hello</h1>" }] };
    case "gzip":
      return { ...plain(), headers: { "content-type": PLAIN, "content-encoding": "gzip" } };
    case "redirect": {
      const location = "https://user:secret@llm.example/v2/chat?key=secret";
      return { status: n, headers: { location }, steps: [] };
    }
    case "reset-head":
      return { ...plain(), noHead: "reset" };
    case "stall-head":
      return { ...plain(), noHead: "stall" };
    case "slow-head":
      return streamed([{ waitMs: n }, ...plain(0).steps]);
    default:
      return null;
  }
}

/** What real servers send besides the plain: all of it in one stream, which says "Hello, world". */
const QUIRKS = [
  `\ufeffdata: ${text("Hel")}\r\n\r\n`,
  ": a comment\r\n\r\n",
  `data:${chunk([], { prompt_filter_results: [] })}\r\n\r\n`,
  `data: ${
    chunk([{ index: 0, delta: { role: "assistant" }, finish_reason: null }], { usage: null })
  }\r\n\r\n`,
  `event: message\nid: 7\nretry: 1000\ndata: ${text("lo")}\n\n`,
  `: keep-alive\n\n`,
  `data:${text(", ")}\r\r`,
  `data: ${chunk([{ index: 0, delta: { content: "" }, finish_reason: null }])}\n\n`,
  `data: ${chunk([{ index: 0, delta: { content: null, tool_calls: [{ index: 0, function: {} }] } }])}\n\n`,
  `data: ${chunk([{ index: 1, delta: { content: "another choice" } }])}\n\n`,
  `data: ${chunk([{ index: 0, delta: null, finish_reason: null }])}\n\n`,
  `data: {"choices":[{"index":0,\ndata: "delta":{"content":"world"}}]}\n\n`,
  `unknown: field\ndata: ${finish("stop")}\n\n`,
  `data: ${usage(5, 3)}\n\n`,
  "data: [DONE]\n\n",
];

const refused: Refuse = (status, headers = {}, message = `a made-up ${status}`) => ({
  status,
  headers: { "content-type": "application/json", ...headers },
  steps: [{
    send: JSON.stringify({ error: { message, type: "mock_error", param: null, code: `mock_${status}` } }),
  }],
});

/** A good head, and these. */
export const streamed = (steps: Iterable<Step>): Script => ({
  status: 200,
  headers: { "content-type": PLAIN },
  steps,
});

/** The patterns, as `mock-llm --help` prints them; n, ms and code are numbers, reason a word. */
export const PATTERNS: Readonly<Record<string, string>> = {
  "plain": "words at the server's pace (also without the header)",
  "unicode": "characters of up to four bytes, and of several code points",
  "bytes": "the unicode text, a byte at a time",
  "pieces-4096": "four texts of 4 KB",
  "quirks": "BOM, CR, CRLF, comments, no space after data:, empty choices, null usage, tool calls, …",
  "quirks-n": "the same, n bytes at a time",
  "refusal": "a refusal in place of content",
  "surrogates": "an emoji whose halves come in two events",
  "finish-reason": "one word, then that finish_reason",
  "status-code": "that status with an error object",
  "status-code-times-n": "that status for the first n tries of a request id, then plain",
  "retry-after-n-times-m": "429 with Retry-After: n for the first m tries of a request id, then plain",
  "drip-code": "that status with an error object, ten bytes at a time",
  "echo-key": "401 that repeats the Authorization header",
  "html": "200 with a web page",
  "reset-head": "reset in place of a head",
  "stall-head": "no head",
  "slow-head-ms": "plain after that time",
  "abort-n": "reset after n words",
  "stall-n": "silence after n words",
  "error-n": "an error object after n words",
  "badjson-n": "an event that is not JSON after n words",
  "nodone-n": "a finish reason and an end without [DONE] after n words",
  "nofinish-n": "an end without either after n words",
  "think-n": "n pieces of reasoning, then a word",
  "tools-n": "n pieces of a tool call, then a word",
  "agent": "reasoning, two words with a source, and calls of two tools",
  "comments-n": "n comments, then a word",
  "gzip": "200 in a coding that was not asked for",
  "redirect-code": "that status with a Location",
  "json": "200 with a whole completion in place of a stream",
  "json-error": "200 with an error object",
  "sse-error-code": "that status with an error object in an event",
  "refuses-names": "400 that names a parameter as long as it is there, plain without; dots for members",
  "quotes": "400 whose message quotes stream_options",
  "hugeline": "an event of 1 MB",
  "burst-n": "n words at once",
  "open-end": "[DONE], but the stream stays open",
  "gate": "a word, and plain once a test opens the gate",
};

/** What a model says that thinks, has looked something up and wants to use tools; the arguments come in pieces. */
export const AGENT: readonly unknown[] = [
  { role: "assistant", content: "", reasoning_content: null },
  { reasoning_content: "Let me " },
  { reasoning_content: "think. 🤔" },
  { content: "It is " },
  { content: "sunny." },
  {
    annotations: [{
      type: "url_citation",
      url_citation: { url: "https://weather.example/", title: "Weather", start_index: 0, end_index: 12 },
    }],
  },
  {
    tool_calls: [{ index: 0, id: "call_a", type: "function", function: { name: "weather", arguments: "" } }],
  },
  { tool_calls: [{ index: 0, function: { arguments: '{"city":"Zü' } }] },
  { tool_calls: [{ index: 0, function: { arguments: 'rich"}' } }] },
  { tool_calls: [{ index: 1, id: "call_b", type: "function", function: { name: "time", arguments: "{}" } }] },
];

/** The same as events of the stream. */
export const AGENT_CHUNKS: readonly string[] = [
  ...AGENT.map((delta) => chunk([{ index: 0, delta, finish_reason: null }])),
  finish("tool_calls"),
  usage(11, 22),
];

/** Comments (null) or the same event so often, at the server's pace, and then an answer of a word. */
function slowly(times: number, delayMs: number, data: string | null): Script {
  const one = { send: data === null ? ": PROCESSING\n\n" : sse(data) };
  const steps: Step[] = [];
  for (let i = 0; i < times; i++) steps.push(one, { waitMs: delayMs });
  return streamed([
    ...steps,
    ...[text("word0 "), finish("stop"), "[DONE]"].map((each) => ({ send: sse(each) })),
  ]);
}

/** As OpenAI refuses a parameter: it names the first of these that is there. */
function refusing(names: readonly string[], pace: Pace, body: Readonly<Record<string, unknown>>): Script {
  for (const name of names) {
    let value: unknown = body;
    for (const member of name.split(".")) value = (value as Record<string, unknown> | undefined)?.[member];
    if (value === undefined) continue;
    const error = { message: `Unsupported parameter: '${name}'`, param: name, code: "unsupported_parameter" };
    return {
      status: 400,
      headers: { "content-type": "application/json" },
      steps: [{ send: JSON.stringify({ error }) }],
    };
  }
  return streamed(answer(words(pace.events), pace.delayMs));
}

/**
 * @param pattern the header's value; an unknown one gets a 400
 * @param tries how many requests of this id there were, this one included
 * @param body the request's
 * @param key that it came with, to be repeated
 */
export function scriptFor(
  pattern: string,
  pace: Pace,
  tries: number,
  body: Readonly<Record<string, unknown>>,
  key: string,
): Script {
  const parsed = parsePattern(pattern);
  const { name, n } = parsed;
  if (pattern.startsWith("refuses-")) return refusing(pattern.slice(8).split("-"), pace, body);
  if (name.startsWith("finish-")) return streamed(answer(["word "], 0, name.slice(7)));
  const plain = (delayMs = pace.delayMs): Script => streamed(answer(words(pace.events), delayMs));
  const fault = faultFor(parsed, tries, key, plain, refused);
  if (fault !== null) return fault;
  switch (name) {
    case "plain":
      return plain();
    case "unicode":
      return streamed(answer(UNICODE_TEXTS, pace.delayMs));
    case "bytes":
      return streamed(cut(answer(UNICODE_TEXTS, 0), 1));
    case "pieces":
      return streamed(answer(Array<string>(4).fill(LONG_TEXT), pace.delayMs));
    case "quirks": {
      const steps = QUIRKS.map((send) => ({ send }));
      return streamed(Number.isNaN(n) ? steps : cut(steps, n));
    }
    case "refusal":
      return streamed([
        { send: sse(chunk([{ index: 0, delta: { refusal: "I will not." }, finish_reason: null }])) },
        ...[finish("stop"), "[DONE]"].map((data) => ({ send: sse(data) })),
      ]);
    case "surrogates":
      return streamed(
        ['"\\ud83c"', '"\\udf0d!"'].map((json) => ({
          send: sse(`{"choices":[{"index":0,"delta":{"content":${json}}}]}`),
        })).concat({ send: sse("[DONE]") }),
      );
    case "quotes":
      return refused(400, {}, "Bad role in messages[0]: 'stream_options'");
    case "think":
      return slowly(n, pace.delayMs, chunk([{ index: 0, delta: { reasoning_content: "hm" } }]));
    case "tools":
      return slowly(
        n,
        pace.delayMs,
        chunk([{ index: 0, delta: { tool_calls: [{ index: 0, function: { arguments: "{" } }] } }]),
      );
    case "agent":
      return streamed([...AGENT_CHUNKS, "[DONE]"].map((data) => ({ send: sse(data) })));
    case "comments":
      return slowly(n, pace.delayMs, null);
    case "json": {
      const whole = { choices: [{ message: { content: "Hello" } }] };
      return {
        status: 200,
        headers: { "content-type": "application/json" },
        steps: [{ send: JSON.stringify(whole) }],
      };
    }
    case "json-error":
      return { ...refused(200, {}, "no such engine"), status: 200 };
    case "sse-error":
      return {
        status: n,
        headers: { "content-type": PLAIN },
        steps: [{ send: sse(JSON.stringify({ error: { message: "too many" } })) }],
      };
    case "nofinish":
      return streamed(first(n, pace.delayMs));
    case "abort":
      return streamed(first(n, pace.delayMs, { reset: true }));
    case "stall":
      return streamed(first(n, pace.delayMs, { stall: true }));
    case "error": {
      const error = { error: { message: "The server had an error", type: "server_error", code: null } };
      return streamed(first(n, pace.delayMs, { send: sse(JSON.stringify(error)) }, { send: sse("[DONE]") }));
    }
    case "badjson":
      return streamed(first(n, pace.delayMs, { send: sse('{"choices": [') }, { send: sse("[DONE]") }));
    case "nodone":
      return streamed(first(n, pace.delayMs, { send: sse(finish("stop")) }));
    case "hugeline":
      return streamed(
        first(1, pace.delayMs, { send: sse(text("x".repeat(1_048_576))) }, { send: sse("[DONE]") }),
      );
    case "burst":
      return streamed([{ send: [...words(n).map(text), finish("stop"), "[DONE]"].map(sse).join("") }]);
    case "open-end":
      return streamed([...answer(["word "], 0), { stall: true }]);
    case "gate":
      return streamed([
        { send: sse(text("first ")) },
        { gate: true },
        ...answer(words(pace.events), pace.delayMs),
      ]);
    default:
      return refused(
        400,
        {},
        `X-Test-Pattern is unknown; expected one of ${Object.keys(PATTERNS).join(", ")}`,
      );
  }
}

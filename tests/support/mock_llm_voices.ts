/**
 * What the stand-in says in the ways of providers that have another style than chat completions. Each is a
 * {@linkcode Voice}; what happens is the same for all, by the patterns of `mock_llm_patterns.ts`.
 * @module
 */
import {
  cut,
  faultFor,
  LONG_TEXT,
  type Pace,
  parsePattern,
  PATTERNS,
  type Refuse,
  type Script,
  type Step,
  streamed,
  UNICODE_TEXTS,
  words,
} from "./mock_llm_patterns.ts";

/** Writes one answer, event by event. Each method returns whole events, "" for none. */
export interface Writer {
  /** What comes before all else. */
  begin(): string;
  text(text: string): string;
  think(text: string): string;
  /** A page that the text before it cites. */
  source(url: string, title: string): string;
  call(id: string, name: string): string;
  /** A piece of the arguments of the call that was begun last. */
  input(piece: string): string;
  /** What says no more than that the provider is there. */
  alive(): string;
  /**
   * Why the model stopped, in the provider's word; "" in its word for a good end.
   *
   * @param output tokens of the answer; the request's are 7
   */
  finish(reason: string, output: number): string;
  /** The end mark. */
  mark(): string;
  error(type: string, message: string): string;
}

/** A provider's way of speaking. */
export interface Voice {
  writer(body: Readonly<Record<string, unknown>>, path: string): Writer;
  /** The body of an answer that is no stream. */
  refused(status: number, message: string): unknown;
  /** The name of the events that have a text. */
  readonly textEvent: string;
  /** Its word for an answer that ends with calls of tools. */
  readonly callsReason: string;
}

/** Patterns that only these have, in the form of `PATTERNS`. */
export const VOICE_PATTERNS: Readonly<Record<string, string>> = {
  "overloaded-n": "not chat completions: an overloaded_error after n words",
  "rate-limit-n": "not chat completions: a rate limit's error after n words",
};

/** As `scriptFor`, in another voice. */
export function voiceScript(
  voice: Voice,
  pattern: string,
  pace: Pace,
  tries: number,
  request: { readonly body: Readonly<Record<string, unknown>>; readonly path: string; readonly key: string },
): Script {
  const parsed = parsePattern(pattern);
  const { name, n } = parsed;
  const { delayMs } = pace;
  const refuse: Refuse = (status, headers = {}, message = `a made-up ${status}`) => ({
    status,
    headers: { "content-type": "application/json", ...headers },
    steps: [{ send: JSON.stringify(voice.refused(status, message)) }],
  });
  const writer = voice.writer(request.body, request.path);
  const sends = (pieces: readonly string[], pauseMs: number): Step[] =>
    pieces.flatMap((send, at) => at > 0 && pauseMs > 0 ? [{ waitMs: pauseMs }, { send }] : [{ send }])
      .filter((step) => !("send" in step) || step.send !== "");
  const answer = (texts: readonly string[], pauseMs = delayMs, reason = ""): Step[] => [
    ...sends([writer.begin()], 0),
    ...sends(texts.map((text) => writer.text(text)), pauseMs),
    ...sends([writer.finish(reason, texts.length), writer.mark()], 0),
  ];
  const first = (count: number, ...then: Step[]): Script =>
    streamed([
      ...sends([writer.begin()], 0),
      ...words(count).flatMap((text) => [{ send: writer.text(text) }, { waitMs: delayMs }]),
      ...then,
    ]);
  const fault = faultFor(
    parsed,
    tries,
    request.key,
    (pauseMs) => streamed(answer(words(pace.events), pauseMs)),
    refuse,
  );
  if (fault !== null) return fault;
  const slowly = (piece: () => string): Script =>
    streamed([
      ...sends([writer.begin()], 0),
      ...Array.from({ length: n }, () => [{ send: piece() }, { waitMs: delayMs }]).flat(),
      ...sends([writer.text("word0 "), writer.finish("", 1), writer.mark()], 0),
    ]);
  if (name.startsWith("finish-")) return streamed(answer(["word "], 0, name.slice(7)));
  switch (name) {
    case "plain":
      return streamed(answer(words(pace.events)));
    case "unicode":
      return streamed(answer(UNICODE_TEXTS));
    case "bytes":
      return streamed(cut(answer(UNICODE_TEXTS, 0), 1));
    case "pieces":
      return streamed(answer(Array<string>(4).fill(LONG_TEXT)));
    case "think":
      return slowly(() => writer.think("hm"));
    case "comments":
      return slowly(() => writer.alive());
    case "agent":
      return streamed([{ send: agent(writer, voice.callsReason) }]);
    case "json": {
      return {
        status: 200,
        headers: { "content-type": "application/json" },
        steps: [{ send: JSON.stringify({ hello: "world" }) }],
      };
    }
    case "json-error":
      return { ...refuse(200, {}, "no such engine"), status: 200 };
    case "abort":
      return first(n, { reset: true });
    case "stall":
      return first(n, { stall: true });
    case "error":
      return first(n, { send: writer.error("api_error", "The server had an error") });
    case "overloaded":
      return first(n, { send: writer.error("overloaded_error", "Overloaded") });
    case "rate-limit":
      return first(n, { send: writer.error("rate_limit_error", "Too many") });
    case "badjson":
      return first(n, { send: `event: ${voice.textEvent}\ndata: {"type": [\n\n` });
    case "nodone":
      return first(n, { send: writer.finish("", n) });
    case "nofinish":
      return first(n);
    case "hugeline":
      return first(1, { send: writer.text("x".repeat(1_048_576)) });
    case "burst":
      return streamed([{
        send: answer(words(n), 0).map((step) => "send" in step ? step.send : "").join(""),
      }]);
    case "open-end":
      return streamed([...answer(["word "], 0), { stall: true }]);
    case "gate":
      return streamed([
        ...sends([writer.begin(), writer.text("first ")], 0),
        { gate: true },
        ...sends([
          ...words(pace.events).map((text) => writer.text(text)),
          writer.finish("", 1),
          writer.mark(),
        ], delayMs),
      ]);
    default:
      return refuse(
        400,
        {},
        `X-Test-Pattern is unknown; expected one of ${
          Object.keys({ ...PATTERNS, ...VOICE_PATTERNS }).join(", ")
        }`,
      );
  }
}

/** What a model says that thinks, has looked something up and wants to use tools: the same as `AGENT`. */
function agent(writer: Writer, reason: string): string {
  return [
    writer.begin(),
    writer.think("Let me "),
    writer.think("think. 🤔"),
    writer.text("It is "),
    writer.text("sunny."),
    writer.source("https://weather.example/", "Weather"),
    writer.call("call_a", "weather"),
    writer.input('{"city":"Zü'),
    writer.input('rich"}'),
    writer.call("call_b", "time"),
    writer.input("{}"),
    writer.finish(reason, 22),
    writer.mark(),
  ].join("");
}

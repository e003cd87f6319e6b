/**
 * Handoff bytes to request: pure. The fields and their rules: docs/apache-php.md, "The handoff's data".
 * @module
 */
import { HandoffRequestError } from "../errors.ts";
import { type Include, INCLUDES, RESPONSE_FORMATS, type ResponseFormat } from "./response_choice.ts";
import { phpObject } from "./php_object.ts";
import { headerLines } from "./response_headers.ts";
import { type StreamChoice, streamChoice } from "./stream_choice.ts";

/** One message of a conversation, as providers take it. */
export interface ChatMessage {
  readonly role: string;
  /**
   * Text, or a provider's list of content parts, which is passed on as it is; none where the message says something else,
   * such as `tool_calls`.
   */
  readonly content?: string | readonly unknown[] | null;
}

/** The handoff's data, checked, with the defaults filled in. */
export interface HandoffRequest {
  /** In every log line, and sent upstream as `X-Request-ID`. Printable ASCII, at most 128 characters. */
  readonly requestId: string;
  /** Never empty: from `messages`, or made from `system` and `prompt`. */
  readonly messages: readonly ChatMessage[];
  readonly model: string;
  /** Who is asked, if it is not the default one. */
  readonly backend?: string;
  readonly maxTokens?: number;
  /** The same by the name that newer models take; wins. */
  readonly maxCompletionTokens?: number;
  readonly temperature?: number;
  readonly userId?: string;
  /** Sent upstream as `X-Test-Pattern`, for test backends. */
  readonly testPattern?: string;
  /** Further members of the provider's request, as they came. Their names are among {@linkcode RequestRules.members}. */
  readonly members?: Readonly<Record<string, unknown>>;
  /** What the answer is written as. */
  readonly format: ResponseFormat;
  /** What goes to the client besides the text. */
  readonly include: readonly Include[];
  /** Further lines of the response's head, each with its CRLF. */
  readonly responseHeaders?: string;
  /** The span that it comes from, as W3C Trace Context writes it; not checked. */
  readonly traceparent?: string;
  /** The conversation that a provider keeps, and what is under way in it: for LangGraph. Printable ASCII, as above. */
  readonly threadId?: string;
  readonly runId?: string;
  /** Of a stream that has an id. */
  readonly stream?: StreamChoice;
}

/** What holds for requests to one backend. */
export interface BackendRules {
  /** Of requests that name none. */
  readonly model: string;
  /** Names of the members that `request` may have. */
  readonly members: readonly string[];
}

/** A backend that can be chosen. */
export interface BackendChoice extends BackendRules {
  readonly name: string;
  /** How the models begin that it is asked for. */
  readonly models: readonly string[];
  /** Whether `backend` may name it. */
  readonly selectable: boolean;
}

/** What stands in for what the sender left out, and what it may set. */
export interface RequestRules extends BackendRules {
  /** Where there are several, or one can be named. The first is the default one. */
  readonly backends?: readonly BackendChoice[];
  readonly format: ResponseFormat;
  readonly include: readonly Include[];
  /** Makes an id that is unique in the daemon's logs. */
  makeRequestId(): string;
}

/** Members of a provider's request that are the daemon's affair, or have a field of their own in the handoff. */
export const OWN_MEMBERS = [
  "max_completion_tokens",
  "max_tokens",
  "messages",
  "model",
  "n",
  "stream",
  "stream_options",
  "temperature",
] as const;

/** The prompt of a handoff without data (`nc -U`, mod_proxy_fdpass). */
export const DEFAULT_PROMPT = "Hello";

const PRINTABLE_ASCII = /^[\x20-\x7e]{1,128}$/;
const decoder = new TextDecoder("utf-8", { fatal: true });

/**
 * Reads the handoff's data.
 *
 * @param payload UTF-8 JSON; empty or a NUL byte stands for none
 * @throws {HandoffRequestError} if it is not a JSON object, or a field is of the wrong type; the message names
 *   the field and is fit to be shown to the client
 */
export function parseHandoffRequest(payload: Uint8Array, rules: RequestRules): HandoffRequest {
  const fields = payload.length === 0 || payload[0] === 0 ? {} : parseObject(payload);
  const system = optionalString(fields, "system");
  const prompt = optionalString(fields, "prompt");
  const model = optionalString(fields, "model");
  const chosen = chosenBackend(optionalString(fields, "backend"), model, rules.backends);
  const { model: defaultModel, members: allowed } = chosen ?? rules;
  const request: { -readonly [K in keyof HandoffRequest]: HandoffRequest[K] } = {
    requestId: optionalHeaderText(fields, "request_id") ?? rules.makeRequestId(),
    messages: optionalMessages(fields) ?? messagesOf(system, prompt),
    model: model || defaultModel,
    format: optionalFormat(fields) ?? rules.format,
    include: optionalIncludes(fields) ?? rules.include,
  };
  if (chosen !== undefined) request.backend = chosen.name;
  const maxTokens = optionalCount(fields, "max_tokens");
  if (maxTokens !== undefined) request.maxTokens = maxTokens;
  const maxCompletionTokens = optionalCount(fields, "max_completion_tokens");
  if (maxCompletionTokens !== undefined) request.maxCompletionTokens = maxCompletionTokens;
  const temperature = optionalNumber(fields, "temperature");
  if (temperature !== undefined) {
    if (temperature < 0 || temperature === Infinity) {
      throw wrong("temperature", "a number from 0 up", temperature);
    }
    request.temperature = temperature;
  }
  const userId = fields["user_id"] ?? undefined;
  if (userId !== undefined) {
    if (typeof userId !== "string" && typeof userId !== "number") {
      throw wrong("user_id", "a number or a string", userId);
    }
    request.userId = Number.isSafeInteger(userId) || typeof userId === "string"
      ? String(userId)
      : sourceOf(payload, "user_id");
  }
  const testPattern = optionalHeaderText(fields, "test_pattern");
  if (testPattern !== undefined) request.testPattern = testPattern;
  const threadId = optionalHeaderText(fields, "thread_id");
  if (threadId !== undefined) request.threadId = threadId;
  const runId = optionalHeaderText(fields, "run_id");
  if (runId !== undefined) {
    if (threadId === undefined) throw new HandoffRequestError('Field "run_id" needs a "thread_id" beside it');
    request.runId = runId;
  }
  const members = optionalMembers(fields, allowed);
  if (members !== undefined) request.members = members;
  const responseHeaders = headerLines(fields["response_headers"] ?? []);
  if (responseHeaders !== "") request.responseHeaders = responseHeaders;
  const traceparent = optionalString(fields, "traceparent");
  if (traceparent !== undefined) request.traceparent = traceparent;
  const stream = streamChoice(fields);
  if (stream !== undefined) request.stream = stream;
  return request;
}

/** The `request_id` of data that is refused for something else; `undefined` where it has none that could be one. */
export function requestIdOf(payload: Uint8Array): string | undefined {
  try {
    return optionalHeaderText(parseObject(payload), "request_id");
  } catch (error) {
    if (error instanceof HandoffRequestError) return undefined; // that is why it is refused
    throw error;
  }
}

/** A number's digits as the data has them: PHP's integers have 64 bits. */
function sourceOf(payload: Uint8Array, name: string): string {
  const found: [holder: unknown, source: string][] = [];
  const note = function (this: unknown, key: string, value: unknown, context?: { source?: string }): unknown {
    if (key === name) found.push([this, context?.source ?? String(value)]);
    return value;
  };
  let root: unknown;
  try {
    root = JSON.parse(decoder.decode(payload), note);
  } catch (cause) {
    // V8 calls back from calls within calls, some thousands deep; without a callback it reads any depth.
    throw new HandoffRequestError(`Handoff data is nested too deeply for a "${name}" of so many digits`, {
      cause,
    });
  }
  return found.findLast(([holder]) => holder === root)?.[1] ?? "";
}

function parseObject(payload: Uint8Array): Record<string, unknown> {
  let text;
  try {
    text = decoder.decode(payload);
  } catch (cause) {
    throw new HandoffRequestError("Handoff data is not valid UTF-8", { cause });
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    // V8's message quotes the data, which may be private; it stays in the cause.
    throw new HandoffRequestError(`Handoff data is not valid JSON (${payload.length} bytes)`, { cause });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new HandoffRequestError(`Handoff data is ${typeName(value)}, expected a JSON object`);
  }
  return value as Record<string, unknown>;
}

/** The backend that a handoff names, or else the one whose beginning of the model's name is the longest. */
function chosenBackend(
  name: string | undefined,
  model: string | undefined,
  backends: readonly BackendChoice[] | undefined,
): BackendChoice | undefined {
  if (name) {
    const named = backends?.find((each) => each.selectable && each.name === name);
    if (named !== undefined) return named;
    const names = backends?.filter(({ selectable }) => selectable).map(({ name }) => name) ?? [];
    throw new HandoffRequestError(
      names.length === 0
        ? `Field "backend" is given, and the daemon's backend.selectable names none`
        : `Field "backend" is not one of ${names.join(", ")}`,
    );
  }
  if (!model || backends === undefined) return undefined;
  let longest = 0;
  let best: BackendChoice | undefined;
  for (const each of backends) {
    const length = prefixLength(model, each.models);
    if (length > longest) {
      longest = length;
      best = each;
    }
  }
  return best;
}

/** How long the longest of these is that a model's name begins with; 0: none. */
export function prefixLength(model: string, prefixes: readonly string[]): number {
  let longest = 0;
  for (const prefix of prefixes) {
    if (prefix.length > longest && model.startsWith(prefix)) longest = prefix.length;
  }
  return longest;
}

function messagesOf(system: string | undefined, prompt: string | undefined): readonly ChatMessage[] {
  const user = { role: "user", content: prompt || DEFAULT_PROMPT };
  return system ? [{ role: "system", content: system }, user] : [user];
}

function optionalMessages(fields: Record<string, unknown>): readonly ChatMessage[] | undefined {
  const value = fields["messages"] ?? undefined;
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw wrong("messages", "an array of {role, content}", value);
  value.forEach((message: unknown, index) => {
    const name = `messages[${index}]`;
    if (typeof message !== "object" || message === null || Array.isArray(message)) {
      throw wrong(name, "an object with role and content", message);
    }
    const { role, content, tool_calls: calls } = message as Record<string, unknown>;
    if (typeof role !== "string") throw wrong(`${name}.role`, "a string", role);
    if (content === null || (content === undefined && Array.isArray(calls))) return;
    if (typeof content !== "string" && !Array.isArray(content)) {
      throw wrong(`${name}.content`, "a string, an array of parts or null", content);
    }
  });
  return value.length > 0 ? value as ChatMessage[] : undefined;
}

function optionalFormat(fields: Record<string, unknown>): ResponseFormat | undefined {
  const value = optionalString(fields, "format");
  const format = RESPONSE_FORMATS.find((each) => each === value);
  if (value !== undefined && format === undefined) {
    throw new HandoffRequestError(`Field "format" is not one of ${RESPONSE_FORMATS.join(", ")}`);
  }
  return format;
}

function optionalIncludes(fields: Record<string, unknown>): readonly Include[] | undefined {
  const value = fields["include"] ?? undefined;
  if (value === undefined) return undefined;
  const words = INCLUDES.join(", ");
  if (!Array.isArray(value)) throw wrong("include", `an array of ${words}`, value);
  value.forEach((each: unknown, index) => {
    if ((INCLUDES as readonly unknown[]).includes(each)) return;
    throw new HandoffRequestError(`Field "include[${index}]" is not one of ${words}`);
  });
  return value as Include[];
}

function optionalMembers(
  fields: Record<string, unknown>,
  allowed: readonly string[],
): Readonly<Record<string, unknown>> | undefined {
  const value = fields["request"] ?? undefined;
  if (value === undefined) return undefined;
  const given = phpObject(value);
  if (given === undefined) throw wrong("request", "an object", value);
  const members = Object.entries(given).filter(([, member]) => member !== null);
  for (const [name] of members) {
    if (allowed.includes(name)) continue;
    // The name is the sender's: it is quoted where it can be one.
    const shown = /^[\w.-]{1,64}$/.test(name) ? `"request.${name}"` : '"request" with a member that';
    throw new HandoffRequestError(`Field ${shown} is not among the daemon's backend.request_members`);
  }
  return members.length === 0 ? undefined : Object.fromEntries(members);
}

// PHP encodes what is not set as null, so null means absent.
function optionalString(fields: Record<string, unknown>, name: string): string | undefined {
  const value = fields[name] ?? undefined;
  if (value !== undefined && typeof value !== "string") throw wrong(name, "a string", value);
  return value;
}

function optionalNumber(fields: Record<string, unknown>, name: string): number | undefined {
  const value = fields[name] ?? undefined;
  if (value !== undefined && typeof value !== "number") throw wrong(name, "a number", value);
  return value;
}

function optionalCount(fields: Record<string, unknown>, name: string): number | undefined {
  const value = optionalNumber(fields, name);
  if (value !== undefined && (!Number.isInteger(value) || value < 1)) {
    throw wrong(name, "a positive integer", value);
  }
  return value;
}

// These become header lines upstream, where a line break would begin a header of the sender's choice, and spaces around
// a value make servers of HTTP/2 end the connection with all its streams (RFC 9113, section 8.2.1).
function optionalHeaderText(fields: Record<string, unknown>, name: string): string | undefined {
  const value = optionalString(fields, name)?.trim();
  if (value === undefined || value === "") return undefined;
  if (!PRINTABLE_ASCII.test(value)) {
    throw new HandoffRequestError(`Field "${name}" is not 1 to 128 characters of printable ASCII`);
  }
  return value;
}

function wrong(name: string, expected: string, value: unknown): HandoffRequestError {
  const received = typeof value === "number" ? String(value) : typeName(value);
  return new HandoffRequestError(`Field "${name}" is ${received}, expected ${expected}`);
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (value === undefined) return "missing";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/**
 * An answer that is not the stream that was asked for: read to its end, or to a bound, it becomes an error that says
 * what came. Pure.
 * @module
 */

import { BackendError } from "../../errors.ts";
import { fieldOf } from "../../upstream/exchange.ts";
import type { Field } from "../../upstream/h2/static_table.ts";
import { excerpt, kindOfStatus, loggable } from "./errors.ts";

/** Of the body, so much is read. */
const MAX_BODY_BYTES = 65_536;

/** What a provider answered in place of a stream. */
export interface Refused {
  readonly status: number;
  /** `error.param`: which part of the request it is about, in its words; null if it does not say. */
  readonly param: string | null;
  /** `x-should-retry`, `retry-after-ms` and `retry-after`, as they came. */
  readonly shouldRetry: string | null;
  readonly retryAfterMs: string | null;
  readonly retryAfter: string | null;
  readonly failure: BackendError;
}

/** What makes a head one of an answer that is not a stream. */
type Reason = "status" | "coding" | "json" | "html";

/** Collects it. */
export class Refusal {
  readonly #status: number;
  readonly #headers: readonly Field[];
  readonly #reason: Reason;
  readonly #secrets: readonly string[];
  readonly #decoder = new TextDecoder();
  #text = "";
  #bytes = 0;

  /** @returns null for the head of a stream */
  static of(status: number, headers: readonly Field[], secrets: readonly string[]): Refusal | null {
    const reason = reasonOf(status, headers);
    return reason === null ? null : new Refusal(status, headers, reason, secrets);
  }

  private constructor(status: number, headers: readonly Field[], reason: Reason, secrets: readonly string[]) {
    this.#status = status;
    this.#headers = headers;
    this.#reason = reason;
    this.#secrets = secrets;
  }

  /** Whether its body can say any more. */
  get complete(): boolean {
    return this.#reason === "html" || this.#reason === "coding" || this.#bytes >= MAX_BODY_BYTES;
  }

  /** @param bytes the next ones of its body; not kept */
  add(bytes: Uint8Array): void {
    this.#text += this.#decoder.decode(bytes.subarray(0, MAX_BODY_BYTES - this.#bytes), { stream: true });
    this.#bytes += bytes.length;
  }

  /** What came. */
  result(): Refused {
    const body = parsed(this.#text);
    const [kind, message] = this.#words(body);
    return {
      status: this.#status,
      param: paramOf(body),
      shouldRetry: this.#field("x-should-retry"),
      retryAfterMs: this.#field("retry-after-ms"),
      retryAfter: this.#field("retry-after"),
      failure: new BackendError(kind, loggable(message, this.#secrets)),
    };
  }

  #words(body: Record<string, unknown> | null): [BackendError["kind"], string] {
    const type = this.#field("content-type") ?? "";
    const words = wordsOf(body);
    switch (this.#reason) {
      case "coding": {
        const coding = this.#field("content-encoding") ?? "";
        const answer = this.#status >= 300 ? `answer ${this.#status}` : "answer";
        const kind = this.#status >= 300 ? kindOfStatus(this.#status) : "malformed";
        return [kind, `the provider's ${answer} is in the coding ${coding}, which was not asked for`];
      }
      case "html":
        return ["malformed", `the answer is ${type}; expected text/event-stream`];
      case "json":
        if (body !== null && (body["error"] ?? null) !== null) {
          return ["stream_error", `the provider reports, with status ${this.#status}: ${words}`];
        }
        return [
          "malformed",
          `the answer is ${type}; expected text/event-stream; it is ${excerpt(this.#text)}`,
        ];
      case "status": {
        const target = this.#field("location");
        if (this.#status < 400 && target !== null) {
          return [
            "other",
            `the provider answered ${this.#status}, a redirect to ${bare(target)}; expected no redirect`,
          ];
        }
        const said = words ?? this.#text.trim();
        return [
          kindOfStatus(this.#status),
          `the provider answered ${this.#status} ${said === "" ? "without a word" : said}`,
        ];
      }
    }
  }

  #field(name: string): string | null {
    return fieldOf(this.#headers, name);
  }
}

function reasonOf(status: number, headers: readonly Field[]): Reason | null {
  const coding = fieldOf(headers, "content-encoding");
  if (coding !== null && !/^(identity)?$/i.test(coding)) return "coding";
  if (status >= 300) return "status";
  const type = fieldOf(headers, "content-type") ?? "";
  if (/^text\/html\b/i.test(type)) return "html";
  return /^application\/([\w.-]+\+)?json\b/i.test(type) ? "json" : null;
}

/** JSON, or the JSON in the first event of a stream: some answer so with an error's status, too. */
function parsed(text: string): Record<string, unknown> | null {
  // Each line by itself: \s would go on over all those that are empty, from each of them.
  const json = /^[ \t]*data:(.*)/m.exec(text)?.[1] ?? text;
  try {
    const value: unknown = JSON.parse(json);
    return typeof value === "object" && value !== null ? value as Record<string, unknown> : null;
  } catch {
    return null; // the text itself says it
  }
}

/** The words of `{"error": {"message": …}}`, of `{"error": "…"}`, and of what else there is. */
function wordsOf(body: Record<string, unknown> | null): string | null {
  if (body === null) return null;
  const error = body["error"] ?? body;
  if (typeof error !== "object" || error === null) return String(error);
  const { message, detail } = error as Record<string, unknown>;
  if (typeof message === "string") return message;
  try {
    // FastAPI repeats in "input" what it was sent: somebody's conversation.
    return JSON.stringify(message ?? detail ?? error, (name, said) => name === "input" ? undefined : said);
  } catch {
    return "an error that nests too deeply to be shown"; // a RangeError: it was read all the same
  }
}

/** OpenAI's `error.param`; or where FastAPI says it: `{"detail": [{"loc": ["body", "max_tokens"]}]}`. */
function paramOf(body: Record<string, unknown> | null): string | null {
  const { error, detail } = body ?? {};
  const param = (error as { readonly param?: unknown } | undefined)?.param;
  if (typeof param === "string") return param;
  const loc: unknown = Array.isArray(detail) ? detail[0]?.loc : null;
  return Array.isArray(loc) && loc[0] === "body"
    ? loc.slice(1).filter((each) => typeof each !== "object").join(".")
    : null;
}

/** An address without what may be secret in it. */
function bare(target: string): string {
  return target.replace(/[?#].*$/s, "").replace(/\/\/[^/@]*@/, "//");
}

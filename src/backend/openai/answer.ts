/**
 * One answer, from the request on: tries, the head, the body's events, the end.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { Exchange, ExchangeListener, RequestHead } from "../../upstream/exchange.ts";
import type { Field } from "../../upstream/h2/static_table.ts";
import type { Pool } from "../../upstream/pool.ts";
import type { Answer, BackendRequest, Recipient, StreamEvent } from "../backend.ts";
import type { EventQueue } from "../event_queue.ts";
import type { LiveAnswers } from "../live_answers.ts";
import { type AnswerListener, AnswerReader } from "./answer_reader.ts";
import { asLoggable } from "./errors.ts";
import { isHeader, type OpenAiOptions } from "./options.ts";
import { Refusal, type Refused } from "./refusal.ts";
import { adapted, type BodyOptions, type Models, requestBody, type Traits } from "./request.ts";
import { isRepeatable, pauseMs } from "./retry.ts";

/** Who is told what goes to the provider and comes from it, so that it can come in fewer turns. */
export interface Arrivals {
  requested(): void;
  received(): void;
}

/** What the answers of one backend share. */
export interface Shared {
  readonly options: OpenAiOptions;
  readonly body: BodyOptions;
  readonly arrivals: Arrivals;
  readonly queue: EventQueue;
  readonly pool: Pool;
  readonly head: RequestHead;
  readonly models: Models;
  retries: number;
  cancelled: number;
  readonly live: Pick<LiveAnswers, "ended">;
}

/** What is needed of a request until its head has come. */
interface Asking {
  readonly request: BackendRequest;
  readonly startMs: number;
  /** What the model was known to take at the beginning, and what it is asked with now. */
  readonly first: Traits;
  traits: Traits;
  tries: number;
  /** The answer to the present try, if it is not a good one. */
  refusal: Refusal | null;
}

const ENCODER = new TextEncoder();

/** See the module. */
export class OpenAiAnswer implements Answer, ExchangeListener, AnswerListener {
  readonly #shared: Shared;
  readonly #recipient: Recipient;
  /** Null from the head on: a conversation may be large. */
  #asking: Asking | null;
  #reader: AnswerReader | null = null;
  #exchange: Exchange | null = null;
  #pause: ReturnType<typeof setTimeout> | null = null;
  /** Something was told of the bytes that came last. */
  #told = false;
  #paused = false;
  #over = false;

  constructor(shared: Shared, request: BackendRequest, recipient: Recipient) {
    this.#shared = shared;
    this.#recipient = recipient;
    const first = shared.models.of(request.model);
    this.#asking = { request, startMs: performance.now(), first, traits: first, tries: 0, refusal: null };
  }

  pause(): void {
    this.#paused = true;
    if (this.#exchange !== null) this.#exchange.paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#exchange?.resume();
  }

  cancel(): void {
    const exchange = this.#exchange;
    if (!this.#finish()) return;
    this.#shared.cancelled++;
    exchange?.cancel();
  }

  /** Sends the request, the first time or again. */
  ask(): void {
    const { pool, head, body: options, arrivals } = this.#shared;
    const asking = this.#asking;
    if (asking === null) return;
    const { request, traits } = asking;
    const headers: Field[] = [["x-request-id", request.requestId]];
    if (request.testPattern !== undefined) {
      if (!isHeader("x-test-pattern", request.testPattern)) {
        return this.#fail(new BackendError("bad_request", "test_pattern cannot be sent as a header"));
      }
      headers.push(["x-test-pattern", request.testPattern.trim()]);
    }
    arrivals.requested();
    asking.tries++;
    asking.refusal = null;
    const body = ENCODER.encode(requestBody(request, traits, options));
    this.#exchange = pool.request({ head, headers, body }, this);
    if (this.#paused) this.#exchange.paused = true;
  }

  head(status: number, headers: readonly Field[]): void {
    const asking = this.#asking;
    if (asking === null) return;
    const refusal = Refusal.of(status, headers, this.#shared.options.apiKey);
    if (refusal === null) {
      this.#shared.models.learn(asking.request.model, asking.traits);
      const { format, include } = asking.request;
      this.#asking = null;
      this.#reader = new AnswerReader(this, {
        reasoning: include.includes("reasoning"),
        toolCalls: include.includes("tool_calls"),
        sources: format === "ai-sdk",
        chunks: format === "openai",
        counts: include.includes("usage"),
      });
      return this.event({ kind: "open" });
    }
    asking.refusal = refusal;
    if (refusal.complete) this.#leaveRefused(refusal);
  }

  data(bytes: Uint8Array): void {
    if (this.#over) return;
    this.#shared.arrivals.received();
    const refusal = this.#asking?.refusal;
    if (refusal) {
      refusal.add(bytes);
      if (refusal.complete) this.#leaveRefused(refusal);
      return;
    }
    this.#told = false;
    this.#reader?.push(bytes);
    if (!this.#told) this.event({ kind: "alive" });
  }

  end(): void {
    const refusal = this.#asking?.refusal;
    if (refusal) this.#onRefusal(refusal.result());
    else this.#reader?.end();
  }

  fail(error: BackendError): void {
    if (this.#over) return;
    const asking = this.#asking;
    if (asking === null) this.#fail(asLoggable(error, this.#shared.options.apiKey));
    else if (asking.refusal !== null) this.#onRefusal(asking.refusal.result());
    else this.#tryAgain(asLoggable(error, this.#shared.options.apiKey), null);
  }

  event(event: StreamEvent): void {
    if (this.#over) return;
    this.#told = true;
    this.#shared.queue.push(this.#recipient, event);
  }

  done(): void {
    const exchange = this.#exchange;
    this.#tellLast({ kind: "end" });
    if (exchange !== null) this.#shared.pool.leave(exchange);
  }

  failed(error: BackendError): void {
    const exchange = this.#exchange;
    this.#fail(asLoggable(error, this.#shared.options.apiKey));
    exchange?.cancel();
  }

  /** Its body can say nothing more. */
  #leaveRefused(refusal: Refusal): void {
    if (this.#exchange !== null) this.#shared.pool.leave(this.#exchange);
    this.#onRefusal(refusal.result());
  }

  /** Asks for what the model takes, if that is what it is about; else as after any failure. */
  #onRefusal(refused: Refused): void {
    const asking = this.#asking;
    if (asking === null) return;
    const other = adapted(asking.request, refused, asking.traits, asking.first);
    if (other === null) return this.#tryAgain(refused.failure, refused);
    asking.traits = other;
    asking.tries--; // the request was not accepted, and the next is another one
    this.ask();
  }

  #tryAgain(failure: BackendError, refused: Refused | null): void {
    const asking = this.#asking;
    if (asking === null) return;
    this.#exchange = null;
    const { maxRetries, headTimeoutMs } = this.#shared.options;
    const waitMs = pauseMs(refused, asking.tries, Date.now(), Math.random());
    const spentMs = performance.now() - asking.startMs;
    if (asking.tries > maxRetries || !isRepeatable(failure, refused) || spentMs + waitMs >= headTimeoutMs) {
      return this.#fail(failure);
    }
    this.#shared.retries++;
    this.#pause = setTimeout(() => this.ask(), waitMs);
  }

  #fail(error: BackendError): void {
    this.#tellLast({ kind: "error", error });
  }

  #tellLast(event: StreamEvent): void {
    this.event(event);
    this.#finish();
  }

  /** Lets go of all. @returns whether this was still to do */
  #finish(): boolean {
    if (this.#over) return false;
    this.#over = true;
    this.#asking = null;
    this.#reader = null;
    this.#exchange = null;
    if (this.#pause !== null) clearTimeout(this.#pause);
    this.#shared.live.ended();
    return true;
  }
}

/**
 * One answer, from the request on: tries, the head, the body's events, the end.
 * @module
 */

import { BackendError } from "../../errors.ts";
import type { Log } from "../../ops/log/log.ts";
import type { Exchange, ExchangeListener } from "../../upstream/exchange.ts";
import type { Field } from "../../upstream/h2/static_table.ts";
import type { Pool } from "../../upstream/pool.ts";
import type { Answer, BackendRequest, Recipient, StreamEvent } from "../backend.ts";
import type { EventQueue } from "../event_queue.ts";
import type { LiveAnswers } from "../live_answers.ts";
import { type AnswerListener, type BodyReader, type Dialect, type Draft, wantedOf } from "./dialect.ts";
import { asLoggable } from "./errors.ts";
import { type HttpOptions, isHeader } from "./options.ts";
import { Refusal, type Refused } from "./refusal.ts";
import { isRepeatable, pauseMs } from "./retry.ts";

/** Who is told what goes on. */
export interface Hooks {
  /** Something has come from the provider: more can come at once. */
  readonly arrivals: { received(): void };
  readonly log: Pick<Log, "debug">;
}

/** What the answers of one backend share. */
export interface Shared {
  readonly dialect: Dialect;
  readonly options: Pick<HttpOptions, "maxRetries" | "headTimeoutMs">;
  /** See `secretsOf`. */
  readonly secrets: readonly string[];
  readonly hooks: Hooks;
  readonly queue: EventQueue;
  readonly pool: Pool;
  retries: number;
  cancelled: number;
  readonly live: Pick<LiveAnswers, "ended">;
}

/** What is needed of a request until its head has come. */
interface Asking {
  readonly request: BackendRequest;
  readonly startMs: number;
  readonly draft: Draft;
  tries: number;
  /** The answer to the present try, if it is not a good one. */
  refusal: Refusal | null;
}

const ENCODER = new TextEncoder();
/** So long is waited for the end of a refusal's body, which some servers forget; what has come by then counts. */
const REFUSAL_MS = 5_000;

/** See the module. */
export class HttpAnswer implements Answer, ExchangeListener, AnswerListener {
  readonly #shared: Shared;
  readonly #recipient: Recipient;
  /** Null from the head on: a conversation may be large. */
  #asking: Asking | null;
  #reader: BodyReader | null = null;
  #exchange: Exchange | null = null;
  /** Of a refusal's body, then of the pause before another try. */
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Something was told of the bytes that came last. */
  #told = false;
  #paused = false;
  #over = false;

  constructor(shared: Shared, request: BackendRequest, recipient: Recipient) {
    this.#shared = shared;
    this.#recipient = recipient;
    const draft = shared.dialect.draft(request);
    this.#asking = { request, startMs: performance.now(), draft, tries: 0, refusal: null };
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
    const { pool } = this.#shared;
    const asking = this.#asking;
    if (asking === null) return;
    const { request, draft } = asking;
    const headers: Field[] = [["x-request-id", request.requestId]];
    if (request.testPattern !== undefined) {
      if (!isHeader("x-test-pattern", request.testPattern)) {
        return this.#fail(new BackendError("bad_request", "test_pattern cannot be sent as a header"));
      }
      headers.push(["x-test-pattern", request.testPattern.trim()]);
    }
    let body;
    try {
      body = ENCODER.encode(draft.body());
    } catch (error) {
      if (error instanceof BackendError) return this.#fail(error);
      // A RangeError: what was read as JSON may nest too deeply to be written again.
      return this.#fail(
        new BackendError("bad_request", "the request cannot be written as JSON", { cause: error }),
      );
    }
    asking.tries++;
    asking.refusal = null;
    this.#exchange = pool.request({ head: draft.head, headers, body }, this);
    if (this.#paused) this.#exchange.paused = true;
  }

  head(status: number, headers: readonly Field[]): void {
    const asking = this.#asking;
    if (asking === null) return;
    const refusal = Refusal.of(status, headers, this.#shared.secrets);
    if (refusal === null) {
      asking.draft.accepted();
      this.#asking = null;
      this.#reader = this.#shared.dialect.reader(this, wantedOf(asking.request));
      return this.event({ kind: "open" });
    }
    asking.refusal = refusal;
    if (refusal.complete) return this.#leaveRefused(refusal);
    const { headTimeoutMs } = this.#shared.options;
    this.#timer = setTimeout(() => this.#leaveRefused(refusal), Math.min(REFUSAL_MS, headTimeoutMs / 2));
  }

  data(bytes: Uint8Array): void {
    if (this.#over) return;
    this.#shared.hooks.arrivals.received();
    const refusal = this.#asking?.refusal;
    if (refusal) {
      refusal.add(bytes);
      // It says nothing to the client, but while it comes this is no silence.
      return refusal.complete ? this.#leaveRefused(refusal) : this.event({ kind: "alive" });
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
    if (asking === null) this.#reader?.broke(error);
    else if (asking.refusal !== null) this.#onRefusal(asking.refusal.result());
    else this.#tryAgain(asLoggable(error, this.#shared.secrets), null);
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
    this.#fail(asLoggable(error, this.#shared.secrets));
    exchange?.cancel();
  }

  /** Its body can say nothing more, or takes too long to. */
  #leaveRefused(refusal: Refusal): void {
    if (this.#exchange !== null) this.#shared.pool.leave(this.#exchange);
    this.#onRefusal(refusal.result());
  }

  /** Asks for what the model takes, if that is what it is about; else as after any failure. */
  #onRefusal(refused: Refused): void {
    clearTimeout(this.#timer);
    const asking = this.#asking;
    if (asking === null) return;
    if (!asking.draft.adapt(refused)) return this.#tryAgain(refused.failure, refused);
    asking.tries--; // the request was not accepted, and the next is another one
    this.ask();
  }

  #tryAgain(failure: BackendError, refused: Refused | null): void {
    const asking = this.#asking;
    if (asking === null) return;
    const mayBeDone = !asking.draft.repeatable && this.#exchange?.unprocessed !== true;
    this.#exchange = null;
    const { maxRetries, headTimeoutMs } = this.#shared.options;
    const waitMs = pauseMs(refused, asking.tries, Date.now(), Math.random());
    const spentMs = performance.now() - asking.startMs;
    const again = asking.tries <= maxRetries && isRepeatable(failure, refused, mayBeDone) &&
      spentMs + waitMs < headTimeoutMs;
    if (!again) return this.#fail(failure);
    this.#shared.retries++;
    this.#shared.hooks.log.debug("Provider is asked again", {
      request_id: asking.request.requestId,
      provider: this.#shared.dialect.name,
      tries: asking.tries,
      pause_ms: Math.round(waitMs),
      error: failure,
    });
    this.#timer = setTimeout(() => this.ask(), waitMs);
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
    clearTimeout(this.#timer);
    this.#shared.live.ended();
    return true;
  }
}

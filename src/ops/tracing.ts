/**
 * OpenTelemetry: a span for each stream, and metrics, as its conventions for generative AI name them
 * (https://github.com/open-telemetry/semantic-conventions-genai, in development there). Deno itself implements the API
 * and sends all of it by OTLP, outside of the sandbox, where the environment asks for it with `OTEL_DENO`.
 * @module
 */
import {
  type Attributes,
  type AttributeValue,
  type Histogram,
  metrics,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Tracer,
} from "@opentelemetry/api";
import type { BackendFailure, StreamFailure } from "../errors.ts";
import type { HandoffRequest } from "../protocol/handoff_request.ts";
import { parseTraceparent } from "../protocol/trace_context.ts";
import { modelLabel } from "./model_label.ts";

/** Where an answer comes from. */
export interface Provider {
  readonly name: string;
  /** Of a provider that is asked over a network. */
  readonly url?: URL;
}

/** What became of a stream. */
export interface Outcome {
  /** Why it has no `[DONE]`. */
  readonly failure: StreamFailure | undefined;
  readonly finishReason: string | undefined;
  readonly usage: { readonly inputTokens: number; readonly outputTokens: number } | undefined;
}

const SCOPE = "streaming-daemon-ts";
const OPERATION = "chat";
/** Models and finish reasons are others' texts. */
const MAX_TEXT_CHARS = 256;
/** Boundaries that the conventions name. */
const SECONDS = Array.from({ length: 14 }, (_, power) => 0.01 * 2 ** power);
const TOKENS = Array.from({ length: 14 }, (_, power) => 4 ** power);

/** Where Deno puts its implementation of the API if it is asked for: what packages find it by. */
const IMPLEMENTATION = Symbol.for("opentelemetry.js.api.1");

/**
 * What the streams of a worker are traced with, where OpenTelemetry is asked for.
 *
 * @param models those with metrics of their own; of others the metrics say `other`
 */
export function openTracing(models: () => readonly string[]): Tracing | undefined {
  return IMPLEMENTATION in globalThis ? new Tracing(models) : undefined;
}

/** What the streams of one worker share. */
export class Tracing {
  readonly #models: () => readonly string[];
  readonly #tracer: Tracer = trace.getTracer(SCOPE);
  readonly duration: Histogram;
  readonly firstChunk: Histogram;
  readonly tokens: Histogram;

  constructor(models: () => readonly string[]) {
    this.#models = models;
    const histogram = (name: string, description: string, unit: string, boundaries: number[]): Histogram =>
      metrics.getMeter(SCOPE).createHistogram(`gen_ai.client.${name}`, {
        description,
        unit,
        advice: { explicitBucketBoundaries: boundaries },
      });
    this.duration = histogram("operation.duration", "GenAI operation duration.", "s", SECONDS);
    this.firstChunk = histogram(
      "operation.time_to_first_chunk",
      "Time from the request to the first piece of text.",
      "s",
      SECONDS,
    );
    this.tokens = histogram("token.usage", "Number of input and output tokens used.", "{token}", TOKENS);
  }

  /**
   * A provider is asked.
   *
   * @param startedMs when the handoff came, on the clock of performance.now
   */
  begin(request: HandoffRequest, provider: Provider, startedMs: number): StreamTrace {
    const model = request.model.slice(0, MAX_TEXT_CHARS);
    const shared: Attributes = {
      "gen_ai.operation.name": OPERATION,
      "gen_ai.provider.name": provider.name,
      ...(provider.url === undefined ? {} : server(provider.url)),
    };
    const span = this.#tracer.startSpan(`${OPERATION} ${model}`, {
      kind: SpanKind.CLIENT,
      startTime: performance.timeOrigin + startedMs,
      attributes: {
        ...shared,
        "gen_ai.request.model": model,
        "gen_ai.request.stream": true,
        "daemon.request_id": request.requestId,
        ...limits(request),
      },
    }, parentOf(request));
    const counted = modelLabel(request.model, this.#models());
    return new StreamTrace(this, span, startedMs, { ...shared, "gen_ai.request.model": counted });
  }
}

/** One stream. Ends with {@linkcode StreamTrace.end}. */
export class StreamTrace {
  readonly #tracing: Tracing;
  readonly #span: Span;
  readonly #startedMs: number;
  /** Of the metrics: few values only. */
  readonly #labels: Attributes;
  #firstTextMs: number | undefined;
  #answeredMs: number | undefined;
  #backendFailure: BackendFailure | undefined;

  constructor(tracing: Tracing, span: Span, startedMs: number, labels: Attributes) {
    this.#tracing = tracing;
    this.#span = span;
    this.#startedMs = startedMs;
    this.#labels = labels;
  }

  /** The first piece of text came. */
  firstText(): void {
    this.#firstTextMs = performance.now();
  }

  /** The provider failed. */
  failed(kind: BackendFailure): void {
    this.#backendFailure = kind;
  }

  /** The provider has said all, or was given up: the operation is over, though its client may still be reading. */
  answered(): void {
    this.#answeredMs = performance.now();
  }

  /** The client's connection is closed. */
  end({ failure, finishReason, usage }: Outcome): void {
    const { duration, firstChunk, tokens } = this.#tracing;
    const endedMs = this.#answeredMs ?? performance.now();
    const errorType = failure === undefined ? undefined : this.#backendFailure ?? failure;
    if (errorType !== undefined) {
      this.#span.setAttribute("error.type", errorType).setStatus({ code: SpanStatusCode.ERROR });
    }
    duration.record(
      (endedMs - this.#startedMs) / 1000,
      errorType === undefined ? this.#labels : { ...this.#labels, "error.type": errorType },
    );
    if (this.#firstTextMs !== undefined) {
      const secs = (this.#firstTextMs - this.#startedMs) / 1000;
      this.#span.setAttribute("gen_ai.response.time_to_first_chunk", secs);
      firstChunk.record(secs, this.#labels);
    }
    if (finishReason !== undefined) {
      this.#span.setAttribute("gen_ai.response.finish_reasons", [finishReason.slice(0, MAX_TEXT_CHARS)]);
    }
    if (usage !== undefined) {
      for (const [type, count] of [["input", usage.inputTokens], ["output", usage.outputTokens]] as const) {
        this.#span.setAttribute(`gen_ai.usage.${type}_tokens`, integer(count));
        tokens.record(count, { ...this.#labels, "gen_ai.token.type": type });
      }
    }
    this.#span.end(performance.timeOrigin + endedMs);
  }
}

function parentOf({ traceparent }: HandoffRequest): typeof ROOT_CONTEXT {
  const parent = traceparent === undefined ? undefined : parseTraceparent(traceparent);
  if (parent === undefined) return ROOT_CONTEXT;
  return trace.setSpanContext(ROOT_CONTEXT, {
    traceId: parent.traceId,
    spanId: parent.spanId,
    traceFlags: parent.sampled ? TraceFlags.SAMPLED : TraceFlags.NONE,
    isRemote: true,
  });
}

function server({ hostname, port, protocol }: URL): Attributes {
  return {
    "server.address": hostname,
    "server.port": integer(Number(port) || (protocol === "https:" ? 443 : 80)),
  };
}

function limits(request: HandoffRequest): Attributes {
  const maxTokens = request.maxCompletionTokens ?? request.maxTokens;
  return {
    ...(maxTokens === undefined ? {} : { "gen_ai.request.max_tokens": integer(maxTokens) }),
    ...(request.temperature === undefined ? {} : { "gen_ai.request.temperature": request.temperature }),
  };
}

/** Deno makes a double of a number and an integer of a BigInt, for which the API has no type. */
function integer(value: number): AttributeValue {
  return BigInt(value) as unknown as AttributeValue;
}

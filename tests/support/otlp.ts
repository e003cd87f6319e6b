/**
 * A receiver of OpenTelemetry's data on loopback: OTLP over HTTP, in JSON
 * (https://opentelemetry.io/docs/specs/otlp/).
 * @module
 */

type Value =
  | { readonly stringValue: string }
  | { readonly boolValue: boolean }
  | { readonly intValue: string }
  | { readonly doubleValue: number }
  | { readonly arrayValue: { readonly values: readonly Value[] } };
type Attributes = readonly { readonly key: string; readonly value: Value }[];

/** A span as it came. */
export interface ReceivedSpan {
  readonly traceId: string;
  readonly parentSpanId: string;
  readonly name: string;
  readonly kind: number;
  readonly durationMs: number;
  /** 2 is an error. */
  readonly status: number;
  /** Integers are BigInts. */
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** What one series of a histogram has come to. */
export interface ReceivedHistogram {
  readonly count: number;
  readonly sum: number;
  readonly bounds: readonly number[];
  readonly unit: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** Of the daemon's own scope; what Deno itself tells of is left out. */
const SCOPE = "streaming-daemon-ts";

/** A running receiver. */
export class OtlpReceiver implements AsyncDisposable {
  readonly spans: ReceivedSpan[] = [];
  /** Requests of any kind. */
  requests = 0;
  /** The names of services that sent. */
  readonly services = new Set<string>();
  readonly #histograms = new Map<string, ReceivedHistogram[]>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;

  constructor() {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      async (request) => {
        this.requests++;
        this.#take(await request.json());
        return Response.json({});
      },
    );
  }

  /** The variables with which Deno sends everything to it soon. */
  get env(): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_BSP_SCHEDULE_DELAY: "20",
      OTEL_SERVICE_NAME: "some-service",
    };
  }

  /** The last that was told of a histogram, each of its series. */
  histogram(name: string): readonly ReceivedHistogram[] {
    return this.#histograms.get(name) ?? [];
  }

  // deno-lint-ignore no-explicit-any -- the data's shape is the sender's affair
  #take(data: any): void {
    for (const { resource, scopeSpans, scopeMetrics } of data.resourceSpans ?? data.resourceMetrics ?? []) {
      this.services.add(String(plain(resource.attributes)["service.name"]));
      for (const { scope, spans, metrics } of scopeSpans ?? scopeMetrics) {
        if (scope.name !== SCOPE) continue;
        for (const span of spans ?? []) {
          this.spans.push({
            ...span,
            durationMs: Number(BigInt(span.endTimeUnixNano) - BigInt(span.startTimeUnixNano)) / 1e6,
            status: span.status?.code ?? 0,
            attributes: plain(span.attributes),
          });
        }
        for (const { name, unit, histogram } of metrics ?? []) {
          this.#histograms.set(
            name,
            // deno-lint-ignore no-explicit-any -- as above
            histogram.dataPoints.map((point: any): ReceivedHistogram => ({
              count: Number(point.count),
              sum: point.sum,
              bounds: point.explicitBounds,
              unit,
              attributes: plain(point.attributes),
            })),
          );
        }
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function plain(attributes: Attributes): Record<string, unknown> {
  return Object.fromEntries(attributes.map(({ key, value }) => [key, plainValue(value)]));
}

function plainValue(value: Value): unknown {
  if ("intValue" in value) return BigInt(value.intValue);
  if ("arrayValue" in value) return value.arrayValue.values.map(plainValue);
  return Object.values(value)[0];
}

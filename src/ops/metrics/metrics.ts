/**
 * What a worker counts, as an interface, and the implementation that only adds up.
 * @module
 */
import type { BackendFailure, BackendRefusal, HandoffFailure, StreamFailure } from "../../errors.ts";
import { metric, type MetricsSnapshot } from "./snapshot.ts";

/** What a worker tells of itself. Durations in seconds. Every method is cheap; those of events only add numbers. */
export interface Metrics {
  /** A complete handoff came in, this long after it was accepted. */
  handoffReceived(durationSecs: number): void;
  handoffFailed(reason: HandoffFailure): void;
  connectionOpened(): void;
  /** A client was told 503: too many connections, no memory for one more, or the worker stops. */
  connectionRejected(): void;
  streamStarted(): void;
  streamEnded(durationSecs: number, failure: StreamFailure | undefined): void;
  eventSent(): void;
  bytesSent(bytes: number): void;
  backendRequest(backend: string): void;
  backendFirstEvent(durationSecs: number): void;
  backendDone(durationSecs: number): void;
  backendError(backend: string, kind: BackendFailure): void;
  /** It was to be asked, and was not. */
  backendRefused(backend: string, reason: BackendRefusal): void;
  tokensUsed(model: string, input: number, output: number): void;
  /** A handoff named a stream by its id. */
  streamAskedFor(outcome: StreamOutcome): void;
}

/** What became of a handoff that names a stream by its id: label `outcome` of `daemon_resume_requests_total`. */
export const STREAM_OUTCOMES = [
  "begun",
  "watched",
  "resumed",
  "nothing",
  "stopped",
  "nothing_to_stop",
  "unknown",
] as const;
/** One of {@linkcode STREAM_OUTCOMES}. */
export type StreamOutcome = typeof STREAM_OUTCOMES[number];

/** What a worker tells of its streams that have an id. */
export interface StreamStats {
  /** Under way. */
  readonly live: number;
  /** Ended, and kept. */
  readonly kept: number;
  /** Memory of all. */
  readonly bytes: number;
  /** Forgotten before their time so far, since others needed the room. */
  readonly evicted: number;
  /** 1 where the store can be reached, or none is needed; else 0. */
  readonly storeUp: number;
  /** Streams whose copy in the store was given up so far. */
  readonly unsaved: number;
}

/** What a backend tells of its connections to the provider. */
export interface UpstreamStats {
  /** Open now. */
  readonly connections: number;
  /** Requests over them now. */
  readonly streams: number;
  /** Requests without a connection yet. */
  readonly waiting: number;
  /** Connections opened so far. */
  readonly opened: number;
  /** Attempts to connect that failed so far. */
  readonly failedDials: number;
  /** Requests that were tried again so far. */
  readonly retries: number;
  /** Requests that were given up from this side so far. */
  readonly cancelled: number;
}

/** For `--benchmark`: sums that cost next to nothing, for the summary at the end. */
export class Totals implements Metrics {
  readonly #sums = {
    connections: 0,
    streams: 0,
    failed_streams: 0,
    refused_handoffs: 0,
    rejected: 0,
    events: 0,
    bytes: 0,
  };

  handoffReceived(): void {}

  handoffFailed(): void {
    this.#sums.refused_handoffs++;
  }

  connectionOpened(): void {
    this.#sums.connections++;
  }

  connectionRejected(): void {
    this.#sums.rejected++;
  }

  streamStarted(): void {
    this.#sums.streams++;
  }

  streamEnded(_durationSecs: number, failure: StreamFailure | undefined): void {
    if (failure !== undefined) this.#sums.failed_streams++;
  }

  eventSent(): void {
    this.#sums.events++;
  }

  bytesSent(bytes: number): void {
    this.#sums.bytes += bytes;
  }

  backendRequest(): void {}
  backendFirstEvent(): void {}
  backendDone(): void {}
  backendError(): void {}
  backendRefused(): void {}
  tokensUsed(): void {}
  streamAskedFor(): void {}

  /** The sums as gauges of the same names. */
  snapshot(): MetricsSnapshot {
    return Object.entries(this.#sums).map(([name, value]) =>
      metric("gauge", name, name, [{ value, labels: {} }])
    );
  }
}

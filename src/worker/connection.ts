/**
 * One handoff from its arrival to the close of its client: the client, its answer and its time-out in one object.
 * @module
 */
import type { BackendRequest } from "../backend/backend.ts";
import { type HandoffFailure, HandoffRequestError, type StreamFailure } from "../errors.ts";
import type { ClientEvents, Handoff } from "../native/reactor.ts";
import { parseHandoffRequest, requestIdOf, type RequestRules } from "../protocol/handoff_request.ts";
import type { PlainStatus } from "../protocol/http_response.ts";
import { FAILURE_TEXT, HEARTBEAT, takeHead } from "../protocol/sse.ts";
import type { StreamChoice } from "../protocol/stream_choice.ts";
import { BackendCall, type CallParts } from "./backend_call.ts";
import type { Clients } from "./clients.ts";
import type { Watch, Watcher } from "./shared_stream.ts";
import type { Found, SharedStreams } from "./shared_streams.ts";

/** What the connections of one worker share. */
export interface ConnectionParts extends CallParts {
  readonly clients: Pick<Clients, "sendNow">;
  /** Those that have an id. */
  readonly streams: SharedStreams;
  /** The reactor of the worker where a stream with that id is. */
  homeOf(streamId: string): number;
  /** The worker's own one. */
  readonly reactor: number;
  readonly sockets: Sockets;
  readonly rules: RequestRules;
  /** How long a client may take nothing, in milliseconds. */
  readonly writeTimeoutMs: number;
}

/** Where a client's socket is closed: the reactor. */
export interface Sockets {
  /** Closes it at once (close(2)). */
  close(client: number): void;
  /** The shim has closed it after its last bytes. */
  closedByEnd(client: number): void;
  /** Gives it to another worker's reactor, with the handoff's data; returns whether that one has taken it. */
  move(client: number, reactor: number, payload: Uint8Array<ArrayBuffer>): boolean;
}

/** What a client that was handed over in vain is told. */
const REFUSALS: Partial<Record<HandoffFailure, readonly [PlainStatus, string]>> = {
  payload_truncated: [413, "Handoff data is too long"],
};
const NO_ROOM = "Too many requests at a time";
const STORE_OUT = "The store of streams cannot be reached";
const ETIMEDOUT = 110;
const encoder = new TextEncoder();
const HEARTBEAT_BYTES = encoder.encode(HEARTBEAT);
/** What waits for one client at most: more than a backend that was told to pause can still give. */
const MAX_KEPT_BYTES = 4 * 1024 * 1024;

/** See the module. Ends by itself: every wait of it has a time-out. */
export class Connection extends BackendCall<ConnectionParts> implements ClientEvents, Watcher {
  readonly id: number;
  ended = false;
  /** Where the stream has an id: its place in it. */
  #watch: Watch | undefined;
  #streamId: string | undefined;
  #kept: Uint8Array<ArrayBuffer> | undefined;
  #endKept = false;

  /** Takes over a client and answers it. Reads the handoff's data during the call, all else follows by itself. */
  constructor(parts: ConnectionParts, handoff: Handoff, stopping: boolean) {
    super(parts);
    this.id = handoff.client;
    parts.connections.add(this);
    if (!handoff.moved) parts.metrics.connectionOpened();
    const request = this.#admit(handoff, stopping);
    if (request === undefined) return;
    this.#logHandoff(request, handoff);
    if (request.responseHeaders !== undefined) this.headers = request.responseHeaders;
    if (request.stream !== undefined) {
      this.#name(request, request.stream, handoff);
      if (handoff.gone) this.gone(0); // the stream may go on
    } else {
      parts.metrics.streamStarted();
      if (handoff.gone) this.#hadLeft(request);
      else this.ask(request, handoff.payload.length);
    }
  }

  // Nobody is asked for somebody who is gone.
  #hadLeft(request: BackendRequest): void {
    this.identify(request);
    this.model = request.model;
    this.gone(0);
  }

  // It names a stream, which may well be another worker's.
  #name(request: BackendRequest, choice: StreamChoice, { moved, payload }: Handoff): void {
    const { homeOf, reactor, sockets, connections, metrics, log } = this.parts;
    this.identify(request);
    this.#streamId = choice.id;
    const home = homeOf(choice.id);
    if (home === reactor) return this.#join(request, choice, payload.length);
    if (!moved && sockets.move(this.id, home, payload)) {
      this.ended = true;
      connections.delete(this);
      return;
    }
    metrics.connectionRejected();
    log.warning("The worker of a stream cannot take its client, which is answered 503", this.identity());
    this.#refuse(503, NO_ROOM);
  }

  #join(request: BackendRequest, choice: StreamChoice, requestBytes: number): void {
    const { streams } = this.parts;
    if (choice.stops) {
      const stopped = streams.stop(choice.id);
      if (typeof stopped === "boolean") this.#stopped(stopped);
      else void stopped.then((stopped) => this.#stopped(stopped));
      return;
    }
    const found = streams.watch({ parts: this.parts, request, choice, requestBytes, watcher: this });
    if (found instanceof Promise) void found.then((found) => this.#found(found));
    else this.#found(found);
  }

  #stopped(stopped: boolean | 503): void {
    const { metrics, log } = this.parts;
    metrics.streamAskedFor(stopped === 503 ? "unknown" : stopped ? "stopped" : "nothing_to_stop");
    log.info(stopped === true ? "Stream stopped" : "No stream to stop", this.identity());
    if (this.ended) return;
    if (stopped === 503) this.#refuse(503, STORE_OUT);
    else if (stopped) this.#refuse(200, "Stopped");
    else this.#refuse(404, "No such stream is under way");
  }

  #found(found: Found): void {
    const { metrics, log } = this.parts;
    if (typeof found === "number") {
      log.info(`Nothing to go on with, client answered ${found}`, this.identity());
      if (!this.ended) this.#refuse(found, found === 204 ? "" : STORE_OUT);
      return;
    }
    if (this.ended) return found.cancel();
    metrics.streamStarted();
    this.#watch = found;
    this.format = found.format;
    this.#waitForStream();
    // Not before the client is known to be this one's.
    queueMicrotask(() => found.resume());
  }

  // The stream has time-outs of its own.
  #waitForStream(): void {
    const { wheel, heartbeatMs } = this.parts;
    if (heartbeatMs > 0) wheel.set(this, heartbeatMs);
    else wheel.cancel(this);
  }

  give(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    if (this.ended || this.over) return;
    const whole = this.#withHead(bytes);
    if (end) this.failure = this.#watch?.failure;
    if (whole.length === 0 && !end) return;
    if (this.full) return this.append(whole, end);
    if (this.parts.heartbeatMs > 0) this.#waitForStream();
    this.parts.clients.sendNow(this, whole, end);
  }

  #withHead(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    return this.headSent ? bytes : join(encoder.encode(takeHead(this)), bytes);
  }

  refuse(failure: StreamFailure): void {
    this.cut(failure);
  }

  // Returns the request, or nothing if the client was told why not.
  #admit(handoff: Handoff, stopping: boolean): BackendRequest | undefined {
    const { metrics, rules } = this.parts;
    const full = noPlaceFor(handoff, stopping);
    if (handoff.refusal !== undefined) {
      // It was counted and logged where it was judged.
      this.#refuse(...REFUSALS[handoff.refusal] ?? [503, "Handoff refused"]);
    } else if (full !== undefined) {
      const [why, line] = full;
      metrics.connectionRejected();
      this.#logRefusal(`${why}, client answered 503`, handoff);
      this.#refuse(503, line);
    } else {
      try {
        return parseHandoffRequest(handoff.payload, rules);
      } catch (error) {
        if (!(error instanceof HandoffRequestError)) throw error;
        metrics.handoffFailed("bad_request");
        this.#logRefusal("Handoff data refused, client answered 400", handoff, { reason: error.message });
        this.#refuse(400, error.message);
      }
    }
    return undefined;
  }

  #logHandoff({ requestId, userId }: BackendRequest, { payload, durationSecs, moved }: Handoff): void {
    const log = this.parts.log.child("handoff");
    if (!log.enabled("debug")) return;
    log.debug(moved ? "Handoff of another worker's client" : "Handoff received", {
      request_id: requestId,
      user_id: userId,
      bytes: payload.length,
      duration_ms: Math.round(durationSecs * 1000),
    });
  }

  #logRefusal(message: string, { payload }: Handoff, fields: Record<string, unknown> = {}): void {
    this.requestId = requestIdOf(payload) ?? this.parts.rules.makeRequestId();
    this.parts.log.child("handoff").warning(message, { ...this.identity(), ...fields });
  }

  #refuse(status: PlainStatus, line: string): void {
    this.parts.own.push(this, { kind: "refusal", status, line });
  }

  /** Ends the stream early because the daemon stops. One that it watches is ended for all. */
  shutDown(): void {
    if (this.#watch === undefined) this.cut("shutdown");
  }

  /** Ends the stream early because it has lasted too long. One that it watches is ended for all. */
  outlived(): void {
    if (!this.over && this.#watch === undefined) this.cut("max_stream");
  }

  /** Ends without a word, as the last resort of a drain. */
  close(): void {
    this.#abort("shutdown");
  }

  get full(): boolean {
    return this.#kept !== undefined;
  }

  protected get waits(): boolean {
    return this.#kept !== undefined;
  }

  sent(result: number, data: Uint8Array<ArrayBuffer>, offset: number, length: number, end: boolean): void {
    if (this.ended) return;
    if (result < 0) this.gone(-result);
    else if (result < length) this.#keep(data.slice(offset + result, offset + length), end, result > 0);
    else if (end) {
      this.parts.sockets.closedByEnd(this.id);
      this.#finish(undefined);
    } else if (this.#kept !== undefined) this.#drained();
  }

  #keep(rest: Uint8Array<ArrayBuffer>, end: boolean, progress: boolean): void {
    if (rest.length > MAX_KEPT_BYTES) return this.#tooMuch();
    const isNew = this.#kept === undefined;
    this.#kept = rest;
    this.#endKept = end;
    if (isNew) (this.#watch ?? this.answer)?.pause();
    if (isNew || progress) this.parts.wheel.set(this, this.parts.writeTimeoutMs);
  }

  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    const kept = this.#kept ?? new Uint8Array();
    if (kept.length + bytes.length > MAX_KEPT_BYTES) return this.#tooMuch();
    this.#kept = join(kept, bytes);
    this.#endKept ||= end;
  }

  #tooMuch(): void {
    this.logFailure("More came for a client than is kept while it takes nothing", {
      max_kept_bytes: MAX_KEPT_BYTES,
    });
    this.#abort("other");
  }

  #drained(): void {
    this.#kept = undefined;
    if (this.#watch !== undefined) {
      this.#waitForStream();
      return this.#watch.resume();
    }
    if (this.answer === undefined) return;
    // The time-out of writing is over, that of the backend begins anew; it may well be the earlier one.
    this.waitForBackend();
    this.answer.resume();
  }

  writable(): void {
    if (this.#kept !== undefined) this.parts.clients.sendNow(this, this.#kept, this.#endKept);
  }

  gone(errno: number): void {
    // The kernel gives up on bytes that stay unacknowledged for the write time-out (TCP_USER_TIMEOUT).
    this.#abort(errno === ETIMEDOUT ? "write_timeout" : "client_disconnected");
  }

  /** The client took nothing, or the backend gave nothing, for too long; or it is time for a sign of life. */
  override timedOut(): void {
    if (this.full) return this.#abort("write_timeout");
    if (this.#watch === undefined) return super.timedOut();
    const { wheel, heartbeatMs, clients } = this.parts;
    wheel.repeat(this, heartbeatMs);
    // At once, as all that it is given: in the pipeline it could be overtaken, and the head in front of it as well.
    if (!this.over) clients.sendNow(this, this.#withHead(HEARTBEAT_BYTES), false);
  }

  // Closes the socket at once; what was kept is dropped.
  #abort(failure: StreamFailure): void {
    if (this.ended) return;
    this.parts.sockets.close(this.id);
    this.#finish(failure);
  }

  #finish(failure: StreamFailure | undefined): void {
    const { metrics, wheel, connections } = this.parts;
    this.ended = true;
    this.failure ??= failure;
    this.#kept = undefined;
    this.frame = "";
    wheel.cancel(this);
    this.cancelAnswer();
    const durationSecs = this.lastedSecs();
    if (this.#watch !== undefined) this.#watchEnded(this.#watch, durationSecs);
    else if (this.model !== undefined) {
      metrics.streamEnded(durationSecs, this.failure);
      this.summarize("Stream", this.model, durationSecs);
    }
    connections.delete(this);
  }

  #watchEnded(watch: Watch, durationSecs: number): void {
    watch.cancel();
    this.parts.metrics.streamEnded(durationSecs, this.failure);
    this.logEnd("Stream", durationSecs);
  }

  protected override identity(): Record<string, unknown> {
    return this.#streamId === undefined
      ? super.identity()
      : { ...super.identity(), stream_id: this.#streamId };
  }
}

function join(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}

/** Why there is no place for a client, and what it is told. */
function noPlaceFor(
  { overLimit, noRoom }: Handoff,
  stopping: boolean,
): readonly [why: string, line: string] | undefined {
  if (stopping) return ["The worker stops", FAILURE_TEXT.shutdown];
  if (overLimit) return ["Connection limit reached", "Too many connections"];
  return noRoom ? ["No worker has memory left for more", NO_ROOM] : undefined;
}

/**
 * An answer that more than one backend may be asked for, or one that has limits: where one fails before its first event,
 * is left alone or has no place in time, the next is asked. Each try is a recipient of its own before the client, so that
 * what an old one still gives reaches nobody.
 * @module
 */
import type { Answer, BackendRequest } from "../backend/backend.ts";
import type { EventQueue } from "../backend/event_queue.ts";
import { asBackendError, BackendError, type BackendRefusal, isProvidersFault } from "../errors.ts";
import { prefixLength } from "../protocol/handoff_request.ts";
import type { AnswerFormat, ClientEvent, Recipient } from "../protocol/stream_event.ts";
import { Timer, type TimerWheel } from "../timing/timer_wheel.ts";
import type { Backends, Route } from "./backends.ts";
import type { Waiter } from "./gate.ts";

/** Whose answer it is. */
export interface Asker extends Recipient {
  /** A backend is asked. The request is as that one gets it. */
  trying(route: Route, request: BackendRequest): void;
  /** It has failed, and another one is asked. */
  tryFailed(route: Route, error: BackendError, next: Route): void;
  /** It was not asked, but the next one is; without one, nobody is asked any more. */
  tryRefused(route: Route, reason: BackendRefusal, next: Route | undefined): void;
}

/** What tries are made with. */
export interface TryParts {
  readonly backends: Pick<Backends, "route">;
  readonly wheel: TimerWheel;
  readonly own: EventQueue;
}

/** Whether a backend's answers need no {@linkcode Tries}. */
export function isPlain({ config }: Route): boolean {
  return config.fallback.length === 0 && config.maxStreams === 0 && config.circuitFailures === 0;
}

/** See the module. */
export class Tries implements Answer {
  readonly #parts: TryParts;
  readonly #asker: Asker;
  #userId: string | undefined;
  /** Names of those that have not been asked. */
  #left: string[] = [];
  /** As long as another one may be asked. */
  #request: BackendRequest | undefined;
  #attempt: Attempt | undefined;
  #paused = false;

  constructor(parts: TryParts, asker: Asker) {
    this.#parts = parts;
    this.#asker = asker;
  }

  /** Asks the first one, which says who the others are. */
  begin(first: Route, request: BackendRequest): void {
    this.#userId = request.userId;
    this.#left = [...first.config.fallback];
    this.#request = request;
    this.#try(first, request);
  }

  pause(): void {
    this.#paused = true;
    this.#attempt?.answer?.pause();
  }

  resume(): void {
    this.#paused = false;
    this.#attempt?.answer?.resume();
  }

  cancel(): void {
    const attempt = this.#attempt;
    this.#request = undefined;
    if (attempt === undefined || attempt.over) return;
    this.end(attempt);
    attempt.answer?.cancel();
  }

  /** The backend has given nothing for the whole time: a failure of the present try, before it is cancelled. */
  gaveNothing(): void {
    const attempt = this.#attempt;
    if (attempt === undefined || attempt.over || attempt.begun || attempt.waiting !== undefined) return;
    attempt.route.circuit.failed(this.#parts.wheel.now(), attempt.trial);
    attempt.trial = false;
  }

  #try(route: Route, request: BackendRequest): void {
    const { wheel } = this.#parts;
    if (!route.circuit.mayAsk(wheel.now())) return this.#refused(route, "circuit_open");
    const attempt = new Attempt(this, this.#asker, route, this.#userId);
    this.#attempt = attempt;
    if (route.gate.enter()) return this.#ask(attempt, request);
    attempt.waiting = request;
    wheel.set(attempt, route.config.queueMs);
    if (route.gate.wait(attempt)) return;
    this.end(attempt);
    this.#refused(route, "queue_full");
  }

  /** The attempt has a place. */
  #ask(attempt: Attempt, request: BackendRequest): void {
    const { wheel, own } = this.#parts;
    const { route } = attempt;
    attempt.placed = true;
    if (!route.circuit.mayAsk(wheel.now())) {
      this.end(attempt);
      return this.#refused(route, "circuit_open");
    }
    attempt.trial = route.circuit.ask();
    if (this.#left.length === 0) this.#request = undefined;
    this.#asker.trying(route, request);
    if (this.more) wheel.set(attempt, route.config.fallbackAfterMs);
    else wheel.cancel(attempt);
    try {
      attempt.answer = route.backend.ask(request, attempt);
    } catch (thrown) {
      const error = asBackendError(thrown);
      if (this.failed(attempt, error)) return;
      this.end(attempt);
      own.push(this.#asker, { kind: "error", error });
    }
    if (this.#paused) attempt.answer?.pause();
  }

  /** For the present try: whether another one may follow. */
  get more(): boolean {
    return this.#request !== undefined;
  }

  /** For the present try, which has waited: it has a place. */
  admitted(attempt: Attempt, request: BackendRequest): void {
    // A reload may have put another backend in its place; one that was away for a while has places of its own.
    const route = this.#parts.backends.route(attempt.route.key);
    if (route?.gate === attempt.route.gate) {
      attempt.route = route;
      return this.#ask(attempt, request);
    }
    attempt.placed = true;
    this.notAdmitted(attempt, "queue_timeout");
  }

  /** For the present try, which has waited: it gets no place. */
  notAdmitted(attempt: Attempt, reason: BackendRefusal): void {
    this.end(attempt);
    this.#refused(attempt.route, reason);
  }

  /** For the present try: it has given its first event, and there is no other one after it. */
  began(attempt: Attempt): void {
    this.#request = undefined;
    attempt.route.circuit.succeeded();
    attempt.trial = false;
    this.#parts.wheel.cancel(attempt);
  }

  /**
   * For the present try: it has failed before its first event.
   *
   * @returns whether another one is tried
   */
  failed(attempt: Attempt, error: BackendError): boolean {
    if (!isProvidersFault(error.kind)) return false;
    attempt.route.circuit.failed(this.#parts.wheel.now(), attempt.trial);
    attempt.trial = false;
    const request = this.#request;
    const next = request === undefined ? undefined : this.#next();
    if (request === undefined || next === undefined) return false;
    this.end(attempt);
    attempt.answer?.cancel();
    this.#asker.tryFailed(attempt.route, error, next);
    this.#try(next, requestFor(next, request));
    return true;
  }

  #refused(route: Route, reason: BackendRefusal): void {
    const request = this.#request;
    const next = request === undefined ? undefined : this.#next();
    this.#asker.tryRefused(route, reason, next);
    if (request !== undefined && next !== undefined) this.#try(next, requestFor(next, request));
  }

  /** The next one, if a reload has not taken them all away. */
  #next(): Route | undefined {
    while (this.#left.length > 0) {
      const route = this.#parts.backends.route(this.#left.shift());
      if (route !== undefined) return route;
    }
    this.#request = undefined;
    return undefined;
  }

  /** Nothing more of it is wanted: whatever it holds is given back. */
  end(attempt: Attempt): void {
    const { route, placed, trial } = attempt;
    const waits = attempt.waiting !== undefined;
    attempt.over = true;
    attempt.waiting = undefined;
    attempt.placed = false;
    attempt.trial = false;
    this.#parts.wheel.cancel(attempt);
    if (trial) route.circuit.abandoned();
    if (placed) route.gate.leave();
    else if (waits) route.gate.giveUp(attempt);
  }
}

/** One backend that is asked; to that backend, the client. */
class Attempt extends Timer implements Recipient, Waiter {
  route: Route;
  answer: Answer | undefined;
  /** Nothing of it is wanted any more. */
  over = false;
  /** Its request, as long as it waits for a place. */
  waiting: BackendRequest | undefined;
  /** It has a place of its route's gate. */
  placed = false;
  /** It is the trial of its route's circuit. */
  trial = false;
  begun = false;
  /** Of a batch of its backend's alone, in which the client itself is not. */
  frame = "";
  frameEnds = false;
  readonly userId: string | undefined;
  readonly #tries: Tries;
  readonly #asker: Asker;

  constructor(tries: Tries, asker: Asker, route: Route, userId: string | undefined) {
    super();
    this.#tries = tries;
    this.#asker = asker;
    this.route = route;
    this.userId = userId;
  }

  note(event: ClientEvent): boolean {
    if (this.over || (!this.begun && !this.#passes(event))) return false;
    if (event.kind === "end" || event.kind === "error") this.#tries.end(this);
    return this.#asker.note(event);
  }

  /**
   * Whether what came before the first event is for the client. That a provider has accepted is not yet an answer, nor is
   * what it has cost: some say that before they fail.
   */
  #passes(event: ClientEvent): boolean {
    switch (event.kind) {
      case "error":
        return !this.#tries.failed(this, event.error);
      case "alive":
      case "open":
      case "usage":
        return !this.#tries.more;
      default:
        this.begun = true;
        this.#tries.began(this);
        return true;
    }
  }

  /** It has waited for a place, or given nothing, for as long as it may. */
  timedOut(): void {
    if (this.waiting !== undefined) return this.#tries.notAdmitted(this, "queue_timeout");
    const { fallbackAfterMs } = this.route.config;
    this.#tries.failed(this, new BackendError("timeout", `nothing came for ${fallbackAfterMs} ms`));
  }

  admitted(): void {
    const request = this.waiting as BackendRequest;
    this.waiting = undefined;
    this.#tries.admitted(this, request);
  }

  displaced(): void {
    this.#tries.notAdmitted(this, "queue_full");
  }

  // All else is the client's own.
  get id(): number {
    return this.#asker.id;
  }
  get ended(): boolean {
    return this.#asker.ended;
  }
  get full(): boolean {
    return this.#asker.full;
  }
  get headSent(): boolean {
    return this.#asker.headSent;
  }
  set headSent(value: boolean) {
    this.#asker.headSent = value;
  }
  get headers(): string {
    return this.#asker.headers;
  }
  set headers(value: string) {
    this.#asker.headers = value;
  }
  get format(): AnswerFormat | null {
    return this.#asker.format;
  }
  sent(result: number, data: Uint8Array<ArrayBuffer>, offset: number, length: number, end: boolean): void {
    this.#asker.sent(result, data, offset, length, end);
  }
  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void {
    this.#asker.append(bytes, end);
  }
}

/** The request as another backend than the chosen one gets it. */
function requestFor({ config }: Route, request: BackendRequest): BackendRequest {
  const { members, ...rest } = request;
  const taken = Object.entries(members ?? {}).filter(([name]) => config.requestMembers.includes(name));
  return {
    ...rest,
    model: prefixLength(request.model, config.models) > 0 ? request.model : config.defaultModel,
    ...(taken.length === 0 ? {} : { members: Object.fromEntries(taken) }),
  };
}

/**
 * An answer that more than one backend may be asked for: where one fails before its first event, the next is asked.
 * Each try is a recipient of its own before the client, so that what an old one still gives reaches nobody.
 * @module
 */
import type { Answer, BackendRequest } from "../backend/backend.ts";
import type { EventQueue } from "../backend/event_queue.ts";
import { asBackendError, BackendError, isProvidersFault } from "../errors.ts";
import { prefixLength } from "../protocol/handoff_request.ts";
import type { AnswerFormat, ClientEvent, Recipient } from "../protocol/stream_event.ts";
import { Timer, type TimerWheel } from "../timing/timer_wheel.ts";
import type { Backends, Route } from "./backends.ts";

/** Whose answer it is. */
export interface Asker extends Recipient {
  /** A backend is asked. The request is as that one gets it. */
  trying(route: Route, request: BackendRequest): void;
  /** It has failed, and another one is asked. */
  tryFailed(route: Route, error: BackendError, next: Route): void;
}

/** What tries are made with. */
export interface TryParts {
  readonly backends: Pick<Backends, "route">;
  readonly wheel: TimerWheel;
  readonly own: EventQueue;
}

/** See the module. */
export class Tries implements Answer {
  readonly #parts: TryParts;
  readonly #asker: Asker;
  /** Names of those that have not been asked. */
  readonly #left: string[];
  /** As long as another one may be asked. */
  #request: BackendRequest | undefined;
  #attempt: Attempt | undefined;
  #paused = false;

  /** Asks at once. */
  constructor(parts: TryParts, asker: Asker, first: Route, request: BackendRequest) {
    this.#parts = parts;
    this.#asker = asker;
    this.#left = [...first.config.fallback];
    this.#request = request;
    this.#ask(first, request);
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
    this.#request = undefined;
    this.#end(this.#attempt);
    this.#attempt?.answer?.cancel();
  }

  #ask(route: Route, request: BackendRequest): void {
    const { wheel, own } = this.#parts;
    if (this.#left.length === 0) this.#request = undefined;
    const attempt = new Attempt(this, this.#asker, route);
    this.#attempt = attempt;
    this.#asker.trying(route, request);
    if (this.more) wheel.set(attempt, route.config.fallbackAfterMs);
    try {
      attempt.answer = route.backend.ask(request, attempt);
    } catch (error) {
      own.push(attempt, { kind: "error", error: asBackendError(error) });
    }
    if (this.#paused) attempt.answer?.pause();
  }

  /** For the present try: whether another one may follow. */
  get more(): boolean {
    return this.#request !== undefined;
  }

  /** For the present try: it has given its first event, and there is no other one after it. */
  began(attempt: Attempt): void {
    this.#request = undefined;
    this.#parts.wheel.cancel(attempt);
  }

  /**
   * For the present try: it has failed before its first event.
   *
   * @returns whether another one is asked
   */
  failed(attempt: Attempt, error: BackendError): boolean {
    const request = this.#request;
    if (request === undefined || !isProvidersFault(error.kind)) return false;
    const next = this.#next();
    if (next === undefined) return false;
    this.#end(attempt);
    attempt.answer?.cancel();
    this.#asker.tryFailed(attempt.route, error, next);
    this.#ask(next, requestFor(next, request));
    return true;
  }

  /** The next one, if a reload has not taken them all away. */
  #next(): Route | undefined {
    while (this.#left.length > 0) {
      const route = this.#parts.backends.route(this.#left.shift());
      if (route !== undefined) return route;
    }
    return undefined;
  }

  #end(attempt: Attempt | undefined): void {
    if (attempt === undefined) return;
    attempt.over = true;
    this.#parts.wheel.cancel(attempt);
  }
}

/** One backend that is asked; to that backend, the client. */
class Attempt extends Timer implements Recipient {
  readonly route: Route;
  answer: Answer | undefined;
  /** Nothing of it is wanted any more. */
  over = false;
  readonly #tries: Tries;
  readonly #asker: Asker;
  #begun = false;

  constructor(tries: Tries, asker: Asker, route: Route) {
    super();
    this.#tries = tries;
    this.#asker = asker;
    this.route = route;
  }

  note(event: ClientEvent): boolean {
    if (this.over || (!this.#begun && !this.#passes(event))) return false;
    if (event.kind === "end" || event.kind === "error") this.over = true;
    return this.#asker.note(event);
  }

  /** Whether what came before the first event is for the client. That a provider has accepted is not yet an answer. */
  #passes(event: ClientEvent): boolean {
    switch (event.kind) {
      case "error":
        return !this.#tries.failed(this, event.error);
      case "alive":
      case "open":
        return !this.#tries.more;
      default:
        this.#begun = true;
        this.#tries.began(this);
        return true;
    }
  }

  /** It has given nothing for as long as it may where another one is left. */
  timedOut(): void {
    const { fallbackAfterMs } = this.route.config;
    this.#tries.failed(this, new BackendError("timeout", `nothing came for ${fallbackAfterMs} ms`));
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
  get frame(): string {
    return this.#asker.frame;
  }
  set frame(value: string) {
    this.#asker.frame = value;
  }
  get frameEnds(): boolean {
    return this.#asker.frameEnds;
  }
  set frameEnds(value: boolean) {
    this.#asker.frameEnds = value;
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

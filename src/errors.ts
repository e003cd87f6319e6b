/**
 * Every failure the daemon knows by name. The closed unions are log field and metric label alike.
 * @module
 */

/** Why a handoff was refused before it became a client: label `reason` of `daemon_handoffs_failed`. */
export const HANDOFF_FAILURES = [
  "no_fd",
  "many_fds",
  "not_a_socket",
  "not_stream",
  "listening",
  "payload_truncated",
  "control_truncated",
  "timeout",
  "uid_not_allowed",
  "receive_error",
  "bad_request",
] as const;
/** One of {@linkcode HANDOFF_FAILURES}. */
export type HandoffFailure = typeof HANDOFF_FAILURES[number];

/** Why a stream ended without `[DONE]`: label `reason` of `daemon_stream_errors_total`. */
export const STREAM_FAILURES = [
  "client_disconnected",
  "write_timeout",
  "backend_timeout",
  "backend_error",
  "backend_busy",
  "max_stream",
  "stopped",
  "shutdown",
  "other",
] as const;
/** One of {@linkcode STREAM_FAILURES}. */
export type StreamFailure = typeof STREAM_FAILURES[number];

/** What went wrong at a backend: label `kind` of `daemon_backend_errors`. */
export const BACKEND_FAILURES = [
  /** Refused, reset before the head, DNS, TLS, a proxy that wants a password: the provider was not reached. */
  "unavailable",
  /** The time-out to the head or between events passed; or 408: the provider's own did. */
  "timeout",
  /** 401 or 403: key or permission. */
  "auth",
  /** 404: no such model or path. */
  "not_found",
  /** 429, and the tries are used up. */
  "rate_limited",
  /** Another 4xx: the provider does not accept the request. */
  "bad_request",
  /** 5xx, 424, or what a provider calls such an error inside its stream. */
  "server_error",
  /** What came does not follow the protocol, or a bound was passed. */
  "malformed",
  /** The provider's stream broke or ended before its end mark. */
  "truncated",
  /** The provider reported an error of no such kind inside its stream. */
  "stream_error",
  "other",
] as const;
/** One of {@linkcode BACKEND_FAILURES}. */
export type BackendFailure = typeof BACKEND_FAILURES[number];

/** Why a backend was not asked: label `reason` of `daemon_backend_refused_total`. */
export const BACKEND_REFUSALS = [
  /** As many streams as it may have, and as many waiting. */
  "queue_full",
  /** No place for as long as one may wait. */
  "queue_timeout",
  /** It has failed again and again. */
  "circuit_open",
] as const;
/** One of {@linkcode BACKEND_REFUSALS}. */
export type BackendRefusal = typeof BACKEND_REFUSALS[number];

/** Whether another provider may well do better. What the request, the key or the model's name is to blame for, is not. */
export function isProvidersFault(kind: BackendFailure): boolean {
  return kind !== "auth" && kind !== "not_found" && kind !== "bad_request";
}

/**
 * The handoff's data is not what the contract says; the client is answered 400 with the message, which
 * therefore names the field and what is expected, and quotes nothing secret.
 */
export class HandoffRequestError extends Error {
  override readonly name = "HandoffRequestError";
}

/**
 * A backend could not give an answer, or not all of it. The message is for the log; the client sees
 * only what {@linkcode BackendError.kind} stands for.
 */
export class BackendError extends Error {
  override readonly name = "BackendError";
  readonly kind: BackendFailure;
  constructor(kind: BackendFailure, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }
}

/** Whatever a backend threw, as its failure: of the `kind` that it has, if that is one, else `other`. */
export function asBackendError(error: unknown): BackendError {
  if (error instanceof BackendError) return error;
  try {
    const given = (error as { readonly kind?: unknown } | null | undefined)?.kind;
    const kind = BACKEND_FAILURES.find((each) => each === given) ?? "other";
    return new BackendError(kind, error instanceof Error ? error.message : String(error), { cause: error });
  } catch {
    // Anything may be thrown, also what is no text and cannot become one, such as `Object.create(null)`.
    return new BackendError("other", "what was thrown has no text");
  }
}

/** Flags, environment or file do not make a configuration: exit code 2, the message is complete. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/**
 * A socket or port that the configuration names cannot be had: exit code 1, since it may be free another time. The
 * message is complete.
 */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/** The shim refused or failed: which call, what the status means, and on what. */
export class ShimError extends Error {
  override readonly name = "ShimError";
  /** The status of ABI.md: `-errno`, or one of the shim's own below -5000. */
  readonly status: number;
  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

/** No daemon says how it is. */
export class StatusError extends Error {
  override readonly name = "StatusError";
}

/** Whether an error's message is all that there is to say to the user, without a stack. */
export function saysAll(error: unknown): error is ConfigError | ListenError | ShimError | StatusError {
  return [ConfigError, ListenError, ShimError, StatusError].some((kind) => error instanceof kind);
}

/**
 * The acceptor: the listeners of one daemon, its limits, who may hand over, and what it refuses.
 * @module
 */
import { type HandoffFailure, ShimError } from "../errors.ts";
import { Bell } from "./bell.ts";
import { check, openShim, type Shim, STATUS } from "./library.ts";
import { reasonOf } from "./reasons.ts";

/** The type of a handoff socket: what Apache's module speaks, and what older builds and tools do. */
export type SocketKind = "seqpacket" | "stream";

/** Admission of handoffs; see ABI.md. */
export interface AcceptorPolicy {
  readonly maxConnections: number;
  readonly handoffTimeoutMs: number;
  readonly handoffBufferBytes: number;
  /** How long bytes may stay unacknowledged before a TCP client counts as gone. */
  readonly clientTimeoutMs: number;
  /** Handoffs that have not said all yet; past it the oldest is refused, so that accepting never waits. */
  readonly maxPending: number;
  /** Empty: any uid that the socket's mode lets in. */
  readonly allowedUids: readonly number[];
}

/** Where to listen. */
export interface ListenOptions {
  readonly path: string;
  readonly mode: number;
  /** Name of the socket's group; empty: unchanged. */
  readonly group: string;
}

/** Handoffs that were refused for one reason since the last time; all their fds are closed or with a worker. */
export interface RefusedHandoffs {
  readonly reason: HandoffFailure;
  readonly count: number;
  /** Of the last one. */
  readonly receivedBytes: number;
  /** Of the last one. */
  readonly durationSecs: number;
  /** What the reason is about, by the table of ABI.md (a uid, an errno, a limit, …). Of the last one. */
  readonly detail: number;
}

/** Where an acceptor's events go. Called in order; must not throw. */
export interface AcceptorEvents {
  refused(handoffs: RefusedHandoffs): void;
  /** After a stop: the backlog is served, and all that came is with the workers. */
  drained(): void;
  /** accept4(2) failed for a reason of the whole process. */
  acceptFailed(errno: number): void;
}

const KINDS: readonly SocketKind[] = ["seqpacket", "stream"];
const encoder = new TextEncoder();

/** The number that ABI.md gives a kind. */
export function kindNumber(kind: SocketKind): number {
  return KINDS.indexOf(kind);
}

const HANDOFF_REFUSED = 1, DRAINED = 2, ACCEPT_FAILED = 3;
const RECORD_WORDS = 6;
/** There are not more records at a time: one for each reason, and one of each other kind. */
const RECORDS = 16;

/** The one that takes the handoffs of a daemon, and gives each to the worker with the fewest clients. */
export class Acceptor {
  readonly #shim: Shim;
  readonly #records = new Uint32Array(RECORDS * RECORD_WORDS);
  #bell: Bell | undefined;
  /** The shim's number for it; valid in every isolate of the process. */
  readonly handle: number;

  /** @throws {ShimError} if the shim cannot be opened */
  constructor(policy: AcceptorPolicy) {
    this.#shim = openShim();
    const out = new Uint32Array(1);
    const [words, uids] = encodePolicy(policy);
    check(this.#shim.shim_acceptor_new(words, uids, uids.length, out), "make an acceptor");
    this.handle = out[0] as number;
  }

  /**
   * Takes handoffs from now on, until {@linkcode Acceptor.close}.
   *
   * @throws {ShimError} if it cannot be started, or ends by itself, which only a bug can bring about
   */
  async run(events: AcceptorEvents): Promise<void> {
    const fd = check(this.#shim.shim_acceptor_start(this.handle), "start the acceptor");
    const failed = Promise.withResolvers<never>();
    this.#bell = new Bell(fd, () => {
      try {
        this.#take(events);
      } catch (error) {
        failed.reject(error);
      }
    });
    await Promise.race([this.#bell.ended, failed.promise]);
  }

  #take(events: AcceptorEvents): void {
    const buffer = new Uint8Array(this.#records.buffer);
    const bytes = check(
      this.#shim.shim_acceptor_take(this.handle, buffer, buffer.byteLength),
      "take what the acceptor tells",
    );
    for (let word = 0; word < bytes / 4; word += RECORD_WORDS) {
      const [kind, receivedBytes, reason, micros, count, detail] = this.#records.subarray(
        word,
        word + RECORD_WORDS,
      ) as unknown as [number, number, number, number, number, number];
      if (kind === HANDOFF_REFUSED) {
        events.refused({
          reason: reasonOf(reason) ?? "receive_error",
          count,
          receivedBytes,
          durationSecs: micros / 1e6,
          detail,
        });
      } else if (kind === DRAINED) events.drained();
      else if (kind === ACCEPT_FAILED) events.acceptFailed(reason);
    }
  }

  /** Changes the policy for handoffs accepted from now on. */
  configure(policy: AcceptorPolicy): void {
    const [words, uids] = encodePolicy(policy);
    check(
      this.#shim.shim_acceptor_configure(this.handle, words, uids, uids.length),
      "change the acceptor's policy",
    );
  }

  /**
   * Binds and listens. A stale socket file is replaced.
   *
   * @throws {ShimError} if the path is taken by a live socket or something else, or the system says no; the
   *   message names the path
   */
  listen(kind: SocketKind, { path, mode, group }: ListenOptions): void {
    const pathBytes = encoder.encode(path);
    const groupBytes = encoder.encode(group);
    const status = this.#shim.shim_acceptor_listen(
      this.handle,
      kindNumber(kind),
      pathBytes,
      pathBytes.length,
      mode,
      groupBytes,
      groupBytes.length,
    );
    if (status === STATUS.noSuchGroup) {
      throw new ShimError(status, `Cannot listen on ${path}: the system has no group "${group}"`);
    }
    check(status, `listen on ${path}`);
  }

  /**
   * Takes over a listening socket that systemd passed.
   *
   * @throws {ShimError} if the fd is not a listening Unix socket
   */
  adopt(fd: number): SocketKind {
    const kind = check(this.#shim.shim_acceptor_adopt(this.handle, fd), `adopt fd ${fd} as a handoff socket`);
    return KINDS[kind] as SocketKind;
  }

  /**
   * Stops listening once the backlog is served; `drained` follows. Removes the paths.
   *
   * @param now refuses what has not said all yet
   * @throws {ShimError} if a path cannot be removed; it has stopped all the same
   */
  stop(now: boolean): void {
    check(this.#shim.shim_acceptor_stop(this.handle, now ? 1 : 0), "remove a handoff socket");
  }

  /** Live clients over all workers. */
  active(): number {
    return check(this.#shim.shim_acceptor_active(this.handle), "count clients");
  }

  /** Closes the listeners and every reactor that is left. Later calls do nothing. */
  close(): void {
    this.#bell?.close();
    const status = this.#shim.shim_acceptor_close(this.handle);
    if (status !== STATUS.badHandle) check(status, "close the acceptor");
  }
}

function encodePolicy(policy: AcceptorPolicy): [Uint32Array<ArrayBuffer>, Uint32Array<ArrayBuffer>] {
  const words = Uint32Array.of(
    policy.maxConnections,
    policy.handoffTimeoutMs,
    policy.handoffBufferBytes,
    policy.clientTimeoutMs,
    policy.maxPending,
    0,
    0,
    0,
  );
  return [words, Uint32Array.from(policy.allowedUids)];
}

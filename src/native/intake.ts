/**
 * The intake: the listeners of one daemon, its limits, and who may hand over.
 * @module
 */
import { ShimError } from "../errors.ts";
import { check, openShim, type Shim, STATUS } from "./library.ts";

/** The type of a handoff socket: what Apache's module speaks, and what older builds and tools do. */
export type SocketKind = "seqpacket" | "stream";

/** Admission of handoffs; see ABI.md. */
export interface IntakePolicy {
  readonly maxConnections: number;
  readonly handoffTimeoutMs: number;
  readonly handoffBufferBytes: number;
  /** How long bytes may stay unacknowledged before a TCP client counts as gone. */
  readonly clientTimeoutMs: number;
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

const KINDS: readonly SocketKind[] = ["seqpacket", "stream"];
const encoder = new TextEncoder();

/** The number that ABI.md gives a kind. */
export function kindNumber(kind: SocketKind): number {
  return KINDS.indexOf(kind);
}

/** The listeners, limits and policy of one daemon. */
export class Intake {
  readonly #shim: Shim;
  /** The shim's number for it; valid in every isolate of the process. */
  readonly handle: number;

  /** @throws {ShimError} if the shim cannot be opened */
  constructor(policy: IntakePolicy) {
    this.#shim = openShim();
    const out = new Uint32Array(1);
    const [words, uids] = encodePolicy(policy);
    check(this.#shim.shim_intake_new(words, uids, uids.length, out), "make an intake");
    this.handle = out[0] as number;
  }

  /** Changes the policy for handoffs accepted from now on. */
  configure(policy: IntakePolicy): void {
    const [words, uids] = encodePolicy(policy);
    check(this.#shim.shim_intake_configure(this.handle, words, uids, uids.length), "change the intake");
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
    const status = this.#shim.shim_intake_listen(
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
    const kind = check(this.#shim.shim_intake_adopt(this.handle, fd), `adopt fd ${fd} as a handoff socket`);
    return KINDS[kind] as SocketKind;
  }

  /** Stops listening once the backlog is served; removes the paths. Each reactor then says `drained`. */
  stop(): void {
    check(this.#shim.shim_intake_stop(this.handle), "stop listening");
  }

  /** Live clients over all reactors. */
  active(): number {
    return check(this.#shim.shim_intake_active(this.handle), "count clients");
  }

  /** Closes the listeners and every reactor that is left. Later calls do nothing. */
  close(): void {
    const status = this.#shim.shim_intake_close(this.handle);
    if (status !== STATUS.badHandle) check(status, "close the intake");
  }
}

function encodePolicy(policy: IntakePolicy): [Uint32Array<ArrayBuffer>, Uint32Array<ArrayBuffer>] {
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

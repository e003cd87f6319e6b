/**
 * A bell of the shim: a socket over which one of its threads sends a byte when there is something to take. Deno watches
 * it as any other, which takes fewer thread switches than a call parked in the blocking pool.
 * @module
 */
import { Socket } from "node:net";
import { ShimError } from "../errors.ts";
import { STATUS } from "./library.ts";

/** See the module. */
export class Bell {
  /** Resolves after {@linkcode Bell.close}. Rejects if the shim's thread ends by itself, which only a bug can bring about. */
  readonly ended: Promise<void>;
  readonly #socket: Socket;
  #closed = false;

  /**
   * @param fd the caller's end of the bell, which it gives away
   * @param onRing must not throw
   */
  constructor(fd: number, onRing: () => void) {
    const callback = (): boolean => {
      onRing();
      return true;
    };
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ended = promise;
    this.#socket = new Socket({
      fd,
      readable: true,
      writable: false,
      onread: { buffer: new Uint8Array(16), callback },
    });
    this.#socket.on("error", reject);
    this.#socket.on("close", () => {
      if (this.#closed) resolve();
      else reject(new ShimError(STATUS.panic, "A thread of the shim ended by itself"));
    });
  }

  /** Listens no more. Later calls do nothing. */
  close(): void {
    this.#closed = true;
    this.#socket.destroy();
  }
}

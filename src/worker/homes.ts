/**
 * Where a stream with an id is: in the worker that its id stands for, so that all who name it come together.
 * @module
 */

/** The reactors of all workers, in memory that they share, since one that dies has another one after it. */
export class Homes {
  readonly #reactors: Uint32Array<SharedArrayBuffer>;

  /** @param memory from {@linkcode Homes.allocate}, the same for all workers */
  constructor(memory: SharedArrayBuffer) {
    this.#reactors = new Uint32Array(memory);
  }

  /** Memory for so many workers. */
  static allocate(workers: number): SharedArrayBuffer {
    return new SharedArrayBuffer(workers * Uint32Array.BYTES_PER_ELEMENT);
  }

  /** How many workers there are. */
  get workers(): number {
    return this.#reactors.length;
  }

  /** A worker has that reactor from now on. */
  set(worker: number, reactor: number): void {
    Atomics.store(this.#reactors, worker, reactor);
  }

  /** The reactor of the worker that a stream is at. */
  of(streamId: string): number {
    return Atomics.load(this.#reactors, hash(streamId) % this.#reactors.length);
  }
}

/** FNV-1a, 32 bits (draft-eastlake-fnv), of ASCII. */
function hash(text: string): number {
  let hash = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 0x01000193);
  }
  return hash >>> 0;
}

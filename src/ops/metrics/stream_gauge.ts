/**
 * Streams under way, counted where all workers see it.
 * @module
 */

/**
 * Streams live in each worker, and the most there ever were at a time: numbers in memory that the workers share, since
 * a peak cannot be added up afterwards, and since a worker that dies cannot take off its own.
 */
export class StreamGauge {
  readonly #counts: Int32Array<SharedArrayBuffer>;
  readonly #worker: number;

  /**
   * @param worker whose streams {@linkcode StreamGauge.enter} counts, from 0 up
   * @param memory from {@linkcode StreamGauge.allocate}, the same for all workers
   */
  constructor(worker: number, memory: SharedArrayBuffer) {
    this.#counts = new Int32Array(memory);
    this.#worker = 2 + worker;
  }

  /** Memory for so many workers. */
  static allocate(workers: number): SharedArrayBuffer {
    return new SharedArrayBuffer((2 + workers) * 4);
  }

  /** Of all workers. */
  get active(): number {
    return Atomics.load(this.#counts, 0);
  }

  /** Of all workers. */
  get peak(): number {
    return Atomics.load(this.#counts, 1);
  }

  /** Of this worker. */
  get own(): number {
    return Atomics.load(this.#counts, this.#worker);
  }

  enter(): void {
    Atomics.add(this.#counts, this.#worker, 1);
    const active = Atomics.add(this.#counts, 0, 1) + 1;
    let peak = this.peak;
    while (active > peak) {
      const seen = Atomics.compareExchange(this.#counts, 1, peak, active);
      if (seen === peak) return;
      peak = seen;
    }
  }

  leave(): void {
    Atomics.sub(this.#counts, this.#worker, 1);
    Atomics.sub(this.#counts, 0, 1);
  }

  /** The worker has died, and its streams with it. Returns how many those were. */
  clear(): number {
    const lost = Atomics.exchange(this.#counts, this.#worker, 0);
    Atomics.sub(this.#counts, 0, lost);
    return lost;
  }
}

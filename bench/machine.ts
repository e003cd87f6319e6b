/**
 * What the figures were measured on.
 * @module
 */
import { cpus } from "node:os";

/** A machine, and when. */
export interface Machine {
  readonly date: string;
  readonly processor: string;
  readonly cores: number;
  readonly memoryGib: number;
  readonly kernel: string;
}

/** Asks the system; needs `--allow-sys=cpus,osRelease,systemMemoryInfo`. */
export function machine(): Machine {
  return {
    date: new Date().toISOString().slice(0, 10),
    processor: cpus()[0]?.model.trim() ?? "unknown processor",
    cores: navigator.hardwareConcurrency,
    memoryGib: Math.round(Deno.systemMemoryInfo().total / 2 ** 30),
    kernel: `Linux ${Deno.osRelease()}`,
  };
}

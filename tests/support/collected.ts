/**
 * Whether something is still held by anybody, of which a test keeps no more than a `WeakRef`.
 * @module
 */
import v8 from "node:v8";
import vm from "node:vm";

v8.setFlagsFromString("--expose-gc");
const gc = vm.runInNewContext("gc") as () => void;

/** A collection finds what nobody holds; what a turn has touched is held until its end. */
const ROUNDS = 20;

/** @returns whether it was collected */
export async function collected(ref: WeakRef<object>): Promise<boolean> {
  for (let round = 0; round < ROUNDS && ref.deref() !== undefined; round++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    gc();
  }
  return ref.deref() === undefined;
}

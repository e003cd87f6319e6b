/** What the heap guard sees of this process's heap, as a line of JSON. Runs with V8's `--expose-gc`. */
import { V8Heap } from "../../src/worker/heap_guard.ts";

const { gc } = globalThis as unknown as { gc(options: { type: "minor" | "major" }): void };
/** In a task of its own: a weak reference holds until the end of the task that made or asked it. */
const collect = (type: "minor" | "major"): Promise<void> =>
  new Promise((resolve) =>
    setTimeout(() => {
      gc({ type });
      resolve();
    })
  );

const heap = new V8Heap();
const beforeBytes = heap.usedBytes();
const kept = Array.from({ length: 1 << 20 }, (_, index) => ({ index }));
await collect("minor");
await collect("minor"); // by now it is old what is still there
const collected = heap.watchCollection();
await collect("minor");
const byMinor = collected();
await collect("major");
const byMajor = collected();
const bytesPerKept = (heap.usedBytes() - beforeBytes) / kept.length;
const line = JSON.stringify({ limitBytes: heap.limitBytes(), bytesPerKept, byMinor, byMajor });
Deno.stdout.writeSync(new TextEncoder().encode(line));

import assert from "node:assert/strict";
import { type Heap, heapGuard } from "../../src/worker/heap_guard.ts";
import { startFlags } from "../support/daemon.ts";

const MIB = 1024 * 1024;

class FakeHeap implements Heap {
  usedMib = 0;
  collections = 0;
  usedBytes = () => this.usedMib * MIB;
  limitBytes = () => 100 * MIB;
  watchCollection = () => {
    const before = this.collections;
    return () => this.collections > before;
  };
}

Deno.test("a heap that is past 85 % after a collection is full", () => {
  const heap = new FakeHeap();
  const look = heapGuard(heap);
  heap.usedMib = 85.4;
  look();
  heap.collections++;
  assert.throws(look, {
    message: "The heap is full: 85 MiB of 100 MiB are in use after a collection; raise the limit with " +
      "--v8-flags=--max-old-space-size=MIB, or have more workers",
  });
});

Deno.test("a heap below the share is not full, whatever is collected", () => {
  const heap = new FakeHeap();
  const look = heapGuard(heap);
  heap.usedMib = 84.9;
  for (let looks = 0; looks < 3; looks++) {
    heap.collections++;
    look();
  }
});

Deno.test("what no collection has looked at yet does not count", () => {
  const heap = new FakeHeap();
  const look = heapGuard(heap);
  heap.collections++;
  heap.usedMib = 99;
  for (let looks = 0; looks < 3; looks++) look();
});

Deno.test("a collection that helped begins all anew", () => {
  const heap = new FakeHeap();
  const look = heapGuard(heap);
  for (let rounds = 0; rounds < 3; rounds++) {
    heap.usedMib = 95;
    look();
    heap.collections++;
    heap.usedMib = 60;
    look();
  }
});

Deno.test("V8 tells limit, use and full collections, without a permission", async () => {
  const v8Flags = startFlags().find((flag) => flag.startsWith("--v8-flags="));
  const script = new URL("../support/own_heap.ts", import.meta.url).pathname;
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", `${v8Flags},--max-old-space-size=200,--expose-gc`, script],
  }).output();
  const text = new TextDecoder().decode(stdout);
  assert.notEqual(text, "", new TextDecoder().decode(stderr));
  const { limitBytes, bytesPerKept, byMinor, byMajor } = JSON.parse(text);
  assert.equal(limitBytes, 200 * MIB); // as it is in the flag: the space of young objects is subtracted right
  assert(bytesPerKept > 12 && bytesPerKept < 60, `${bytesPerKept}`);
  assert.deepEqual([byMinor, byMajor], [false, true]);
});

/** The bytes of a stream that can be given again. */
import assert from "node:assert/strict";
import { ByteLog } from "../../src/worker/byte_log.ts";

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** A log, the memory that it holds by its owner's count, and what was told to go. */
function fixture(maxStreamBytes: number, totalBytes = Infinity) {
  const memory = { held: 0 };
  const log = new ByteLog({
    maxStreamBytes,
    reserve(count) {
      if (memory.held + count > totalBytes) return false;
      memory.held += count;
      return true;
    },
    release: (count) => void (memory.held -= count),
  });
  const dropped: number[] = [];
  return {
    log,
    memory,
    dropped,
    add: (text: string) => log.append(bytes(text), (start) => dropped.push(start)),
    text: (position: number) => new TextDecoder().decode(log.from(position, Infinity)),
  };
}

const event = (id: number, data = "x"): string =>
  `${id === 1 ? "retry: 1\n" : ""}id: ${id}\ndata: ${data}\n\n`;

Deno.test("what came is there from any position on, in pieces", () => {
  const { log, add, text } = fixture(10_000);
  add("abc");
  add("defg");
  assert.deepEqual([log.start, log.end, text(0), text(2), text(7)], [0, 7, "abcdefg", "cdefg", ""]);
  assert.equal(new TextDecoder().decode(log.from(1, 3)), "bcd");
});

Deno.test("an event is found by its id, and no other", () => {
  const { log, add, text } = fixture(10_000);
  for (let id = 1; id <= 12; id++) add(event(id, `ü\\nid: 7${id}`));
  assert.equal(log.after(0), 0);
  for (let id = 1; id < 12; id++) {
    assert(text(log.after(id) as number).startsWith(event(id + 1, `ü\\nid: 7${id + 1}`)));
  }
  assert.equal(log.after(12), log.end);
  for (const unknown of [13, 71, 99]) assert.equal(log.after(unknown), undefined);
});

Deno.test("at its bound the older half goes, and who needs it is told before", () => {
  const { log, add, text, dropped, memory } = fixture(2000);
  for (let id = 1; id <= 100; id++) add(event(id, "0123456789"));
  assert(dropped.length > 0 && memory.held <= 2000 && memory.held === log.heldBytes);
  assert.equal(dropped.at(-1), log.start);
  assert.equal(log.end, Array.from({ length: 100 }, (_, i) => event(i + 1, "0123456789")).join("").length);
  assert.equal(log.after(0), undefined);
  assert.equal(log.after(1), undefined);
  assert.equal(text(log.after(99) as number), event(100, "0123456789"));
  assert.equal(log.after(100), log.end);
});

Deno.test("more at once than there may be: all goes, the count goes on", () => {
  const { log, add, text, dropped } = fixture(1024);
  add("abc");
  add("x".repeat(5000));
  assert.deepEqual([log.start, log.end, dropped], [5003, 5003, [3]]);
  add("de");
  assert.deepEqual([log.start, log.end, text(5003)], [5003, 5005, "de"]);
});

Deno.test("a log that begins in the middle of a stream is gone on from where nothing is missing", () => {
  const { log, add, text } = fixture(1024);
  add(event(1) + event(2));
  add(event(3, "x".repeat(2000)));
  assert.deepEqual([log.after(1), log.after(2), log.after(3), log.lastEventId], [
    undefined,
    undefined,
    log.end,
    3,
  ]);
  add(event(4) + event(5));
  assert.deepEqual([log.after(2), log.after(3), log.lastEventId], [undefined, log.start, 5]);
  assert.equal(text(log.after(4) as number), event(5));
  assert.deepEqual([log.after(5), log.after(6)], [log.end, undefined]);
  const one = fixture(1024);
  one.log.beginAt(100);
  one.add(event(9));
  assert.deepEqual([one.log.after(8), one.log.after(9), one.log.lastEventId], [100, one.log.end, 9]);
});

Deno.test("without memory nothing is kept; where there is little it is made use of", () => {
  const none = fixture(10_000, 0);
  none.add("abc");
  assert.deepEqual([none.log.start, none.log.end, none.dropped], [3, 3, [0]]);
  const little = fixture(10_000, 1500);
  little.add("x".repeat(1000));
  little.add("y".repeat(400));
  assert.deepEqual([little.log.start, little.memory.held], [0, 1400]);
  little.add("z".repeat(300));
  assert.deepEqual([little.log.end - little.log.start, little.memory.held], [700, 1400]);
});

Deno.test("where memory is short, a log still grows in few steps", () => {
  const log = fixture(100_000, 15_000);
  log.add("x".repeat(8000));
  const sizes = new Set<number>();
  for (let i = 0; i < 60; i++) {
    log.add("y".repeat(50));
    sizes.add(log.memory.held);
  }
  assert.deepEqual([log.log.start, log.log.end], [0, 11_000]);
  assert.deepEqual([...sizes], [9000, 10_125, 11_390]);
});

Deno.test("memory goes back: what is not needed at the end, and all when it is cleared", () => {
  const { log, add, memory, text } = fixture(10_000);
  add("abc");
  assert.equal(memory.held, 1024);
  log.trim();
  assert.deepEqual([memory.held, text(0)], [3, "abc"]);
  log.clear();
  assert.deepEqual([memory.held, log.start, log.end, log.after(0)], [0, 3, 3, undefined]);
});

import assert from "node:assert/strict";
import { ByteWriter } from "../../src/upstream/byte_writer.ts";

/** Takes three bytes at a time. */
class Slow {
  readonly writes: string[] = [];

  read(): Promise<null> {
    return Promise.resolve(null);
  }

  write(bytes: Uint8Array): Promise<number> {
    const taken = bytes.subarray(0, 3);
    this.writes.push(new TextDecoder().decode(taken));
    return Promise.resolve(taken.length);
  }

  close(): void {}
}

const bytes = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

Deno.test("byte writer: what a stream takes in pieces goes out whole, in order, and is counted", async () => {
  const stream = new Slow();
  let drained = 0;
  const writer = new ByteWriter(stream, { drained: () => drained++, writeFailed: assert.fail });
  writer.write(bytes("abcd"));
  writer.reply(bytes("ef"));
  assert.deepEqual([writer.pendingBytes, writer.replyBytes, writer.begun], [6, 2, false]);
  await writer.settled();
  assert.deepEqual(stream.writes, ["abc", "def"]);
  assert.deepEqual([writer.pendingBytes, writer.replyBytes, writer.begun, drained], [0, 0, true, 1]);
  writer.write(bytes("ghijk"));
  await writer.settled();
  assert.deepEqual([stream.writes.join(""), drained], ["abcdefghijk", 2]);
});

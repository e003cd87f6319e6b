import assert from "node:assert/strict";
import {
  DONE_EVENT,
  errorEvent,
  type Frame,
  FrameEncoder,
  type FrameTarget,
  SseEncoderStream,
  textEvent,
  utf8Length,
} from "../../src/protocol/sse.ts";

const frame = (id: number, text: string, end = false): Frame<FrameTarget> => ({
  target: targets[id] ?? { id },
  text,
  end,
});
const noRelease = (): void => {};
const targets: readonly FrameTarget[] = [{ id: 0 }, { id: 1 }, { id: 2 }];

/** What an encoder makes, as [client, text, flags] per entry. */
function entriesOf(
  frames: Frame<FrameTarget>[],
  encoder = new FrameEncoder<FrameTarget>(),
): [number, string, number][] {
  const { entries, count, data, dataBytes, targets } = encoder.encode(frames);
  assert.equal(targets.length, count);
  return Array.from({ length: count }, (_, index) => {
    const [id, offset, length, flags] = entries.subarray(index * 4, index * 4 + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    assert.equal(targets[index]?.id, id);
    assert(offset + length <= dataBytes);
    return [
      id,
      new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(offset, offset + length)),
      flags,
    ];
  });
}

Deno.test("the event of a text", () => assert.equal(textEvent("Hi"), 'data: {"content":"Hi"}\n\n'));

Deno.test("no text can break the framing", () => {
  const event = textEvent('a\r\nb\n\ndata: x\0"\\\u2028');
  assert.equal(event, 'data: {"content":"a\\r\\nb\\n\\ndata: x\\u0000\\"\\\\\u2028"}\n\n');
  assert.equal(event.indexOf("\n"), event.length - 2);
});

Deno.test("half of a surrogate pair is escaped, so that the bytes stay UTF-8", () => {
  assert.equal(textEvent("\ud83d"), 'data: {"content":"\\ud83d"}\n\n');
});

Deno.test("the event of a failure", () => assert.equal(errorEvent("no"), 'data: {"error":"no"}\n\n'));

Deno.test("the last event", () => assert.equal(DONE_EVENT, "data: [DONE]\n\n"));

Deno.test("each client has an entry, in order", () => {
  assert.deepEqual(entriesOf([frame(1, "one"), frame(2, "two"), frame(1, "three")]), [
    [1, "one", 0],
    [2, "two", 0],
    [1, "three", 0],
  ]);
});

Deno.test("the last frame of a client says so", () => {
  assert.deepEqual(entriesOf([frame(1, "a"), frame(2, "b", true)]), [[1, "a", 0], [2, "b", 1]]);
});

Deno.test("offsets are right where text is not ASCII", () => {
  assert.deepEqual(
    entriesOf([frame(0, "é"), frame(1, "€"), frame(2, "😀x"), frame(0, "\ud83d"), frame(1, "y")]),
    [
      [0, "é", 0],
      [1, "€", 0],
      [2, "😀x", 0],
      [0, "\ufffd", 0],
      [1, "y", 0],
    ],
  );
});

Deno.test("an encoder grows for a large turn and is right for the next small one", () => {
  const encoder = new FrameEncoder<FrameTarget>();
  const large = Array.from({ length: 3000 }, (_, index) => frame(index % 3, "x".repeat(2000)));
  assert.equal(entriesOf(large, encoder).length, 3000);
  assert.deepEqual(entriesOf([frame(1, "small")], encoder), [[1, "small", 0]]);
});

Deno.test("utf8Length counts what TextEncoder makes", () => {
  const encoder = new TextEncoder();
  for (let seed = 1, round = 0; round < 2000; round++) {
    let text = "";
    for (let index = 0; index < 8; index++) {
      seed = (seed * 1103515245 + 12345) & 0x7fffffff;
      const range = [0x80, 0x800, 0x10000][seed % 3] as number;
      text += String.fromCharCode((seed >> 8) % range);
    }
    assert.equal(utf8Length(text), encoder.encode(text).length, JSON.stringify(text));
  }
});

Deno.test("the stream encodes a batch only when the sink is ready for it, since its arrays are used again", async () => {
  const stream = new SseEncoderStream<FrameTarget>();
  const seen: string[] = [];
  let release = noRelease;
  const sink = new WritableStream({
    async write(batch): Promise<void> {
      const text = () => new TextDecoder().decode(batch.data.subarray(0, batch.dataBytes));
      const before = text();
      await new Promise<void>((resolve) => release = resolve);
      assert.equal(text(), before, "the arrays changed while they were in use");
      seen.push(before);
    },
  }, { highWaterMark: 1 });
  const piped = stream.readable.pipeTo(sink);
  const writer = stream.writable.getWriter();
  const written = [1, 2, 3].map((id) => writer.write([frame(id, `batch ${id}`)]));
  for (let count = 0; count < 3; count++) {
    while (release === noRelease) await new Promise((resolve) => setTimeout(resolve, 0));
    const resume = release;
    release = noRelease;
    resume();
    while (seen.length <= count) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await Promise.all(written);
  await writer.close();
  await piped;
  assert.deepEqual(seen, ["batch 1", "batch 2", "batch 3"]);
});

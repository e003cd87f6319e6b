import assert from "node:assert/strict";
import { MOCK_PIECES, mockBackend, mockPieces } from "../../src/backend/mock.ts";
import type { BackendRequest } from "../../src/backend/backend.ts";
import { Deadlines } from "../../src/timing/timer_wheel.ts";
import { FakeTiming } from "../support/fake_timing.ts";

const request = (content: string): BackendRequest => ({
  requestId: "r",
  model: "m",
  messages: [{ role: "system", content: "unseen" }, { role: "user", content }],
});
const never = new AbortController().signal;

function fixture(): { timing: FakeTiming; backend: ReturnType<typeof mockBackend> } {
  const timing = new FakeTiming();
  return { timing, backend: mockBackend({ tokenDelayMs: 50, pauses: new Deadlines(1, timing) }) };
}

Deno.test("an answer greets, repeats the prompt's beginning, and ends with its mark, in 18 pieces", () => {
  const pieces = mockPieces(request("What is this?"));
  assert.equal(pieces.length, MOCK_PIECES);
  const text = pieces.join("");
  assert.match(text, /^Hello! You said: "What is this\?"\. /);
  assert.match(text, /streaming-daemon-ts.*\[DONE-CONTENT\]$/);
  assert(!text.includes("unseen"));
});

Deno.test("the prompt's beginning is cut between characters, not through one", () => {
  assert.match(mockPieces(request("😀".repeat(60)))[1] as string, /^You said: "(😀){50}"\. $/u);
});

Deno.test("the first piece comes at once, the others one delay apart, then the end", async () => {
  const { timing, backend } = fixture();
  const reader = backend.stream(request("x"), never).getReader();
  const pieces = [(await reader.read()).value];
  for (let count = 1; count < MOCK_PIECES; count++) {
    let arrived = false;
    const next = reader.read().then((result) => (arrived = true, result));
    await Promise.resolve();
    timing.advance(49);
    await new Promise((resolve) => setImmediate(resolve));
    assert(!arrived);
    timing.advance(1);
    pieces.push((await next).value);
  }
  assert.deepEqual(pieces, mockPieces(request("x")).map((text) => ({ kind: "text", text })));
  assert.equal((await reader.read()).done, true);
});

Deno.test("it makes nothing ahead of its reader", async () => {
  const { timing, backend } = fixture();
  const reader = backend.stream(request("x"), never).getReader();
  await reader.read();
  timing.advance(10_000);
  assert.equal(timing.pending, 0);
});

Deno.test("cancelling ends it and its pause", async () => {
  const { timing, backend } = fixture();
  const reader = backend.stream(request("x"), never).getReader();
  await reader.read();
  const next = reader.read();
  await new Promise((resolve) => setImmediate(resolve));
  await reader.cancel();
  assert.equal((await next).done, true);
  timing.advance(1000);
});

Deno.test("an abort ends it", async () => {
  const { timing, backend } = fixture();
  const abort = new AbortController();
  const reader = backend.stream(request("x"), abort.signal).getReader();
  await reader.read();
  const next = assert.rejects(reader.read(), { name: "AbortError" });
  await new Promise((resolve) => setImmediate(resolve));
  abort.abort();
  timing.advance(50);
  await next;
});

Deno.test("without a delay all comes as fast as it is read", async () => {
  const backend = mockBackend({ tokenDelayMs: 0, pauses: new Deadlines(1, new FakeTiming()) });
  const pieces = await Array.fromAsync(backend.stream(request("x"), never));
  assert.equal(pieces.length, MOCK_PIECES);
});

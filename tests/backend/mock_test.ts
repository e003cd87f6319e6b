import assert from "node:assert/strict";
import { MockBackend } from "../../src/backend/mock.ts";
import { TimerWheel } from "../../src/timing/timer_wheel.ts";
import { Heard, requestFor, turn } from "../support/answers.ts";
import { FakeRecipient } from "../support/fake_clients.ts";
import { FakeTiming } from "../support/fake_timing.ts";
import { mockPieces } from "../support/mock_answer.ts";

const PIECES = 18;

function fixture(tokenDelayMs = 50): { timing: FakeTiming; backend: MockBackend; heard: Heard } {
  const timing = new FakeTiming();
  const backend = new MockBackend({ tokenDelayMs, wheel: new TimerWheel(1, timing) });
  return { timing, backend, heard: new Heard(backend) };
}

/** The pieces of an answer without delay. */
async function piecesFor(prompt: string): Promise<string[]> {
  const { backend, heard } = fixture(0);
  backend.ask(requestFor(prompt), new FakeRecipient(1));
  await turn();
  return heard.texts(1);
}

Deno.test("an answer greets, repeats the prompt's beginning, and ends with its mark, in 18 pieces", async () => {
  const pieces = await piecesFor("What is this?");
  assert.equal(pieces.length, 18);
  const text = pieces.join("");
  assert.match(text, /^Hello! You said: "What is this\?"\. /);
  assert.match(text, /streaming-daemon-ts.*\[DONE-CONTENT\]$/);
  assert(!text.includes("unseen"));
});

Deno.test("the prompt's beginning is cut between characters, not through one", async () => {
  assert.match((await piecesFor("😀".repeat(60)))[1] as string, /^You said: "(😀){50}"\. $/u);
});

Deno.test("the first piece comes at once, the others one delay apart, the end with the last", async () => {
  const { timing, backend, heard } = fixture();
  backend.ask(requestFor("x"), new FakeRecipient(1));
  await turn();
  for (let count = 1; count < PIECES; count++) {
    assert.equal(heard.of(1).length, count);
    timing.advance(49);
    await turn();
    assert.equal(heard.of(1).length, count);
    timing.advance(1);
    await turn();
  }
  const pieces = mockPieces("x").map((text) => ({ kind: "text", text }));
  assert.deepEqual(heard.of(1), [...pieces, { kind: "end" }]);
  assert.equal(timing.pending, 0);
});

Deno.test("each answer has its own pace, and all are one stream", async () => {
  const { timing, backend, heard } = fixture();
  backend.ask(requestFor("x"), new FakeRecipient(1));
  timing.advance(20);
  backend.ask(requestFor("x"), new FakeRecipient(2));
  timing.advance(30);
  await turn();
  assert.deepEqual([heard.of(1).length, heard.of(2).length], [2, 1]);
  timing.advance(20);
  await turn();
  assert.deepEqual([heard.of(1).length, heard.of(2).length], [2, 2]);
});

Deno.test("it makes nothing while it is paused, holds nobody else up, and goes on where it was", async () => {
  const { timing, backend, heard } = fixture();
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  backend.ask(requestFor("x"), new FakeRecipient(2));
  answer.pause();
  timing.advance(50 * PIECES);
  await turn();
  assert.equal(heard.of(1).length, 1);
  assert.deepEqual(heard.of(2).at(-1), { kind: "end" });
  assert.equal(timing.pending, 0);
  answer.resume();
  timing.advance(50 * PIECES);
  await turn();
  assert.deepEqual(heard.of(1), heard.of(2));
});

Deno.test("pausing and resuming does not make it faster", async () => {
  const { timing, backend, heard } = fixture();
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  for (let count = 0; count < 5; count++) {
    answer.pause();
    answer.resume();
    answer.resume();
  }
  await turn();
  assert.equal(heard.of(1).length, 1);
  timing.advance(50);
  await turn();
  assert.equal(heard.of(1).length, 2);
});

Deno.test("cancelling ends it and its pause: nothing of it comes any more", async () => {
  const { timing, backend, heard } = fixture();
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  await turn();
  answer.cancel();
  assert.equal(timing.pending, 0);
  answer.cancel();
  answer.pause();
  answer.resume();
  timing.advance(10_000);
  await turn();
  assert.equal(heard.of(1).length, 1);
});

Deno.test("without a delay all comes at once, without a timer", async () => {
  const { backend, heard, timing } = fixture(0);
  backend.ask(requestFor("x"), new FakeRecipient(1));
  await turn();
  assert.equal(heard.texts(1).length, PIECES);
  assert.deepEqual(heard.of(1).at(-1), { kind: "end" });
  assert.equal(timing.started, 0);
});

Deno.test("closed, it lets answers under way end, however they do, and then its stream", async () => {
  const { timing, backend, heard } = fixture();
  backend.ask(requestFor("x"), new FakeRecipient(1));
  const cancelled = backend.ask(requestFor("x"), new FakeRecipient(2));
  let closed = false;
  const closing = backend.close().then(() => closed = true);
  cancelled.cancel();
  cancelled.cancel();
  timing.advance(50 * (PIECES - 2));
  await turn();
  assert(!closed);
  timing.advance(50);
  await closing;
  await heard.ended;
  assert.deepEqual(heard.of(1).at(-1), { kind: "end" });
});

Deno.test("closed without an answer under way, its stream ends at once", async () => {
  const { backend, heard } = fixture();
  await backend.close();
  await heard.ended;
});

import assert from "node:assert/strict";
import { BackendError, type StreamFailure } from "../../src/errors.ts";
import { failureOf, SseEncoder, SseEncoderStream, utf8Length } from "../../src/protocol/sse.ts";
import type { ClientEvent, EventBatch } from "../../src/protocol/stream_event.ts";
import { FakeRecipient } from "../support/fake_clients.ts";
import { until } from "../support/until.ts";
import {
  DONE_EVENT,
  errorEvent,
  plainResponse,
  STREAM_HEAD,
  streamHead,
  textEvent,
} from "../support/wire.ts";

type Step = readonly [FakeRecipient, string | ClientEvent];

function batch(...steps: Step[]): EventBatch {
  return {
    recipients: steps.map(([recipient]) => recipient),
    events: steps.map(([, event]) => typeof event === "string" ? { kind: "text", text: event } : event),
  };
}

/** Recipients whose heads were made already. */
function started(...ids: number[]): FakeRecipient[] {
  return ids.map((id) => Object.assign(new FakeRecipient(id), { headSent: true }));
}

/** What an encoder makes, as [client, text, flags] per entry. */
function entriesOf(encoder: SseEncoder, ...steps: Step[]): [number, string, number][] {
  const { entries, count, data, dataBytes, recipients } = encoder.encode(batch(...steps));
  assert.equal(recipients.length, count);
  return Array.from({ length: count }, (_, index) => {
    const [id, offset, length, flags] = entries.subarray(index * 4, index * 4 + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    assert.equal(recipients[index]?.id, id);
    assert(offset + length <= dataBytes);
    return [
      id,
      new TextDecoder("utf-8", { fatal: true }).decode(data.subarray(offset, offset + length)),
      flags,
    ];
  });
}

/** All that one client gets for these events, and the flags of its last entry. */
function said(recipient: FakeRecipient, ...events: (string | ClientEvent)[]): [string, number] {
  const [entry] = entriesOf(new SseEncoder(), ...events.map((event) => [recipient, event] as const));
  return entry === undefined ? ["", 0] : [entry[1], entry[2]];
}

const error = (kind: BackendError["kind"]): ClientEvent => ({
  kind: "error",
  error: new BackendError(kind, "for the log"),
});

Deno.test("the head comes with the first event that says the provider has accepted, and once", () => {
  const silent: ClientEvent[] = [
    { kind: "open" },
    { kind: "usage", inputTokens: 1, outputTokens: 2 },
    { kind: "finish", reason: "stop" },
  ];
  for (const event of silent) {
    const recipient = new FakeRecipient(1);
    assert.deepEqual(said(recipient, event), [STREAM_HEAD, 0]);
    assert.deepEqual(said(recipient, event), ["", 0]);
    assert.deepEqual(said(recipient, "a"), [textEvent("a"), 0]);
  }
  assert.deepEqual(said(new FakeRecipient(1), "a", "b"), [STREAM_HEAD + textEvent("a") + textEvent("b"), 0]);
});

Deno.test("alive says nothing to a client, and makes no head", () => {
  const recipient = new FakeRecipient(1);
  assert.deepEqual(said(recipient, { kind: "alive" }), ["", 0]);
  assert.equal(recipient.headSent, false);
  assert.deepEqual(recipient.noted, ["alive"]);
});

Deno.test("end is [DONE], with a head if there was none, and ends the connection", () => {
  assert.deepEqual(said(new FakeRecipient(1), { kind: "end" }), [STREAM_HEAD + DONE_EVENT, 1]);
  assert.deepEqual(said(new FakeRecipient(1), "a", { kind: "end" }), [
    STREAM_HEAD + textEvent("a") + DONE_EVENT,
    1,
  ]);
});

Deno.test("an error before the head is a response with a status, after it an event; both end the connection", () => {
  assert.deepEqual(said(new FakeRecipient(1), error("unavailable")), [
    plainResponse(502, "Backend unavailable"),
    1,
  ]);
  assert.deepEqual(said(new FakeRecipient(1), error("timeout")), [plainResponse(504, "Backend timeout"), 1]);
  assert.deepEqual(said(new FakeRecipient(1), "a", error("truncated")), [
    STREAM_HEAD + textEvent("a") + errorEvent("Backend error"),
    1,
  ]);
  assert.deepEqual(said(...[started(1)[0] as FakeRecipient], error("timeout")), [
    errorEvent("Backend timeout"),
    1,
  ]);
});

Deno.test("a cut before the head is a response with a status, after it an event; both end the connection", () => {
  const unavailable = [502, "Backend unavailable"] as const;
  const told: Record<StreamFailure, readonly [text: string, status: 502 | 503 | 504, line: string]> = {
    client_disconnected: ["Client disconnected", ...unavailable],
    write_timeout: ["Write timeout", ...unavailable],
    backend_timeout: ["Backend timeout", 504, "Backend timeout"],
    backend_error: ["Backend error", ...unavailable],
    backend_busy: ["Backend is busy", 503, "Backend is busy"],
    max_stream: ["The answer took longer than is allowed", 504, "The answer took longer than is allowed"],
    stopped: ["Stopped", ...unavailable],
    shutdown: ["Server is shutting down", 503, "Server is shutting down"],
    other: ["Internal error", ...unavailable],
  };
  for (const [failure, [text, status, line]] of Object.entries(told)) {
    const cut: ClientEvent = { kind: "cut", failure: failure as StreamFailure };
    assert.deepEqual(said(new FakeRecipient(1), cut), [plainResponse(status, line), 1]);
    assert.deepEqual(said(started(1)[0] as FakeRecipient, cut), [errorEvent(text), 1]);
  }
});

Deno.test("further lines of the head are in the stream's, or in the failure's that comes in its place, once", () => {
  const asking = (): FakeRecipient => Object.assign(new FakeRecipient(1), { headers: "X-A: 1\r\n" });
  const recipient = asking();
  assert.deepEqual(said(recipient, "a"), [streamHead("X-A: 1\r\n") + textEvent("a"), 0]);
  assert.equal(recipient.headers, "");
  assert.deepEqual(said(recipient, error("timeout")), [errorEvent("Backend timeout"), 1]);
  for (
    const [failure, status, line] of [
      ["shutdown", 503, "Server is shutting down"],
      ["backend_timeout", 504, "Backend timeout"],
      ["backend_error", 502, "Backend unavailable"],
    ] as const
  ) {
    assert.deepEqual(said(asking(), { kind: "cut", failure }), [
      plainResponse(status, line, "X-A: 1\r\n"),
      1,
    ]);
  }
});

Deno.test("a heartbeat is a comment, with a head if there was none", () => {
  const recipient = new FakeRecipient(1);
  assert.deepEqual(said(recipient, { kind: "heartbeat" }), [`${STREAM_HEAD}:\n\n`, 0]);
  assert.deepEqual(said(recipient, { kind: "heartbeat" }), [":\n\n", 0]);
  assert.deepEqual(said(recipient, error("other")), [errorEvent("Backend error"), 1]);
});

Deno.test("a refusal is a whole response, and ends the connection", () => {
  assert.deepEqual(said(new FakeRecipient(1), { kind: "refusal", status: 413, line: "Too long" }), [
    plainResponse(413, "Too long"),
    1,
  ]);
});

Deno.test("a backend's time-out is one of the stream, all else its error", () => {
  assert.deepEqual([failureOf("timeout"), failureOf("auth"), failureOf("other")], [
    "backend_timeout",
    "backend_error",
    "backend_error",
  ]);
});

Deno.test("what a client does not want any more is not encoded", () => {
  const [a, b] = started(1, 2) as [FakeRecipient, FakeRecipient];
  a.wants = false;
  assert.deepEqual(entriesOf(new SseEncoder(), [a, "secret"], [b, "x"], [a, { kind: "end" }]), [
    [2, textEvent("x"), 0],
  ]);
  assert.deepEqual(a.noted, ["text", "end"]);
  assert.equal(a.frameEnds, false);
});

Deno.test("each client has one entry, with all that a batch has for it in order", () => {
  const [a, b] = started(1, 2) as [FakeRecipient, FakeRecipient];
  const encoder = new SseEncoder();
  assert.deepEqual(entriesOf(encoder, [a, "one"], [b, "two"], [a, "three"]), [
    [1, textEvent("one") + textEvent("three"), 0],
    [2, textEvent("two"), 0],
  ]);
  assert.deepEqual(entriesOf(encoder, [b, "four"], [a, "five"]), [
    [2, textEvent("four"), 0],
    [1, textEvent("five"), 0],
  ]);
});

Deno.test("the last entry of a client says so", () => {
  const [a, b] = started(1, 2) as [FakeRecipient, FakeRecipient];
  assert.deepEqual(entriesOf(new SseEncoder(), [a, "a"], [b, { kind: "end" }]), [
    [1, textEvent("a"), 0],
    [2, DONE_EVENT, 1],
  ]);
});

Deno.test("offsets are right where text is not ASCII", () => {
  const recipients = started(0, 1, 2, 3, 4);
  const texts = ["é", "€", "😀x", "\ud83d", "y"];
  assert.deepEqual(
    entriesOf(new SseEncoder(), ...recipients.map((each, index) => [each, texts[index] as string] as const)),
    texts.map((text, index) => [index, textEvent(text), 0]),
  );
});

Deno.test("a refusal's line with half of a surrogate pair moves nobody else's bytes", () => {
  const [a, b] = [new FakeRecipient(1), started(2)[0] as FakeRecipient];
  const entries = entriesOf(new SseEncoder(), [a, { kind: "refusal", status: 400, line: "\ud83d" }], [
    b,
    "x",
  ]);
  assert(entries[0]?.[1].endsWith("\r\n\r\n\ufffd\n"));
  assert.deepEqual(entries[1], [2, textEvent("x"), 0]);
});

Deno.test("an encoder grows for a large turn and is right for the next small one", () => {
  // 256 have room from the start.
  const some = started(...Array.from({ length: 300 }, (_, id) => id));
  assert.deepEqual(
    entriesOf(new SseEncoder(), ...some.map((each) => [each, "a"] as const)),
    some.map(({ id }) => [id, textEvent("a"), 0]),
  );
  const encoder = new SseEncoder();
  const many = started(...Array.from({ length: 3000 }, (_, id) => id));
  const text = "x".repeat(2000);
  assert.deepEqual(
    entriesOf(encoder, ...many.map((each) => [each, text] as const)),
    many.map(({ id }) => [id, textEvent(text), 0]),
  );
  const small = [many[1] as FakeRecipient, "small"] as const;
  assert.deepEqual(entriesOf(encoder, small), [[1, textEvent("small"), 0]]);
  const { length } = encoder.encode(batch(small)).data;
  assert(length <= 1024 * 1024, `${length} bytes are kept`);
});

Deno.test("a turn's text finds room, whatever letters it is of", () => {
  for (const letter of ["x", "é", "€", "😀"]) {
    const [recipient] = started(7) as [FakeRecipient];
    const text = letter.repeat(60_000);
    assert.deepEqual(entriesOf(new SseEncoder(), [recipient, text]), [[7, textEvent(text), 0]]);
  }
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
  const stream = new SseEncoderStream();
  const seen: string[] = [];
  const [recipient] = started(1) as [FakeRecipient];
  const noRelease = (): void => {};
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
  const written = [1, 2, 3].map((number) => writer.write(batch([recipient, `batch ${number}`])));
  for (let count = 0; count < 3; count++) {
    await until("a batch at the sink", () => release !== noRelease);
    assert.equal(recipient.noted.length, count + 1, "encoded ahead of the sink");
    const resume = release;
    release = noRelease;
    resume();
    await until("the batch's end", () => seen.length > count);
  }
  await Promise.all(written);
  await writer.close();
  await piped;
  assert.deepEqual(seen, [1, 2, 3].map((number) => textEvent(`batch ${number}`)));
});

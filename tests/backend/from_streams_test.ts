import assert from "node:assert/strict";
import type { Backend, BackendRequest, StreamEvent } from "../../src/backend/backend.ts";
import { fromStreams, type StreamSource } from "../../src/backend/from_streams.ts";
import { BackendError } from "../../src/errors.ts";
import { Heard, requestFor, turn } from "../support/answers.ts";
import { FakeRecipient } from "../support/fake_clients.ts";

/** One request to the source, whose stream a test speaks for. */
class Asked {
  pulls = 0;
  cancelled: unknown;
  readonly readable: ReadableStream<StreamEvent>;
  controller!: ReadableStreamDefaultController<StreamEvent>;

  constructor(readonly request: BackendRequest, readonly signal: AbortSignal) {
    this.readable = new ReadableStream({
      start: (controller) => void (this.controller = controller),
      pull: () => void this.pulls++,
      cancel: (reason) => void (this.cancelled = reason),
    }, { highWaterMark: 0 });
  }

  emit(...events: (string | StreamEvent)[]): void {
    for (const event of events) {
      this.controller.enqueue(typeof event === "string" ? { kind: "text", text: event } : event);
    }
  }
}

/** A backend over a source; without a function of its own the streams are the test's. */
function fixture(stream?: StreamSource["stream"]): {
  backend: Backend;
  heard: Heard;
  asked: Asked[];
  closes: () => number;
} {
  const asked: Asked[] = [];
  let closes = 0;
  const backend = fromStreams({
    name: "simple",
    stream: stream ?? ((request, signal) => {
      const one = new Asked(request, signal);
      asked.push(one);
      return one.readable;
    }),
    close: () => {
      closes++;
      return Promise.resolve();
    },
  });
  return { backend, heard: new Heard(backend), asked, closes: () => closes };
}

/** Gives an event for ever, whenever it is asked for one. */
function endless(event: StreamEvent): { stream: StreamSource["stream"]; given: () => number } {
  let given = 0;
  return {
    stream: () =>
      new ReadableStream({
        pull: (controller) => {
          given++;
          controller.enqueue(event);
        },
      }, { highWaterMark: 0 }),
    given: () => given,
  };
}

const kinds = (events: readonly { kind: string }[]): string[] => events.map(({ kind }) => kind);

Deno.test("a stream's events are its recipient's, its close is the end", async () => {
  const { backend, heard, asked } = fixture();
  const request = requestFor("x");
  backend.ask(request, new FakeRecipient(1));
  backend.ask(request, new FakeRecipient(2));
  assert.equal(asked[0]?.request, request);
  asked[0]?.emit({ kind: "open" }, "a");
  asked[1]?.emit("other");
  asked[0]?.emit({ kind: "finish", reason: "stop" });
  asked[0]?.controller.close();
  await turn();
  assert.deepEqual(heard.of(1), [
    { kind: "open" },
    { kind: "text", text: "a" },
    { kind: "finish", reason: "stop" },
    { kind: "end" },
  ]);
  assert.deepEqual(heard.of(2), [{ kind: "text", text: "other" }]);
  assert.deepEqual([backend.name, asked[0]?.signal.aborted, asked[0]?.cancelled], [
    "simple",
    false,
    undefined,
  ]);
  asked[1]?.controller.close();
});

Deno.test("a stream's error is the answer's: a BackendError as it is, anything else of kind other", async () => {
  const { backend, heard, asked } = fixture();
  const failure = new BackendError("rate_limited", "later");
  const bug = new TypeError("a bug");
  for (const [index, error] of [failure, bug, "a string"].entries()) {
    backend.ask(requestFor("x"), new FakeRecipient(index));
    asked[index]?.controller.error(error);
  }
  await turn();
  const errors = [0, 1, 2].map((id) => {
    const [event, ...more] = heard.of(id);
    assert(event?.kind === "error" && more.length === 0);
    return event.error;
  });
  assert.equal(errors[0], failure);
  assert.deepEqual(
    errors.slice(1).map(({ name, kind, message, cause }) => ({ name, kind, message, cause })),
    [
      { name: "BackendError", kind: "other", message: "a bug", cause: bug },
      { name: "BackendError", kind: "other", message: "a string", cause: "a string" },
    ],
  );
});

Deno.test("a source that throws fails that answer alone", async () => {
  let broken = true;
  const { backend, heard } = fixture(() => {
    if (broken) throw new BackendError("unavailable", "no");
    return ReadableStream.from<StreamEvent>([{ kind: "text", text: "a" }]);
  });
  backend.ask(requestFor("x"), new FakeRecipient(1));
  broken = false;
  backend.ask(requestFor("x"), new FakeRecipient(2));
  await turn();
  assert.deepEqual([kinds(heard.of(1)), kinds(heard.of(2))], [["error"], ["text", "end"]]);
});

for (
  const last of [
    { kind: "end" },
    { kind: "error", error: new BackendError("stream_error", "no") },
  ] as const
) {
  Deno.test(`an event ${last.kind} is the last one: what follows is not passed on, and the stream is cancelled`, async () => {
    const { backend, heard, asked } = fixture();
    backend.ask(requestFor("x"), new FakeRecipient(1));
    asked[0]?.emit("a", last, "never");
    await turn();
    assert.deepEqual(heard.of(1), [{ kind: "text", text: "a" }, last]);
    assert.notEqual(asked[0]?.cancelled, undefined);
    await backend.close(); // nothing is under way
    await heard.ended;
  });
}

Deno.test("while it is paused its stream is read no further; resumed, it goes on where it was", async () => {
  const { backend, heard, asked } = fixture();
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  backend.ask(requestFor("x"), new FakeRecipient(2));
  const [stream, other] = asked as [Asked, Asked];
  await turn();
  answer.pause();
  answer.pause();
  const pulls = stream.pulls;
  stream.emit("a", "b", "c");
  other.emit("x");
  await turn();
  assert.deepEqual([heard.texts(1), heard.texts(2)], [[], ["x"]]);
  assert.equal(stream.pulls, pulls);
  answer.resume();
  answer.resume();
  await turn();
  assert.deepEqual(heard.texts(1), ["a", "b", "c"]);
  assert.equal(stream.pulls, pulls + 1);
  answer.cancel();
  other.controller.close();
});

Deno.test("an end or an error that comes while it is paused is not lost", async () => {
  const { backend, heard, asked } = fixture();
  const answers = [0, 1, 2].map((id) => backend.ask(requestFor("x"), new FakeRecipient(id)));
  for (const answer of answers) answer.pause();
  asked[0]?.emit("a");
  asked[0]?.controller.error(new Error("broken"));
  asked[1]?.controller.error(new Error("broken"));
  asked[2]?.controller.close();
  await turn();
  for (const answer of answers) answer.resume();
  await turn();
  assert.deepEqual(kinds(heard.of(0)), ["text", "error"]);
  assert.deepEqual(kinds(heard.of(1)), ["error"]);
  assert.deepEqual(kinds(heard.of(2)), ["end"]);
});

Deno.test("cancelled, its signal aborts, its stream is cancelled, and nothing of it comes any more", async () => {
  const { backend, heard, asked } = fixture();
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  const [stream] = asked as [Asked];
  stream.emit("a");
  await turn();
  stream.emit("b");
  answer.cancel();
  assert.equal(stream.signal.aborted, true);
  assert.equal((stream.signal.reason as Error).name, "AbortError");
  assert.equal(stream.cancelled, stream.signal.reason);
  await turn();
  assert.deepEqual(heard.of(1), [{ kind: "text", text: "a" }]);
});

Deno.test("cancelled before it has a stream, it ends, though the source goes on for ever or gives one later", async () => {
  const given = Promise.withResolvers<ReadableStream<StreamEvent>>();
  for (const stream of [() => new Promise<never>(() => {}), () => given.promise]) {
    const { backend, heard } = fixture(stream);
    backend.ask(requestFor("x"), new FakeRecipient(1)).cancel();
    await backend.close();
    await heard.ended;
    assert.deepEqual(heard.of(1), []);
  }
  const cancelled = Promise.withResolvers<unknown>();
  given.resolve(new ReadableStream({ cancel: cancelled.resolve }));
  await cancelled.promise;
});

Deno.test("cancelled while it is paused, it ends as well", async () => {
  const { backend, heard, asked } = fixture();
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  answer.pause();
  asked[0]?.emit("a");
  await turn();
  answer.cancel();
  await backend.close();
  await heard.ended;
  assert.deepEqual(heard.of(1), []);
});

Deno.test("a stream that fails because it was cancelled, or in its cancellation, is nobody's error", async () => {
  const { backend, heard } = fixture((_request, signal) => {
    return new ReadableStream({
      start: (controller) => signal.addEventListener("abort", () => controller.error(signal.reason)),
      cancel: () => Promise.reject(new Error("cannot be cancelled")),
    });
  });
  const untouched = fromStreams({
    name: "untouched",
    stream: () => new ReadableStream({ cancel: () => Promise.reject(new Error("cannot be cancelled")) }),
    close: () => Promise.resolve(),
  });
  backend.ask(requestFor("x"), new FakeRecipient(1)).cancel();
  untouched.ask(requestFor("x"), new FakeRecipient(1)).cancel();
  await Promise.all([backend.close(), untouched.close()]);
  await heard.ended;
  assert.deepEqual(heard.of(1), []);
});

const ENDLESS: readonly (readonly [string, StreamEvent])[] = [
  ["long texts", { kind: "text", text: "x".repeat(1000) }],
  ["single letters", { kind: "text", text: "x" }],
  ["empty texts", { kind: "text", text: "" }],
  ["signs of life", { kind: "alive" }],
];
for (const [name, event] of ENDLESS) {
  Deno.test(`a source that always has more, ${name}, leaves the event loop its turns`, async () => {
    const { stream, given } = endless(event);
    const { backend, heard } = fixture((request, signal) =>
      request.messages[1]?.content === "endless"
        ? stream(request, signal)
        : ReadableStream.from<StreamEvent>([{ kind: "text", text: "modest" }])
    );
    const answer = backend.ask(requestFor("endless"), new FakeRecipient(1));
    backend.ask(requestFor("x"), new FakeRecipient(2));
    // A share of 16 Ki units, or 512 events, at a time; two, where a loaded machine is late for this test's look.
    for (let before = 0, shares = 0; shares < 5;) {
      await turn();
      const more = given() - before;
      if (more === 0) continue;
      before = given();
      shares++;
      assert(more <= 2 * 512, `${more} events in a turn`);
      if (event.kind === "text") {
        assert(more * event.text.length <= 2 * 17_000, `${more} long events in a turn`);
      }
      assert.deepEqual(kinds(heard.of(2)), ["text", "end"]);
    }
    answer.cancel();
    await backend.close();
    await heard.ended;
  });
}

Deno.test("a source that always has more of what nobody is to have leaves the event loop its turns as well", async () => {
  let given = 0;
  const backend = fromStreams({
    name: "simple",
    stream: () =>
      new ReadableStream({
        pull: (controller) => {
          // An end, so that a failure of this test is one.
          if (++given > 10_000) controller.close();
          else controller.enqueue({ kind: "alive" });
        },
      }, { highWaterMark: 0 }),
    vet: () => () => undefined,
    close: () => Promise.resolve(),
  });
  const heard = new Heard(backend);
  const answer = backend.ask(requestFor("x"), new FakeRecipient(1));
  await turn();
  assert(given <= 2 * 512 + 1, `${given} in a turn`);
  answer.cancel();
  await backend.close();
  await heard.ended;
});

Deno.test("what a source throws may be anything, also what is no text: it is that answer's failure and nobody's else", async () => {
  const bare: unknown = Object.create(null);
  for (
    const stream of [() => Promise.reject(bare), () => {
      throw bare;
    }]
  ) {
    const { backend, heard } = fixture(stream);
    backend.ask(requestFor("x"), new FakeRecipient(1));
    await turn();
    assert.deepEqual(kinds(heard.of(1)), ["error"]);
    await backend.close();
    await heard.ended;
  }
});

Deno.test("closed, it lets answers under way end, then closes the source, then its stream", async () => {
  const { backend, heard, asked, closes } = fixture();
  backend.ask(requestFor("x"), new FakeRecipient(1));
  const closing = backend.close();
  await turn();
  assert.equal(closes(), 0);
  asked[0]?.emit("a");
  asked[0]?.controller.close();
  await closing;
  await heard.ended;
  assert.equal(closes(), 1);
  assert.deepEqual(kinds(heard.of(1)), ["text", "end"]);
});

Deno.test("a source's figures are the backend's; without any there are none", () => {
  const stats = {
    connections: 1,
    streams: 2,
    waiting: 3,
    opened: 4,
    failedDials: 5,
    retries: 6,
    cancelled: 7,
  };
  const source: StreamSource = {
    name: "x",
    stream: () => new ReadableStream(),
    close: () => Promise.resolve(),
  };
  assert.deepEqual(fromStreams({ ...source, stats: () => stats }).stats?.(), stats);
  assert.equal(fromStreams(source).stats?.(), undefined);
});

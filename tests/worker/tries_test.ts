/** Fallback: where a backend fails before its first event, the next is asked. Time-out of the whole 5000 ms. */
import assert from "node:assert/strict";
import type { BackendFailure } from "../../src/errors.ts";
import type { Tracing } from "../../src/ops/tracing.ts";
import { turn } from "../support/answers.ts";
import {
  DONE,
  failed,
  type FakeWorker,
  fakeWorker,
  only,
  type ScriptedAnswer,
  ScriptedBackend,
  text,
} from "../support/connections.ts";
import { HEARTBEAT, plainResponse, STREAM_HEAD } from "../support/wire.ts";

const UNAVAILABLE = plainResponse(502, "Backend unavailable");
const AFTER_MS = 1000;
const TICK_MS = 3;

interface Fixture extends FakeWorker {
  readonly b: ScriptedBackend;
  readonly c: ScriptedBackend;
}

function worker(changes: Parameters<typeof fakeWorker>[0] = {}): Fixture {
  const [b, c] = [new ScriptedBackend("b"), new ScriptedBackend("c")];
  const made = fakeWorker({
    config: { fallback: ["b", "c"], fallbackAfterMs: AFTER_MS },
    others: [
      { backend: b, defaultModel: "model-b", fallbackAfterMs: AFTER_MS, requestMembers: ["seed"] },
      { backend: c, defaultModel: "model-c", models: ["c-"], requestMembers: [] },
    ],
    ...changes,
  });
  return { ...made, b, c };
}

const last = ({ answers }: ScriptedBackend): ScriptedAnswer => answers.at(-1) as ScriptedAnswer;

Deno.test("fallback: the next one answers, and the client sees nothing of the first", async () => {
  const { ask, b, calls, lines, held } = worker();
  const [client, answer] = await ask();
  answer.fail("unavailable", "no route");
  await turn();
  assert.equal(client.received, "");
  assert.equal(held.bytes, 2);
  last(b).emit("a");
  last(b).end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + DONE);
  assert.equal(held.bytes, 0);
  assert.deepEqual(
    only(calls, "backendRequest", "backendError", "backendFirstEvent", "backendDone", "streamEnded"),
    [
      ["backendRequest", "scripted"],
      ["backendError", "scripted", "unavailable"],
      ["backendRequest", "b"],
      ["backendFirstEvent"],
      ["backendDone"],
      ["streamEnded"],
    ],
  );
  assert.deepEqual(
    lines.map(({ message, fields: { backend, model, fallback } }) => [message, backend, model, fallback]),
    [
      ["Backend failed", "scripted", undefined, "b"],
      ["Stream complete", "b", "model-b", undefined],
    ],
  );
});

Deno.test("fallback: which failures it is for", async () => {
  const kinds: readonly [BackendFailure, boolean][] = [
    ["unavailable", true],
    ["timeout", true],
    ["rate_limited", true],
    ["server_error", true],
    ["malformed", true],
    ["truncated", true],
    ["stream_error", true],
    ["other", true],
    ["auth", false],
    ["not_found", false],
    ["bad_request", false],
  ];
  for (const [kind, falls] of kinds) {
    const { ask, b } = worker();
    const [client, answer] = await ask();
    answer.emit({ kind: "open" }, { kind: "alive" }); // accepted, and then this
    answer.fail(kind);
    await turn();
    assert.deepEqual(
      [b.answers.length, client.received === UNAVAILABLE],
      falls ? [1, false] : [0, true],
      kind,
    );
  }
});

Deno.test("fallback: the failure of the last one is the client's, each counted under its own name", async () => {
  const { ask, b, c, calls, lines } = worker();
  const [client, answer] = await ask();
  answer.fail("server_error");
  await turn();
  last(b).fail("rate_limited");
  await turn();
  assert.equal(client.received, "");
  last(c).fail("timeout");
  await turn();
  assert.equal(client.received, plainResponse(504, "Backend timeout"));
  assert.equal(client.closed, "in order");
  assert.deepEqual(only(calls, "backendError", "streamEnded"), [
    ["backendError", "scripted", "server_error"],
    ["backendError", "b", "rate_limited"],
    ["backendError", "c", "timeout"],
    ["streamEnded", "backend_timeout"],
  ]);
  assert.deepEqual(lines.map(({ fields }) => fields["fallback"]), ["b", "c", undefined, undefined]);
});

Deno.test("fallback: never after the first event, whatever it is", async () => {
  for (
    const first of [
      { kind: "text", text: "a" },
      { kind: "finish", reason: "stop" },
      { kind: "reasoning", text: "a" },
    ] as const
  ) {
    const { ask, b, timing } = worker();
    const [client, answer] = await ask();
    answer.emit(first);
    await turn();
    timing.advance(AFTER_MS + TICK_MS);
    answer.fail("truncated");
    await turn();
    const given = first.kind === "text" ? text("a") : "";
    assert.deepEqual([b.answers.length, client.received], [0, STREAM_HEAD + given + failed("Backend error")]);
  }
});

Deno.test("fallback: that a provider has accepted, and counts tokens, is no answer yet", async () => {
  const { ask, b } = worker();
  const [client, answer] = await ask();
  answer.emit({ kind: "open" });
  answer.emit({ kind: "usage", inputTokens: 1, outputTokens: 1 });
  answer.fail("server_error");
  await turn();
  last(b).emit({ kind: "text", text: "b" });
  last(b).emit({ kind: "end" });
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("b") + "data: [DONE]\n\n");
});

Deno.test("fallback: one that gives nothing in time is cancelled, and what it still gives reaches nobody", async () => {
  const { ask, b, timing, calls, lines } = worker();
  const [client, answer] = await ask();
  answer.emit({ kind: "open" });
  await turn();
  timing.advance(AFTER_MS - TICK_MS);
  await turn();
  assert.deepEqual([answer.told, b.answers.length], [[], 0]);
  answer.emit({ kind: "alive" }); // puts nothing off
  timing.advance(2 * TICK_MS);
  answer.emit("late");
  await turn();
  answer.end();
  await turn();
  assert.deepEqual([answer.told, b.answers.length, client.received], [["cancel"], 1, ""]);
  last(b).emit("a");
  answer.emit("later");
  await turn();
  last(b).end();
  answer.fail("other");
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + DONE);
  assert.deepEqual(only(calls, "backendError"), [["backendError", "scripted", "timeout"]]);
  assert.match(String(lines[0]?.fields["error"]), /nothing came for 1000 ms/);
  assert.equal(timing.pending, 0);
});

Deno.test("fallback: the last one has what is left of the whole time, and no first piece to hurry for", async () => {
  const { ask, b, c, timing } = worker();
  const [client, answer] = await ask();
  timing.advance(AFTER_MS + TICK_MS);
  await turn();
  timing.advance(AFTER_MS + TICK_MS);
  await turn();
  assert.deepEqual([answer.told, last(b).told, c.answers.length], [["cancel"], ["cancel"], 1]);
  timing.advance(5000 - 2 * (AFTER_MS + TICK_MS) - TICK_MS);
  await turn();
  assert.deepEqual([client.received, last(c).told], ["", []]);
  timing.advance(2 * TICK_MS);
  await turn();
  assert.deepEqual([client.received, last(c).told], [plainResponse(504, "Backend timeout"), ["cancel"]]);
  assert.equal(timing.pending, 0);
});

Deno.test("fallback: the last one's head goes out as soon as it has accepted", async () => {
  const { ask, b, c } = worker();
  const [client, answer] = await ask();
  for (const each of [answer, b, c]) {
    const present = each instanceof ScriptedBackend ? last(each) : each;
    present.emit({ kind: "open" });
    await turn();
    assert.equal(client.received, each === c ? STREAM_HEAD : "");
    present.fail("unavailable");
    await turn();
  }
  assert.equal(client.received, STREAM_HEAD + failed("Backend error"));
});

Deno.test("fallback: signs of life go on meanwhile, and put nothing off", async () => {
  const { ask, b, c, timing } = worker({ heartbeatMs: 700 });
  const [client, answer] = await ask();
  for (let passedMs = 0; passedMs < 2 * AFTER_MS + 10; passedMs += 10) {
    timing.advance(10);
    await turn();
  }
  assert.deepEqual([answer.told, last(b).told, c.answers.length], [["cancel"], ["cancel"], 1]);
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(2));
  last(c).emit("a");
  last(c).end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + HEARTBEAT.repeat(2) + text("a") + DONE);
});

Deno.test("fallback: the whole time is that of the first, with signs of life as well", async () => {
  const b = new ScriptedBackend("b");
  const { ask, timing } = fakeWorker({
    heartbeatMs: 1.5 * AFTER_MS,
    config: { fallback: ["b"], fallbackAfterMs: AFTER_MS },
    others: [{ backend: b, timeoutMs: 60_000 }],
  });
  const [client] = await ask();
  for (let passedMs = 0; passedMs < 5000 + 10; passedMs += 10) {
    timing.advance(10);
    await turn();
  }
  assert.match(client.received, /:\n\ndata: {"error":"Backend timeout"}\n\n$/);
  assert.deepEqual(last(b).told, ["cancel"]);
});

Deno.test("fallback: another backend gets its own model, unless it has the handoff's, and the members that it takes", async () => {
  for (
    const [model, models] of [
      ["m", ["m", "model-b", "model-c"]],
      ["c-1", ["c-1", "model-b", "c-1"]],
    ] as const
  ) {
    const { open, backend, b, c } = worker({
      rules: {
        model: "d",
        members: ["seed", "stop"],
        format: "content",
        include: [],
        makeRequestId: () => "made-id",
      },
    });
    await open({ model, request: { seed: 1, stop: "x" }, user_id: 7 });
    last(backend).fail("unavailable");
    await turn();
    last(b).fail("unavailable");
    await turn();
    const requests = [backend, b, c].map((each) => last(each).request);
    assert.deepEqual(requests.map((each) => each.model), models);
    assert.deepEqual(requests.map(({ members }) => members), [
      { seed: 1, stop: "x" },
      { seed: 1 },
      undefined,
    ]);
    assert.deepEqual(
      requests.map(({ userId, requestId }) => [userId, requestId]),
      Array(3).fill(["7", "made-id"]),
    );
  }
});

Deno.test("fallback: the chunks that are made of another backend's answer name its model", async () => {
  const { open, backend, b } = worker();
  const client = await open({ format: "openai" });
  last(backend).fail("unavailable");
  await turn();
  last(b).emit("a");
  await turn();
  assert.match(client.received, /"model":"model-b"/);
});

Deno.test("fallback: a trace begins with its handoff, that of another try with the try", async () => {
  const beginsMs: number[] = [];
  const trace = new Proxy({}, { get: () => () => {} });
  const tracing = {
    begin: (_request: unknown, _provider: unknown, startedMs: number) => {
      beginsMs.push(startedMs);
      return trace;
    },
  } as unknown as Tracing;
  const { ask, timing } = worker({ tracing });
  const startedMs = timing.now();
  const [, answer] = await ask();
  answer.fail("unavailable");
  const failedMs = performance.now(); // a span's clock
  await turn();
  const [first = NaN, second = NaN] = beginsMs;
  assert.deepEqual([beginsMs.length, first, second >= failedMs], [2, startedMs, true]);
});

Deno.test("fallback: a client that leaves, or a daemon that stops, ends it at any try", async () => {
  for (const tries of [1, 2]) {
    for (const end of ["gone", "shutDown"] as const) {
      const { ask, b, c, timing, connections, held } = worker();
      const [client, answer] = await ask();
      if (tries === 2) answer.fail("unavailable");
      await turn();
      const present = tries === 2 ? last(b) : answer;
      if (end === "gone") client.owner?.gone(0);
      else connections.shutDown();
      await turn();
      assert.deepEqual([present.told, held.bytes], [["cancel"], 0]);
      present.fail("unavailable");
      await turn();
      timing.advance(10_000);
      await turn();
      assert.equal(b.answers.length + c.answers.length, tries - 1);
      assert.deepEqual([connections.size, timing.pending], [0, 0]);
    }
  }
});

Deno.test("fallback: a full client pauses whichever backend answers", async () => {
  const { ask, b } = worker({ heartbeatMs: 100 });
  const [client, answer] = await ask({ room: STREAM_HEAD.length + 3 });
  answer.fail("unavailable");
  await turn();
  last(b).emit("a");
  await turn();
  assert.deepEqual(last(b).told, ["pause"]);
  client.drain(1000);
  await turn();
  assert.deepEqual(last(b).told, ["pause", "resume"]);
  last(b).end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + text("a") + DONE);
});

Deno.test("fallback: what a full client paused goes on with the next one, once it is drained", async () => {
  const { ask, b, timing } = worker({ heartbeatMs: 100 });
  const [client, answer] = await ask({ room: 3 });
  timing.advance(110);
  await turn();
  client.drain(1000);
  await turn();
  assert.deepEqual(answer.told, ["pause", "resume"]);
  answer.fail("unavailable");
  await turn();
  assert.deepEqual(last(b).told, []);
});

Deno.test("fallback: a backend that throws has failed", async () => {
  const thrower = new ScriptedBackend("b");
  thrower.ask = () => {
    throw new Error("a bug");
  };
  const c = new ScriptedBackend("c");
  const { ask, calls } = fakeWorker({
    config: { fallback: ["b", "gone", "c"] },
    others: [{ backend: thrower }, { backend: c }],
  });
  const [client, answer] = await ask();
  answer.fail("unavailable");
  await turn();
  last(c).end();
  await turn();
  assert.equal(client.received, STREAM_HEAD + DONE);
  assert.deepEqual(only(calls, "backendError"), [
    ["backendError", "scripted", "unavailable"],
    ["backendError", "b", "other"],
  ]);
});

Deno.test("fallback: where a reload has taken the others away, the failure is the client's", async () => {
  const { ask, calls } = fakeWorker({ config: { fallback: ["gone"], fallbackAfterMs: AFTER_MS } });
  const [client, answer] = await ask();
  answer.fail("unavailable");
  await turn();
  assert.equal(client.received, UNAVAILABLE);
  assert.equal(only(calls, "backendError").length, 1);
});

Deno.test("fallback: where a reload has taken the others away, a slow one's first word that it answers is the client's", async () => {
  const { ask, timing } = fakeWorker({ config: { fallback: ["gone"], fallbackAfterMs: AFTER_MS } });
  const [client, answer] = await ask();
  timing.advance(AFTER_MS + TICK_MS);
  answer.emit({ kind: "open" });
  await turn();
  assert.equal(client.received, STREAM_HEAD);
});

Deno.test("a backend that a reload has taken away between the choice and the question: 503, and no other is asked", async () => {
  const { open, backend, calls, connections, held } = fakeWorker({
    rules: {
      model: "d",
      members: [],
      format: "content",
      include: [],
      makeRequestId: () => "made-id",
      backends: [{ name: "gone", model: "m", members: [], models: [], selectable: true }],
    },
  });
  const client = await open({ backend: "gone" });
  assert.equal(client.received, plainResponse(503, "Backend is busy"));
  assert.deepEqual([backend.answers.length, connections.size, held.bytes], [0, 0, 0]);
  assert.deepEqual(only(calls, "streamEnded"), [["streamEnded", "backend_busy"]]);
});

import assert from "node:assert/strict";
import fc from "fast-check";
import { BackendError } from "../../src/errors.ts";
import { Exchange } from "../../src/upstream/exchange.ts";
import { H2Connection } from "../../src/upstream/h2/connection.ts";
import { Flow, type FlowStream } from "../../src/upstream/h2/flow.ts";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { FakeStream, settle } from "../support/fake_stream.ts";

const BOUND = 2 ** 31 - 1;
/** What the server may have under way over the whole connection: 16 MiB. */
const WINDOW_BYTES = 16_777_216;

/** The reference: every window is counted anew from all that has happened. */
class Reference {
  initial = 65_535;
  readonly granted: number[] = [];
  readonly sent: number[] = [];
  connectionGranted = 65_535;

  window(stream: number): number {
    return this.initial + (this.granted[stream] ?? 0) - (this.sent[stream] ?? 0);
  }

  get connection(): number {
    return this.connectionGranted - this.sent.reduce((sum, bytes) => sum + bytes, 0);
  }

  sendable(stream: number): number {
    return Math.max(0, Math.min(this.window(stream), this.connection));
  }
}

type Action =
  | { readonly kind: "open" }
  | { readonly kind: "grow"; readonly stream: number; readonly bytes: number }
  | { readonly kind: "initial"; readonly bytes: number }
  | { readonly kind: "send"; readonly stream: number; readonly share: number };

const size = fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.integer({ min: 1, max: BOUND }));
const stream = fc.integer({ min: -1, max: 4 });
const actions: fc.Arbitrary<Action[]> = fc.array(
  fc.oneof(
    fc.constant({ kind: "open" } as const),
    fc.record({ kind: fc.constant("grow" as const), stream, bytes: size }),
    fc.record({ kind: fc.constant("initial" as const), bytes: fc.oneof(fc.constant(0), size) }),
    fc.record({
      kind: fc.constant("send" as const),
      stream,
      share: fc.double({ min: 0, max: 1, noNaN: true }),
    }),
  ),
  { maxLength: 60 },
);

Deno.test("flow: any SETTINGS, updates and sends leave the windows that a recount finds", () => {
  fc.assert(
    fc.property(actions, (all) => {
      const flow = new Flow();
      const reference = new Reference();
      const streams: FlowStream[] = [];
      for (const action of all) {
        if (action.kind === "open") {
          streams.push({ sendBytes: flow.initialSendBytes, heldBytes: 0 });
          reference.granted.push(0);
          reference.sent.push(0);
        } else if (action.kind === "initial") {
          reference.initial = action.bytes;
          const within = streams.every((_, i) => reference.window(i) <= BOUND);
          assert.equal(flow.setInitial(action.bytes, streams), within);
          if (!within) return; // the connection is over
        } else if (action.kind === "grow") {
          const target = streams[action.stream];
          if (target === undefined && action.stream >= 0) continue;
          const window = target === undefined ? reference.connection : reference.window(action.stream);
          const within = window + action.bytes <= BOUND;
          assert.equal(flow.grow(target ?? null, action.bytes), within);
          if (!within) continue;
          if (target === undefined) reference.connectionGranted += action.bytes;
          else reference.granted[action.stream] = (reference.granted[action.stream] ?? 0) + action.bytes;
        } else {
          const target = streams[action.stream];
          if (target === undefined) continue;
          const bytes = Math.floor(flow.sendable(target) * action.share);
          flow.send(target, bytes);
          reference.sent[action.stream] = (reference.sent[action.stream] ?? 0) + bytes;
        }
        for (const [i, each] of streams.entries()) assert.equal(flow.sendable(each), reference.sendable(i));
      }
    }),
    { numRuns: 2_000 },
  );
});

Deno.test("flow: what the server may send is its windows less what is not credited", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 16_384 }), { maxLength: 3_000 }), (all) => {
      const flow = new Flow();
      let allowed = WINDOW_BYTES;
      for (const bytes of all) {
        allowed -= bytes;
        assert.equal(flow.receive(bytes), allowed >= 0);
        allowed += flow.credit();
        assert.ok(allowed > WINDOW_BYTES / 2, "it never has to wait");
      }
    }),
    { numRuns: 50 },
  );
  const slow: FlowStream = { sendBytes: 0, heldBytes: 0 };
  const flow = new Flow();
  assert.ok(flow.receiveOn(slow, 65_535));
  assert.ok(!flow.receiveOn(slow, 1));
  assert.equal(flow.creditOn(slow), 65_536);
  assert.equal(flow.creditOn(slow), 0);
  assert.ok(!new Flow().receive(WINDOW_BYTES + 1));
});

/** What a server does to a connection with requests under way. */
type Move =
  | { readonly kind: "settings"; readonly bytes: number }
  | { readonly kind: "frame"; readonly bytes: number }
  | { readonly kind: "window"; readonly stream: number; readonly bytes: number }
  | { readonly kind: "request"; readonly bytes: number };

const moderate = fc.integer({ min: 1, max: 200_000 });
const moves: fc.Arbitrary<Move[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constant("settings" as const), bytes: fc.integer({ min: 0, max: 200_000 }) }),
    fc.record({
      kind: fc.constant("frame" as const),
      bytes: fc.constantFrom(16_384, 20_000, 65_536, 100_000),
    }),
    fc.record({ kind: fc.constant("window" as const), stream, bytes: moderate }),
    fc.record({ kind: fc.constant("request" as const), bytes: moderate }),
  ),
  { minLength: 1, maxLength: 25 },
);
/** A body after each change of the longest frame, upwards and downwards. */
const FRAMES: Move[] = [
  { kind: "settings", bytes: 200_000 },
  { kind: "window", stream: -1, bytes: 400_000 },
  { kind: "frame", bytes: 20_000 },
  { kind: "request", bytes: 100_000 },
  { kind: "frame", bytes: 16_384 },
  { kind: "request", bytes: 100_000 },
];

Deno.test("flow: a connection sends all that the windows let it, and no byte more, in frames that the server takes", async () => {
  await fc.assert(
    fc.asyncProperty(moves, async (all) => {
      const peer = new FakeStream();
      const connection = new H2Connection(peer, { changed() {}, returned() {}, gone() {} }, 0);
      peer.feed(h2.settingsFrame([]));
      await connection.ready;
      await settle();
      peer.takeSent();
      const reference = new Reference();
      const lengths: number[] = [];
      /** The longest frame, as the server has said, and as was acknowledged. */
      let said = 16_384;
      let longest = said;
      for (const move of all) {
        if (move.kind === "request") {
          lengths.push(move.bytes);
          reference.granted.push(0);
          reference.sent.push(0);
          const request = {
            head: { method: "POST", url: new URL("http://h/"), headers: [] },
            headers: [],
            body: new Uint8Array(move.bytes),
          };
          connection.start(new Exchange(request, { head() {}, data() {}, end() {}, fail() {} }));
        } else if (move.kind === "settings") {
          reference.initial = move.bytes;
          peer.feed(h2.settingsFrame([[h2.SETTINGS_INITIAL_WINDOW_SIZE, move.bytes]]));
        } else if (move.kind === "frame") {
          said = move.bytes;
          peer.feed(h2.settingsFrame([[h2.SETTINGS_MAX_FRAME_SIZE, move.bytes]]));
        } else if (move.stream < 0) {
          reference.connectionGranted += move.bytes;
          peer.feed(h2.numbersFrame(h2.WINDOW_UPDATE, 0, move.bytes));
        } else if (move.stream < lengths.length) {
          reference.granted[move.stream] = (reference.granted[move.stream] ?? 0) + move.bytes;
          peer.feed(h2.numbersFrame(h2.WINDOW_UPDATE, 2 * move.stream + 1, move.bytes));
        }
        await settle();
        const sentNow = new Set<number>();
        for (const [type, id, bytes] of framesSent(peer.takeSent())) {
          if (type === h2.SETTINGS) {
            longest = said;
          }
          assert.ok(bytes <= longest, `a frame of ${bytes} bytes, where the server takes ${longest}`);
          if (type !== h2.DATA) continue;
          const at = (id - 1) / 2;
          sentNow.add(at);
          reference.sent[at] = (reference.sent[at] ?? 0) + bytes;
        }
        assert.equal(longest, said, "not acknowledged");
        assert.ok(reference.connection >= 0, "beyond the connection's window");
        for (const [at, length] of lengths.entries()) {
          const unsent = length - (reference.sent[at] ?? 0);
          assert.ok(unsent >= 0, "more than its body");
          if (sentNow.has(at)) assert.ok(reference.window(at) >= 0, `beyond the window of stream ${at}`);
          assert.equal(Math.min(unsent, reference.sendable(at)), 0, `stream ${at} waits without need`);
        }
      }
      connection.close(new BackendError("unavailable", "the test is over"));
      await connection.closed;
    }),
    { numRuns: 100, examples: [[FRAMES]] },
  );
});

function framesSent(bytes: Uint8Array): [type: number, id: number, bytes: number][] {
  const all: [number, number, number][] = [];
  for (let at = 0; at < bytes.length;) {
    const length = h2.uint32(bytes, at) >>> 8;
    all.push([bytes[at + 3] ?? 0, h2.uint32(bytes, at + 5), length]);
    at += 9 + length;
  }
  return all;
}

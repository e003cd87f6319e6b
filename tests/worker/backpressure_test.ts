/** Backpressure from a kernel's socket to a backend, in this process: real sockets, a backend that never ends. */
import assert from "node:assert/strict";
import type { BackendRequest, StreamEvent } from "../../src/backend/backend.ts";
import { EventQueue } from "../../src/backend/event_queue.ts";
import { fromStreams, type StreamSource } from "../../src/backend/from_streams.ts";
import { makeReactor, Reactor } from "../../src/native/reactor.ts";
import { SseEncoderStream } from "../../src/protocol/sse.ts";
import { TimerWheel } from "../../src/timing/timer_wheel.ts";
import { Clients } from "../../src/worker/clients.ts";
import { Connection, type ConnectionParts } from "../../src/worker/connection.ts";
import { SharedStreams } from "../../src/worker/shared_streams.ts";
import { ConnectionSet } from "../../src/worker/connection_set.ts";
import { TestAcceptor } from "../support/acceptor.ts";
import { type ClientEnds, pairEnds, tcpEnds, type TestClient } from "../support/clients.ts";
import { fakeBackends, listLog, listMetrics } from "../support/connections.ts";

// About 20 MB: more than a kernel keeps for a connection.
const MOST_EVENTS = 20_000;

/** Gives 1000-character pieces without end, until it is told to end. */
class EndlessSource implements StreamSource {
  readonly name = "endless";
  /** By prompt. */
  readonly produced = new Map<string, number>();
  readonly cancelled = new Set<string>();
  ending = false;

  stream({ messages }: BackendRequest): ReadableStream<StreamEvent> {
    const prompt = messages[0]?.content as string;
    return new ReadableStream<StreamEvent>({
      pull: (controller) => {
        if (this.ending) return controller.close();
        this.produced.set(prompt, (this.produced.get(prompt) ?? 0) + 1);
        controller.enqueue({ kind: "text", text: "x".repeat(1000) });
      },
      cancel: () => void this.cancelled.add(prompt),
    }, { highWaterMark: 0 });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const EVENT_BYTES = `data: {"content":"${"x".repeat(1000)}"}\n\n`.length;

/** A worker with that backend. */
function endlessWorker(writeTimeoutMs: number): AsyncDisposable & {
  source: EndlessSource;
  calls: unknown[][];
  traffic: { bytes: number };
  hand(prompt: string, ends: ClientEnds): TestClient;
} {
  const acceptor = new TestAcceptor();
  const reactor = new Reactor(makeReactor(acceptor.acceptor.handle));
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const wheel = new TimerWheel(10, {
    now: () => performance.now(),
    every: (periodMs, callback) => {
      const timer = setInterval(callback, periodMs);
      timers.add(timer);
      return () => clearInterval(timer);
    },
  });
  const traffic = { bytes: 0 };
  const clients = new Clients(reactor, { bytesSent: (bytes) => void (traffic.bytes += bytes) });
  const own = new EventQueue();
  const source = new EndlessSource();
  const backend = fromStreams(source);
  const pipelines = [own.events, backend.events].map((events) =>
    events.pipeThrough(new SseEncoderStream()).pipeTo(clients.writable)
  );
  const calls: unknown[][] = [];
  const connections = new ConnectionSet();
  const parts: ConnectionParts = {
    clients,
    sockets: reactor,
    wheel,
    connections,
    streams: new SharedStreams({ keepMs: 0, maxStreamBytes: 0, maxTotalBytes: 0 }, listLog([])),
    homeOf: () => 1,
    reactor: 1,
    shedding: { hold() {}, release() {} },
    own,
    metrics: listMetrics(calls),
    log: listLog([]),
    backends: fakeBackends(60_000, { backend }),
    rules: { model: "m", members: [], format: "content", include: [], makeRequestId: () => "id" },
    heartbeatMs: 0,
    writeTimeoutMs,
  };
  const running = reactor.run({ handoff: (handoff) => new Connection(parts, handoff, false) });
  return {
    source,
    calls,
    traffic,
    hand: (prompt, ends) => acceptor.handOff({ prompt }, ends),
    async [Symbol.asyncDispose]() {
      connections.close();
      await backend.close();
      own.close();
      await Promise.all(pipelines);
      reactor.shutDown();
      await running;
      await acceptor[Symbol.asyncDispose]();
      for (const timer of timers) clearInterval(timer);
    },
  };
}

/** Waits until nothing more is produced for a prompt; an answer that may go on does so within a millisecond. */
async function stalled(source: EndlessSource, prompt: string): Promise<number> {
  for (let before = -1; before !== source.produced.get(prompt);) {
    before = source.produced.get(prompt) ?? -1;
    assert(before < MOST_EVENTS, "nobody stops it");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return source.produced.get(prompt) as number;
}

for (const [name, makeEnds] of [["a socketpair", pairEnds], ["TCP", tcpEnds]] as const) {
  Deno.test(`a client over ${name} that stops reading stops its backend, and little is kept for it`, async () => {
    await using worker = endlessWorker(60_000);
    const { source, traffic } = worker;
    using client = worker.hand("slow", await makeEnds());
    const events = await stalled(source, "slow");
    const kept = events * EVENT_BYTES - traffic.bytes;
    assert(kept > 0, "it is full");
    // What one answer may have of a turn, the event that overran it, and the one that waits in the answer.
    assert(kept < 16 * 1024 + 3 * EVENT_BYTES, `${kept} bytes are kept`);
    // With what the kernel took: it would take megabytes where nobody limits it.
    assert(events * EVENT_BYTES < 512 * 1024, `the backend ran ${events * EVENT_BYTES} bytes ahead`);
    // It goes on as soon as the client does, and the client misses nothing.
    while (source.produced.get("slow") === events) await client.read();
    source.ending = true;
    assert.match(await client.readAll(), /data: \[DONE\]\n\n$/);
    assert.deepEqual(worker.calls.at(-1), ["streamEnded"]);
    assert.equal(
      worker.calls.filter(([call]) => call === "eventSent").length,
      source.produced.get("slow"),
    );
  });
}

Deno.test("clients that do not read delay nobody", async () => {
  await using worker = endlessWorker(60_000);
  const slow = Array.from({ length: 20 }, (_, index) => worker.hand(`slow ${index}`, pairEnds()));
  for (const index of slow.keys()) await stalled(worker.source, `slow ${index}`);
  using client = worker.hand("fast", pairEnds());
  let bytes = 0;
  const startedAt = performance.now();
  while (bytes < 4_000_000) bytes += (await client.read() as Uint8Array).length;
  const elapsedMs = performance.now() - startedAt;
  assert(elapsedMs < 5000, `4 MB took ${elapsedMs} ms`);
  for (const each of slow) each.close();
});

Deno.test("a client that takes nothing is given up after the write time-out; its backend is cancelled", async () => {
  await using worker = endlessWorker(300);
  using _client = worker.hand("slow", pairEnds());
  using other = worker.hand("other", pairEnds());
  while (!worker.source.cancelled.has("slow")) await other.read();
  assert.deepEqual(worker.calls.filter(([call]) => call === "streamEnded"), [[
    "streamEnded",
    "write_timeout",
  ]]);
  assert(!worker.source.cancelled.has("other"));
});

Deno.test("a client that reads a little at a time is not given up", async () => {
  await using worker = endlessWorker(300);
  using client = worker.hand("slow", pairEnds());
  await stalled(worker.source, "slow");
  for (let round = 0; round < 8; round++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    // The kernel says that there is room when three quarters of its buffer are free.
    for (let read = 0; read < 4; read++) assert((await client.read())?.length);
  }
  assert(!worker.source.cancelled.has("slow"));
});

/** Backpressure from a kernel's socket to a backend, in this process: real sockets, a backend that never ends. */
import assert from "node:assert/strict";
import type { Backend, StreamEvent } from "../../src/backend/backend.ts";
import { type Client, ClientSink } from "../../src/worker/client_sink.ts";
import { Connection } from "../../src/worker/connection.ts";
import { Deadlines } from "../../src/timing/timer_wheel.ts";
import { Drain } from "../../src/worker/connection_set.ts";
import { Intake } from "../../src/native/intake.ts";
import { Reactor } from "../../src/native/reactor.ts";
import { handOff } from "../../src/native/sender.ts";
import { Outbox } from "../../src/worker/outbox.ts";
import { SseEncoderStream } from "../../src/protocol/sse.ts";
import { type ClientEnds, pairEnds, tcpEnds } from "../support/clients.ts";
import { listLog, listMetrics } from "../support/connections.ts";

// About 20 MB: more than a kernel keeps for a connection.
const MOST_EVENTS = 20_000;

/** Gives 1000-character pieces without end, until it is told to end. */
class EndlessBackend implements Backend {
  readonly name = "endless";
  /** By prompt. */
  readonly produced = new Map<string, number>();
  readonly cancelled = new Set<string>();
  ending = false;

  stream({ messages }: Parameters<Backend["stream"]>[0]): ReadableStream<StreamEvent> {
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
const turns = async (count: number): Promise<void> => {
  for (let turn = 0; turn < count; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** A worker with that backend. */
function endlessWorker(writeTimeoutMs: number): AsyncDisposable & {
  backend: EndlessBackend;
  calls: unknown[][];
  traffic: { bytes: number };
  hand(prompt: string, ends: ClientEnds): ClientEnds["near"];
} {
  const folder = Deno.makeTempDirSync();
  const intake = new Intake({
    maxConnections: 100,
    handoffTimeoutMs: 5000,
    handoffBufferBytes: 1024,
    clientTimeoutMs: 60_000,
    maxPending: 16,
    allowedUids: [],
  });
  const path = `${folder}/d.sock`;
  intake.listen("seqpacket", { path, mode: 0o600, group: "" });
  const reactor = new Reactor(intake.handle);
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const deadlines = new Deadlines(10, {
    now: () => performance.now(),
    every: (periodMs, callback) => {
      const timer = setInterval(callback, periodMs);
      timers.add(timer);
      return () => clearInterval(timer);
    },
  });
  const traffic = { bytes: 0 };
  const sink = new ClientSink({
    sender: reactor,
    deadlines,
    traffic: { bytesSent: (bytes) => void (traffic.bytes += bytes) },
    writeTimeoutMs: () => writeTimeoutMs,
  });
  const outbox = new Outbox<Client>();
  const pipeline = outbox.readable.pipeThrough(new SseEncoderStream<Client>()).pipeTo(sink.writable());
  const backend = new EndlessBackend();
  const calls: unknown[][] = [];
  const drain = new Drain();
  const parts = {
    outbox,
    sink,
    deadlines,
    drain,
    backend,
    metrics: listMetrics(calls),
    log: listLog([]),
    defaults: { model: "m", makeRequestId: () => "id" },
    backendTimeoutMs: 60_000,
  };
  const running = reactor.run({
    handoff: ({ socket, payload, overLimit }) => new Connection(parts, socket).begin({ payload, overLimit }),
    refused: ({ reason }) => assert.fail(reason),
    drained: () => {},
    acceptFailed: (errno) => assert.fail(`accept: errno ${errno}`),
  });
  return {
    backend,
    calls,
    traffic,
    hand(prompt, { near, far }) {
      handOff(path, "seqpacket", new TextEncoder().encode(JSON.stringify({ prompt })), far);
      far.close();
      return near;
    },
    async [Symbol.asyncDispose]() {
      drain.shutDown();
      await turns(5);
      intake.stop();
      reactor.close();
      outbox.close();
      await Promise.all([running, pipeline]);
      intake.close();
      for (const timer of timers) clearTimeout(timer);
      Deno.removeSync(folder, { recursive: true });
    },
  };
}

/** Waits until nothing more is produced for a prompt. */
async function stalled(backend: EndlessBackend, prompt: string): Promise<number> {
  for (let before = -1; before !== backend.produced.get(prompt);) {
    before = backend.produced.get(prompt) ?? -1;
    assert(before < MOST_EVENTS, "nobody stops it");
    await turns(200);
  }
  return backend.produced.get(prompt) as number;
}

for (const [name, makeEnds] of [["a socketpair", pairEnds], ["TCP", tcpEnds]] as const) {
  Deno.test(`a client over ${name} that stops reading stops its backend, and little is kept for it`, async () => {
    await using worker = endlessWorker(60_000);
    const { backend, traffic } = worker;
    using client = worker.hand("slow", await makeEnds());
    const events = await stalled(backend, "slow");
    const kept = events * EVENT_BYTES - traffic.bytes;
    assert(kept > 0, "it is full");
    // What one client may have of a turn, the event that overran it, and the one that waits in the connection.
    assert(kept < 16 * 1024 + 3 * EVENT_BYTES, `${kept} bytes are kept`);
    // It goes on as soon as the client does, and the client misses nothing.
    while (backend.produced.get("slow") === events) await client.read();
    backend.ending = true;
    assert.match(await client.readAll(), /data: \[DONE\]\n\n$/);
    assert.deepEqual(worker.calls.at(-1), ["streamEnded"]);
    assert.equal(
      worker.calls.filter(([call]) => call === "eventSent").length,
      backend.produced.get("slow"),
    );
  });
}

Deno.test("clients that do not read delay nobody", async () => {
  await using worker = endlessWorker(60_000);
  const slow = Array.from({ length: 20 }, (_, index) => worker.hand(`slow ${index}`, pairEnds()));
  for (const index of slow.keys()) await stalled(worker.backend, `slow ${index}`);
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
  while (!worker.backend.cancelled.has("slow")) await other.read();
  assert.deepEqual(worker.calls.filter(([call]) => call === "streamEnded"), [[
    "streamEnded",
    "write_timeout",
  ]]);
  assert(!worker.backend.cancelled.has("other"));
});

Deno.test("a client that reads a little at a time is not given up", async () => {
  await using worker = endlessWorker(300);
  using client = worker.hand("slow", pairEnds());
  await stalled(worker.backend, "slow");
  for (let round = 0; round < 8; round++) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    // The kernel says that there is room when three quarters of its buffer are free.
    for (let read = 0; read < 4; read++) assert((await client.read())?.length);
  }
  assert(!worker.backend.cancelled.has("slow"));
});

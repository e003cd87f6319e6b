import assert from "node:assert/strict";
import { StreamGauge } from "../../src/ops/metrics/metrics.ts";
import { closeReactor } from "../../src/native/reactor.ts";
import { connect } from "../../src/native/sender.ts";
import { Worker } from "../../src/worker/worker.ts";
import { renderedSnapshot } from "../support/metrics.ts";
import { listLog, type LoggedLine } from "../support/connections.ts";
import { testConfig, TestIntake } from "../support/intake.ts";

const NOW = AbortSignal.abort();
const never = new AbortController().signal;

async function fixture(env: Readonly<Record<string, string>> = {}, benchmark = false): Promise<{
  intake: TestIntake;
  worker: Worker;
  lines: LoggedLine[];
}> {
  const intake = new TestIntake();
  const lines: LoggedLine[] = [];
  const worker = new Worker({
    index: 3,
    config: await testConfig({ DAEMON_TOKEN_DELAY_MS: "1", ...env }),
    intake: intake.intake.handle,
    streams: StreamGauge.allocate(4),
    benchmark,
  }, listLog(lines));
  return { intake, worker, lines };
}

Deno.test("a worker serves handoffs, counts them, and drains", async () => {
  const { intake, worker, lines } = await fixture();
  using client = intake.handOff();
  const answer = await client.readAll();
  assert(answer.endsWith("data: [DONE]\n\n"));
  intake.intake.stop();
  await worker.drain(10_000, never);
  await worker.ended;
  const families = await renderedSnapshot(await worker.metrics());
  assert.equal(families.get("daemon_handoffs_received")?.series.get("daemon_handoffs_received"), 1);
  assert.equal(
    families.get("daemon_stream_bytes_sent")?.series.get("daemon_stream_bytes_sent"),
    answer.length,
  );
  assert.match(lines[0]?.fields["request_id"] as string, /^[0-9a-f]{8}-3-1$/);
  intake[Symbol.dispose]();
});

Deno.test("a drain ends early when it is told to, and tells the streams", async () => {
  const { intake, worker, lines } = await fixture({ DAEMON_TOKEN_DELAY_MS: "3600000" });
  using client = intake.handOff();
  await client.readUntil("Hello! ");
  intake.intake.stop();
  const now = new AbortController();
  const drained = worker.drain(3_600_000, now.signal);
  now.abort();
  assert((await client.readAll()).endsWith('data: {"error":"Server is shutting down"}\n\n'));
  await drained;
  assert(lines.some(({ message }) => message === "Streams left at the end of the drain are told so"));
  intake[Symbol.dispose]();
});

Deno.test("a refused handoff is logged and counted", async () => {
  const { intake, worker, lines } = await fixture();
  using sender = connect(intake.pathOf("seqpacket"), "seqpacket");
  sender.send(new Uint8Array(3));
  assert.equal(await sender.read(10_000), undefined);
  intake.intake.stop();
  await worker.drain(10_000, never);
  assert.deepEqual([
    lines[0]?.level,
    lines[0]?.message,
    lines[0]?.fields["reason"],
    lines[0]?.fields["received_bytes"],
  ], [
    "warning",
    "Handoff refused",
    "no_fd",
    3,
  ]);
  intake[Symbol.dispose]();
});

Deno.test("a reload holds for connections from then on; those that run keep their backend", async () => {
  const { intake, worker } = await fixture({ DAEMON_TOKEN_DELAY_MS: "3600000" });
  using running = intake.handOff();
  await running.readUntil("Hello! ");
  worker.reload(await testConfig({ DAEMON_TOKEN_DELAY_MS: "0" }));
  using next = intake.handOff();
  assert((await next.readAll()).endsWith("data: [DONE]\n\n"));
  intake.intake.stop();
  await worker.drain(0, NOW);
  assert((await running.readAll()).endsWith('data: {"error":"Server is shutting down"}\n\n'));
  intake[Symbol.dispose]();
});

Deno.test("a worker whose reactor fails ends with the reason", async () => {
  const { intake, worker } = await fixture();
  const failed = assert.rejects(worker.ended, /The reactor ended by itself/);
  closeReactor(worker.reactorHandle);
  await failed;
  intake[Symbol.dispose]();
});

Deno.test("with benchmark only sums are counted", async () => {
  const { intake, worker } = await fixture({}, true);
  using client = intake.handOff();
  await client.readAll();
  intake.intake.stop();
  await worker.drain(10_000, never);
  const sums = Object.fromEntries(
    (await worker.metrics()).map(({ name, values }) => [name, values[0]?.value]),
  );
  assert.deepEqual([sums["connections"], sums["streams"], sums["events"]], [1, 1, 18]);
  intake[Symbol.dispose]();
});

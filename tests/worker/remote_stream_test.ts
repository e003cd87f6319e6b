/** Streams of another daemon, and a store that does not give them. */
import assert from "node:assert/strict";
import { SharedStreams } from "../../src/worker/shared_streams.ts";
import { fakeWorker, listLog } from "../support/connections.ts";
import { SlowRedis } from "../support/slow_redis.ts";
import { until } from "../support/until.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

Deno.test("a stream that the store has and does not give: all who wait for it are told", async () => {
  await using redis = new SlowRedis();
  const limits = { keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 };
  const streams = new SharedStreams(limits, listLog([]), { url: redis.url, caFile: "" });
  const worker = fakeWorker({ streams });
  const first = await worker.open({ stream_id: "s", last_event_id: "0" });
  await redis.next("XRANGE", "streaming-daemon:{s}:events"); // is not answered
  const second = await worker.open({ stream_id: "s", last_event_id: "0" });
  await until("both are told", () => first.closed === "in order" && second.closed === "in order");
  const out = plainResponse(503, "The store of streams cannot be reached");
  assert.deepEqual([first.received, second.received], [out, out]);
  assert.deepEqual([streams.stats.live, streams.stats.bytes, worker.connections.size], [0, 0, 0]);
  await streams.close();
});

Deno.test("a stream whose beginning the store has no more is resumed where it is known", async () => {
  await using redis = new SlowRedis();
  const limits = { keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 };
  const streams = new SharedStreams(limits, listLog([]), { url: redis.url, caFile: "" });
  const worker = fakeWorker({ streams });
  const client = await worker.open({ stream_id: "s", last_event_id: "2" });
  const event = 'id: 3\ndata: {"content":"c"}\n\n';
  const range = await redis.next("XRANGE", "streaming-daemon:{s}:events");
  await range.answer([[`${1000 + event.length}-0`, ["b", event]]]);
  await until("the event", () => client.received !== "");
  assert.equal(client.received, STREAM_HEAD + event);
  client.owner?.gone(0);
  await streams.close();
});

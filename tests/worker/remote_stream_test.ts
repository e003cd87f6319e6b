/** Streams of another daemon, and a store that does not give them. */
import assert from "node:assert/strict";
import { TimerWheel } from "../../src/timing/timer_wheel.ts";
import type { CallParts } from "../../src/worker/backend_call.ts";
import { ConnectionSet } from "../../src/worker/connection_set.ts";
import { RemoteStream } from "../../src/worker/remote_stream.ts";
import { SharedStreams } from "../../src/worker/shared_streams.ts";
import { failed, fakeWorker, listLog, only } from "../support/connections.ts";
import { FakeTiming } from "../support/fake_timing.ts";
import { SlowRedis } from "../support/slow_redis.ts";
import { until } from "../support/until.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

const EVENTS = "streaming-daemon:{s}:events";
const LIMITS = { keepMs: 10_000, maxStreamBytes: 4096, maxTotalBytes: 65_536 };

Deno.test("a stream that the store has and does not give: all who wait for it are told", async () => {
  await using redis = new SlowRedis();
  const streams = new SharedStreams(LIMITS, listLog([]), { url: redis.url, caFile: "" });
  const worker = fakeWorker({ streams });
  const first = await worker.open({ stream_id: "s", last_event_id: "0" });
  await redis.next("XRANGE", EVENTS); // is not answered
  const second = await worker.open({ stream_id: "s", last_event_id: "0" });
  await until("both are told", () => first.closed === "in order" && second.closed === "in order");
  const out = plainResponse(503, "The store of streams cannot be reached");
  assert.deepEqual([first.received, second.received], [out, out]);
  assert.deepEqual([streams.stats.live, streams.stats.bytes, worker.connections.size], [0, 0, 0]);
  await streams.close();
});

Deno.test("a stream whose beginning the store has no more is resumed where it is known", async () => {
  await using redis = new SlowRedis();
  const streams = new SharedStreams(LIMITS, listLog([]), { url: redis.url, caFile: "" });
  const worker = fakeWorker({ streams });
  const client = await worker.open({ stream_id: "s", last_event_id: "2" });
  const event = 'id: 3\ndata: {"content":"c"}\n\n';
  const range = await redis.next("XRANGE", EVENTS);
  await range.answer([[`${1000 + event.length}-0`, ["b", event]]]);
  await until("the event", () => client.received !== "");
  assert.equal(client.received, STREAM_HEAD + event);
  // Once nobody watches it here, it is not read any more.
  const read = async () => await redis.next("XREAD", "STREAMS");
  await (await read()).answer(null);
  const watched = await read();
  client.owner?.gone(0);
  await watched.answer(null);
  const deserted = await read();
  assert.deepEqual([watched, deserted].map(({ words }) => words.includes(EVENTS)), [true, false]);
  assert.equal(worker.connections.size, 0);
  await streams.close();
});

Deno.test("how a stream has ended elsewhere is counted here as well, and nothing of it is waited for", async () => {
  await using redis = new SlowRedis();
  const streams = new SharedStreams(LIMITS, listLog([]), { url: redis.url, caFile: "" });
  const worker = fakeWorker({ streams });
  const client = await worker.open({ stream_id: "s", last_event_id: "0" });
  const event = 'id: 1\ndata: {"error":"Stopped"}\n\n';
  const range = await redis.next("XRANGE", EVENTS);
  await range.answer([[`${event.length}-0`, ["b", event, "e", "stopped"]]]);
  await until("the end", () => client.closed === "in order");
  assert.equal(client.received, STREAM_HEAD + event);
  assert.deepEqual(only(worker.calls, "streamEnded"), [["streamEnded", "stopped"]]);
  assert.equal(worker.connections.size, 0);
  await streams.close();
});

Deno.test("a stream with a gap ends with an error for who watches it here, and is not read any more", async () => {
  await using redis = new SlowRedis();
  const streams = new SharedStreams(LIMITS, listLog([]), { url: redis.url, caFile: "" });
  const worker = fakeWorker({ streams });
  const client = await worker.open({ stream_id: "s", last_event_id: "0" });
  const event = 'id: 1\ndata: {"content":"a"}\n\n';
  await (await redis.next("XRANGE", EVENTS)).answer([[`${event.length}-0`, ["b", event]]]);
  await until("the event", () => client.received !== "");
  await (await redis.next("XREAD", "STREAMS")).answer(null);
  const read = await redis.next("XREAD", EVENTS);
  await read.answer([[EVENTS, [[`${event.length + 500}-0`, ["b", event]]]]]);
  await until("the end", () => client.closed === "in order");
  assert.equal(client.received, STREAM_HEAD + event + failed("Internal error"));
  const next = await redis.next("XREAD", "STREAMS");
  assert(!next.words.includes(EVENTS));
  await streams.close();
});

Deno.test("the last words of one whose daemon has gone go on in its format, as its beginning did", () => {
  const parts = { wheel: new TimerWheel(1, new FakeTiming()), connections: new ConnectionSet() };
  const home = {
    ...LIMITS,
    ending: false,
    reserve: () => true,
    release() {},
    grown() {},
    completed() {},
    forgotten() {},
  };
  const about = { owner: "gone", format: "ai-sdk", include: [], requestId: "r", model: "m" } as const;
  const stream = new RemoteStream(parts as Partial<CallParts> as CallParts, home, "s", about, () => {});
  const begun = new TextEncoder().encode('id: 1\ndata: {"type":"start"}\n\nid: 2\ndata: {}\n\n');
  stream.hear({ start: 0, bytes: begun, end: false, failure: undefined });
  const { start, bytes, ...rest } = stream.wordsOfTheGone();
  assert.equal(
    new TextDecoder().decode(bytes),
    'id: 3\ndata: {"type":"error","errorText":"The daemon that gave this answer has gone"}\n\n',
  );
  assert.deepEqual([start, rest], [begun.length, { end: true, failure: "other" }]);
});

/** What is said to a server of Redis, and answered in an order that a real one cannot be made to keep. */
import assert from "node:assert/strict";
import { RedisStore } from "../../src/store/redis_store.ts";
import type { Said } from "../../src/store/redis_records.ts";
import type { StoreEvents } from "../../src/store/stream_reader.ts";
import { SharedStreams } from "../../src/worker/shared_streams.ts";
import { fakeWorker, listLog, type LoggedLine } from "../support/connections.ts";
import { type Reply, SlowRedis } from "../support/slow_redis.ts";
import { until } from "../support/until.ts";

const KEY = "streaming-daemon:{s}:events";
const HELLO: Reply = ["5-0", ["b", "hello"]];
const WORLD: Reply = ["10-0", ["b", "world"]];

function storeAt(url: string, events: Partial<StoreEvents> = {}, lines: LoggedLine[] = []): RedisStore {
  return new RedisStore({
    url,
    caFile: "",
    keepMs: 1000,
    maxStreamBytes: 4096,
    log: listLog(lines),
    events: { stopped() {}, heard() {}, ownerGone() {}, lost() {}, ...events },
  });
}

Deno.test("a stream that is followed anew is told from its beginning, though a read from before brings what is new first", async () => {
  await using redis = new SlowRedis();
  const heard: [start: number, text: string][] = [];
  const store = storeAt(redis.url, {
    heard: (_, { start, bytes }: Said) => void heard.push([start, new TextDecoder().decode(bytes)]),
  });
  const about = { owner: "other", format: "content", include: [], requestId: "r", model: "m" } as const;
  await (await redis.next("XREAD", "STREAMS")).answer(null);
  await store.find("s"); // once it is connected
  const first = store.reader.follow("s", about);
  await (await redis.next("XRANGE", KEY)).answer([HELLO]);
  await first;
  let read = await redis.next("XREAD", "STREAMS");
  while (!read.words.includes(KEY)) {
    await read.answer(null);
    read = await redis.next("XREAD", "STREAMS");
  }
  store.reader.unfollow("s");
  const second = store.reader.follow("s", about);
  const range = await redis.next("XRANGE", KEY);
  await read.answer([[KEY, [WORLD]]]);
  const next = await redis.next("XREAD", "STREAMS"); // so the one before was taken
  await range.answer([HELLO, WORLD]);
  await second;
  assert.deepEqual(heard, [[0, "hello"], [0, "hello"], [5, "world"]]);
  store.reader.unfollow("s");
  await next.answer(null);
  await store.close();
});

Deno.test("a reload's keep_secs holds for what the store keeps, too", async () => {
  await using redis = new SlowRedis();
  const limits = { keepMs: 1000, maxStreamBytes: 4096, maxTotalBytes: 65_536 };
  const streams = new SharedStreams(limits, listLog([]), { url: redis.url, caFile: "" });
  streams.configure({ ...limits, keepMs: 7000 });
  const worker = fakeWorker({ streams });
  await worker.open({ stream_id: "s" });
  await until("the claim", () => worker.backend.answers.length === 1);
  worker.backend.answers[0]?.end();
  await until("its end", () => redis.heard.some(([name, key]) => name === "EXPIRE" && key === KEY));
  assert.deepEqual(redis.heard.find(([name, key]) => name === "EXPIRE" && key === KEY), ["EXPIRE", KEY, "7"]);
  worker.timing.advance(7001);
  await streams.close();
});

Deno.test("a server that goes without a word is left after some seconds, and the store is back once there is one again", async () => {
  await using redis = new SlowRedis();
  const lines: LoggedLine[] = [];
  const store = storeAt(redis.url, {}, lines);
  await redis.next("XREAD", "STREAMS");
  await store.find("s"); // once it is connected
  assert.equal(store.stats.up, true);
  redis.fallSilent();
  await until("the store", () => lines.some(({ message }) => message === "The store of streams is back"));
  assert.equal(store.stats.up, true);
  await store.find("s");
  await store.close();
});

Deno.test("a store is closed within a second or so though a server keeps it waiting for TLS", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const store = storeAt(`rediss://127.0.0.1:${(listener.addr as Deno.NetAddr).port}`);
  const connections = [await listener.accept(), await listener.accept()];
  const startMs = performance.now();
  await store.close();
  assert(performance.now() - startMs < 3000);
  for (const connection of connections) {
    await connection.closeWrite();
    await new Response(connection.readable).arrayBuffer(); // to its end, which is the other side's
  }
});

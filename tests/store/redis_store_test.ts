/** What is said to a server of Redis, and answered in an order that a real one cannot be made to keep. */
import assert from "node:assert/strict";
import { RedisStore } from "../../src/store/redis_store.ts";
import type { Said } from "../../src/store/redis_records.ts";
import { listLog } from "../support/connections.ts";
import { type Reply, SlowRedis } from "../support/slow_redis.ts";

const KEY = "streaming-daemon:{s}:events";
const HELLO: Reply = ["5-0", ["b", "hello"]];
const WORLD: Reply = ["10-0", ["b", "world"]];

Deno.test("a stream that is followed anew is told from its beginning, though a read from before brings what is new first", async () => {
  await using redis = new SlowRedis();
  const heard: [start: number, text: string][] = [];
  const store = new RedisStore({
    url: redis.url,
    caFile: "",
    keepMs: 1000,
    maxStreamBytes: 4096,
    log: listLog([]),
    events: {
      stopped() {},
      heard: (_, { start, bytes }: Said) => void heard.push([start, new TextDecoder().decode(bytes)]),
      ownerGone() {},
      lost() {},
    },
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

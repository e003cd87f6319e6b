import assert from "node:assert/strict";
import type { RedisLink } from "../../src/store/redis_link.ts";
import { StreamReader } from "../../src/store/stream_reader.ts";

Deno.test("where many streams are followed, entries gather before they are read", async () => {
  const readAtMs: number[] = [];
  const asLink = (send: (command: string) => unknown): RedisLink =>
    ({ send: (command: string) => Promise.resolve(send(command)) }) as Partial<RedisLink> as RedisLink;
  const reader = new StreamReader({
    name: "me",
    link: asLink((command) => command === "EXISTS" ? 1 : []),
    waitingLink: asLink(() => {
      readAtMs.push(performance.now());
      if (readAtMs.length === 6) reader.close();
      return [["streaming-daemon:{s0}:events", []]];
    }),
    events: { stopped() {}, heard() {}, ownerGone() {}, lost() {} },
  });
  const about = { owner: "other", format: "content", include: [], requestId: "r", model: "m" } as const;
  for (let i = 0; i < 16; i++) await reader.follow(`s${i}`, about);
  await reader.run();
  const tookMs = (readAtMs[5] ?? 0) - (readAtMs[0] ?? 0);
  assert(tookMs >= 95, `six reads within ${tookMs} ms`);
});

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import type { RedisLink } from "../../src/store/redis_link.ts";
import { StreamReader } from "../../src/store/stream_reader.ts";
import { turn } from "../support/answers.ts";

const ABOUT = { owner: "other", format: "content", include: [], requestId: "r", model: "m" } as const;

/** A connection on which a command is answered as the test says. */
const asLink = (send: (...command: string[]) => unknown): RedisLink =>
  ({ send: (...command: string[]) => Promise.resolve(send(...command)) }) as Partial<RedisLink> as RedisLink;

Deno.test("where many streams are followed, entries gather before they are read", async () => {
  const readAtMs: number[] = [];
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
  for (let i = 0; i < 16; i++) await reader.follow(`s${i}`, ABOUT);
  await reader.run();
  const tookMs = (readAtMs[5] ?? 0) - (readAtMs[0] ?? 0);
  assert(tookMs >= 95, `six reads within ${tookMs} ms`);
});

Deno.test("what there is of a stream is told to its end before it is followed, and the read that waits asks for it then", async () => {
  const entries = Array.from({ length: 600 }, (_, index) => [`${index + 1}-0`, ["b", Buffer.from("x")]]);
  const sent: string[] = [];
  let heard = 0;
  const reader = new StreamReader({
    name: "me",
    link: asLink((...command) => {
      const [name, key, from = "", , , most] = command;
      if (name === "XRANGE") {
        const first = Number(/^\((\d+)-0$/.exec(from)?.[1]); // after the one of that position
        return entries.slice(first, first + Number(most));
      }
      sent.push(`${name} ${key} ${from}`);
      return name === "EXISTS" ? 1 : [];
    }),
    waitingLink: asLink(() => 7), // its CLIENT ID
    events: { stopped() {}, heard: () => void heard++, ownerGone() {}, lost() {} },
  });
  await reader.up();
  await reader.follow("s", ABOUT);
  assert.equal(heard, 600);
  assert(sent.includes("CLIENT UNBLOCK 7"), sent.join());
});

Deno.test("what is asked of a worker is done once", async () => {
  const stopped: string[] = [];
  const reads: string[][] = [];
  const reader = new StreamReader({
    name: "me",
    link: asLink(() => []),
    waitingLink: asLink((...command) => {
      reads.push(command);
      if (reads.length === 2) reader.close();
      return reads.length === 1 ? [["streaming-daemon:asked:me", [["5-0", ["stop", "s"]]]]] : null;
    }),
    events: { stopped: (id) => void stopped.push(id), heard() {}, ownerGone() {}, lost() {} },
  });
  await reader.run();
  assert.deepEqual([stopped, reads.map((command) => command.at(-1))], [["s"], ["0-0", "5-0"]]);
});

Deno.test("a stream that the store has lost, though its worker lives, is lost to who follows it", async () => {
  const lost: string[] = [];
  let stored = 1;
  const reader = new StreamReader({
    name: "me",
    link: asLink((name, key) => name === "XRANGE" ? [] : key?.endsWith("}:about") ? stored : 1),
    waitingLink: asLink(() => null),
    events: { stopped() {}, heard() {}, ownerGone() {}, lost: (id) => void lost.push(id) },
  });
  await reader.follow("s", ABOUT);
  await turn();
  assert.deepEqual(lost, []);
  stored = 0;
  reader.check();
  await turn();
  assert.deepEqual(lost, ["s"]);
});

/** What is written of streams, and what becomes of it where the server is away. */
import assert from "node:assert/strict";
import type { Argument, RedisLink } from "../../src/store/redis_link.ts";
import type { Said } from "../../src/store/redis_records.ts";
import { StreamWriter } from "../../src/store/stream_writer.ts";
import { turn } from "../support/answers.ts";

const ABOUT = "streaming-daemon:{s}:about";
const EVENTS = "streaming-daemon:{s}:events";

/** A server that takes what comes, as long as it is up, and answers when it is told to. */
class FakeServer {
  readonly sent: string[] = [];
  up = true;
  answers: Promise<unknown> = Promise.resolve();

  send(...command: Argument[]): Promise<unknown> {
    if (!this.up) return Promise.reject(new Error("down"));
    this.sent.push(command.map((each) => String(each).slice(0, 40)).join(" "));
    return this.answers;
  }

  /** What was sent since the last time. */
  taken(): string[] {
    return this.sent.splice(0);
  }
}

function begin(): [FakeServer, StreamWriter] {
  const server = new FakeServer();
  const writer = new StreamWriter(server as Partial<RedisLink> as RedisLink, {
    keepMs: 1500,
    maxStreamBytes: 1000,
  });
  writer.claimed("s");
  return [server, writer];
}

function said(start: number, length: number, end = false): Said {
  return { start, bytes: new Uint8Array(length), end, failure: undefined };
}

const names = (commands: readonly string[]): string[] => commands.map((each) => each.split(" ")[0] as string);

Deno.test("a stream is kept for an hour more than keep_secs while it has no end, and for keep_secs from then on", () => {
  const [server, writer] = begin();
  writer.append("s", said(0, 3));
  assert.deepEqual(server.taken().slice(1), [`EXPIRE ${ABOUT} 3602`, `EXPIRE ${EVENTS} 3602`]);
  writer.append("s", said(3, 3));
  assert.deepEqual(names(server.taken()), ["XADD"]);
  writer.append("s", said(6, 3, true));
  assert.deepEqual(server.taken().slice(1), [`EXPIRE ${ABOUT} 2`, `EXPIRE ${EVENTS} 2`]);
  writer.append("s", said(9, 3)); // it has ended
  assert.deepEqual(server.taken(), []);
});

Deno.test("while it says something it is kept, however long that takes", () => {
  const [server, writer] = begin();
  writer.append("s", said(0, 3));
  server.taken();
  const { now } = performance;
  try {
    performance.now = () => now.call(performance) + 61_000;
    writer.append("s", said(3, 3));
    writer.append("s", said(6, 3));
  } finally {
    performance.now = now;
  }
  assert.deepEqual(names(server.taken()), ["XADD", "EXPIRE", "EXPIRE", "XADD"]);
});

Deno.test("the last words of one whose owner has gone are kept for keep_secs", () => {
  const [server, writer] = begin();
  writer.endForOwner("s", said(6, 3, true));
  assert.deepEqual(server.taken().slice(1), [`EXPIRE ${ABOUT} 2`, `EXPIRE ${EVENTS} 2`]);
});

Deno.test("past max_stream_bytes and a quarter more, the beginning is taken out", () => {
  const [server, writer] = begin();
  writer.append("s", said(0, 1250));
  assert(!names(server.taken()).includes("XTRIM"));
  writer.append("s", said(1250, 1));
  assert.equal(server.taken().at(-1), `XTRIM ${EVENTS} MINID 251-0`);
  writer.append("s", said(1251, 100));
  assert.deepEqual(names(server.taken()), ["XADD"]);
});

Deno.test("while the server is away a stream is given up, once, and taken out when it is back", async () => {
  const [server, writer] = begin();
  writer.append("s", said(0, 3));
  server.taken();
  server.up = false;
  writer.append("s", said(3, 3));
  writer.append("s", said(6, 3));
  assert.equal(writer.unsaved, 1);
  server.up = true;
  writer.append("s", said(9, 3)); // there would be a gap
  assert.deepEqual(server.taken(), []);
  writer.forgetSpoiled();
  assert.deepEqual(server.taken(), [`DEL ${ABOUT} ${EVENTS}`]);
  await turn();
  writer.forgetSpoiled();
  assert.deepEqual(server.taken(), []);
});

Deno.test("one that is claimed anew before the server is back is not taken out", () => {
  const [server, writer] = begin();
  server.up = false;
  writer.append("s", said(0, 3));
  server.up = true;
  writer.claimed("s");
  writer.forgetSpoiled();
  assert.deepEqual(server.taken(), []);
});

Deno.test("what waits for a slow server is bounded, and makes room once it was taken", async () => {
  const [server, writer] = begin();
  const MIB = 1024 * 1024;
  for (let count = 0; count < 20; count++) {
    writer.append("s", said(count * MIB, MIB));
    await turn(); // taken
  }
  assert.equal(writer.unsaved, 0);
  server.answers = new Promise(() => {});
  for (let count = 20; count < 29; count++) writer.append("s", said(count * MIB, MIB));
  assert.equal(writer.unsaved, 1);
  assert.equal(names(server.taken()).at(-1), "DEL");
});

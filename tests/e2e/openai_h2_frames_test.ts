/**
 * Every odd order of HTTP/2 frames, over the real daemon: a raw server plays the cases of `support/h2_server`, whose
 * frames are of another make, against two clients on one connection, and looks at what the daemon says to it.
 */
import assert from "node:assert/strict";
import cases from "../support/h2_server/cases.json" with { type: "json" };
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { broken, KEY, told, UNAVAILABLE } from "../support/openai_daemon.ts";
import { errorEvent, STREAM_HEAD } from "../support/wire.ts";
import { RawH2Server, unhex } from "../support/h2_server/server.ts";

const OUTCOMES: Readonly<Record<string, string>> = {
  hello: told("Hello"),
  again: told("Hello"),
  none: UNAVAILABLE,
  cut: broken([]),
  broken: broken(["Hello"]),
};
/** How an answer ends whose client took less than the server said. */
const FAILED = errorEvent("Backend error");
const ANSWERS = [unhex(cases.answer.one), unhex(cases.answer.three)];

type Case = typeof cases.cases[number];

async function play(daemon: TestDaemon, server: RawH2Server, each: Case): Promise<void> {
  const connections = server.connections;
  using subject = daemon.handOff({ prompt: "subject" });
  const connection = await server.next();
  await connection.asked(1);
  using bystander = daemon.handOff({ prompt: "bystander" });
  await connection.asked(3);
  await connection.say(...each.says.map(([hex, times]) => unhex(hex as string, times as number)));
  if (each.subject === "much") await connection.refused(1);
  const again = [each.subject, each.bystander].filter((outcome) => outcome === "again").length;
  if (each.bystander === "hello") await connection.say(ANSWERS[1] as Uint8Array<ArrayBuffer>);
  if (again > 0) {
    const other = await server.next();
    for (const [at, id] of [1, 3].slice(0, again).entries()) {
      await other.asked(id);
      await other.say(ANSWERS[at] as Uint8Array<ArrayBuffer>);
    }
  }
  const answer = await subject.readAll();
  if (each.subject !== "much") assert.equal(answer, OUTCOMES[each.subject], "the subject");
  else assert.deepEqual([answer.startsWith(STREAM_HEAD), answer.slice(-FAILED.length)], [true, FAILED]);
  assert.equal(await bystander.readAll(), OUTCOMES[each.bystander], "the bystander");
  // What it answers to this comes after all that it has to say to the case.
  await connection.answersPing();
  assert.equal(connection.resets.get(1) ?? null, each.reset, "the subject's reset");
  assert.equal(connection.resets.get(3) ?? null, null, "the bystander's reset");
  assert.equal(connection.goaway, each.goaway, "the connection's GOAWAY");
  assert.equal(server.connections - connections, again > 0 ? 2 : 1);
}

const start = (server: RawH2Server): Promise<TestDaemon> =>
  startDaemon({
    env: {
      DAEMON_BACKEND_PROVIDER: "openai",
      DAEMON_BACKEND_TIMEOUT_SECS: "10",
      OPENAI_API_KEY: KEY,
      OPENAI_API_BASE: server.base,
      OPENAI_MAX_RETRIES: "0",
    },
  });

Deno.test("openai over h2c: every odd order of frames", async (t) => {
  await using server = new RawH2Server(unhex(cases.opening));
  await using daemon = await start(server);
  for (const each of cases.cases) {
    await t.step(each.name, async () => {
      try {
        await play(daemon, server, each);
      } finally {
        await server.closeAll();
      }
    });
    await daemon.until(
      "its connections closed",
      async () => await daemon.metric("daemon_upstream_connections") === 0,
    );
  }
  assert.ok(cases.cases.length > 100);
});

Deno.test("openai over h2c: every odd beginning of a connection", async (t) => {
  await using server = new RawH2Server(unhex(cases.opening));
  await using daemon = await start(server);
  for (const each of cases.openings) {
    await t.step(each.name, async () => {
      server.opening = unhex(each.says);
      const connections = server.connections;
      using client = daemon.handOff({ prompt: "Hello" });
      const connection = await server.next();
      if (each.outcome === "hello") {
        await connection.asked(1);
        await connection.say(ANSWERS[0] as Uint8Array<ArrayBuffer>);
      }
      assert.equal(await client.readAll(), OUTCOMES[each.outcome]);
      await connection.answersPing();
      assert.equal(connection.goaway, each.goaway);
      assert.equal(server.connections - connections, each.connections);
    });
    await server.closeAll();
    await daemon.until(
      "its connections closed",
      async () => await daemon.metric("daemon_upstream_connections") === 0,
    );
  }
});

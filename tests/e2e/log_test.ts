/** What the running daemon logs: the parts, and floods. */
import assert from "node:assert/strict";
import { connect } from "../../src/native/sender.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { KEY, openaiDaemon } from "../support/openai_daemon.ts";

Deno.test("DAEMON_LOG sets the levels of single parts, in every isolate", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_LOG_LEVEL: "info", DAEMON_LOG: "handoff=error,stream=warning", DAEMON_WORKERS: "2" },
  });
  using refused = daemon.handOff(new TextEncoder().encode("[]")); // by a worker
  assert.match(await refused.readAll(), /^HTTP\/1\.1 400 /);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]\n\n$/);
  {
    using sender = connect(daemon.pathOf("seqpacket"), "seqpacket");
    sender.send(new TextEncoder().encode("{}")); // by the acceptor
  }
  await daemon.until(
    "the count",
    async () => await daemon.metric("daemon_handoffs_failed", { reason: "no_fd" }) === 1,
  );
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert.deepEqual([...new Set(daemon.log.map(({ part }) => part))], ["daemon"], daemon.stderr.join("\n"));
});

/** The lines of level `debug`, their times aside. */
const steps = (daemon: TestDaemon): unknown[] =>
  daemon.log.filter(({ level }) => level === "debug").map(({ part, message, fields }) => {
    const { after_ms: _after, duration_ms: _duration, pause_ms: _pause, ...others } = fields;
    return [part, message, others];
  });

Deno.test("DAEMON_LOG=backend=debug,handoff=warning tells each step on the way to the provider, and nothing of what was said", async () => {
  for (const [name, told] of [["DAEMON_LOG", true], ["DAEMON_LOG_FORMAT", false]] as const) {
    const value = told ? "backend=debug,handoff=warning" : "json";
    await using both = await openaiDaemon("h1", { env: { OPENAI_MAX_RETRIES: "1", [name]: value } });
    const { daemon } = both;
    using client = daemon.handOff({
      prompt: "confidential",
      request_id: "r1",
      user_id: "u1",
      test_pattern: "status-503-times-1",
    });
    assert.match(await client.readAll(), /word4 [^]*\[DONE\]\n\n$/);
    await daemon.logged("Stream complete");
    const asked = { request_id: "r1", user_id: "u1", backend: "openai", model: "gpt-4o" };
    const { error, ...again } = daemon.log.find(({ message }) =>
      message === "Provider is asked again"
    )?.fields ?? {};
    assert.deepEqual(
      steps(daemon),
      told
        ? [
          ["backend", "Backend asked", asked],
          ["backend", "Provider is asked again", { request_id: "r1", provider: "openai", tries: 1, error }],
          ["backend", "Backend answers", asked],
        ]
        : [],
    );
    if (told) assert.match(`${JSON.stringify(error)} ${again["pause_ms"]}`, /503.* \d+$/);
    assert.doesNotMatch(daemon.stderr.join("\n"), new RegExp(`confidential|word4|${KEY}`));
  }
});

Deno.test("the level debug, by flag or variable, has a line for each handoff that is taken", async () => {
  for (const setup of [{ args: ["--debug"] }, { env: { DAEMON_LOG_LEVEL: "debug" } }]) {
    await using daemon = await startDaemon(setup);
    const data = new TextEncoder().encode('{"request_id":"r1","user_id":7,"prompt":"confidential"}');
    using client = daemon.handOff(data);
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
    await daemon.logged("Stream complete");
    assert.deepEqual(steps(daemon)[0], ["handoff", "Handoff received", {
      request_id: "r1",
      user_id: "7",
      bytes: data.length,
    }]);
    assert.doesNotMatch(daemon.stderr.join("\n"), /confidential/);
  }
});

Deno.test("without it the same are told, each under its part", async () => {
  await using daemon = await startDaemon();
  using refused = daemon.handOff(new TextEncoder().encode("[]"));
  await refused.readAll();
  using client = daemon.handOff();
  await client.readAll();
  {
    using sender = connect(daemon.pathOf("seqpacket"), "seqpacket");
    sender.send(new TextEncoder().encode("{}"));
  }
  for (
    const [message, part] of [
      ["Handoff data refused, client answered 400", "handoff"],
      ["Handoff refused", "handoff"],
      ["Stream complete", "stream"],
      ["Taking handoffs", "daemon"],
    ] as const
  ) assert.equal((await daemon.logged(message)).part, part, message);
});

Deno.test("a flood of refusals costs the log its first lines and a sum", async () => {
  await using daemon = await startDaemon();
  const sent = 2000;
  for (let handoff = 0; handoff < sent; handoff++) {
    using client = daemon.handOff(new TextEncoder().encode("[]"));
    assert.match(await client.readAll(), /^HTTP\/1\.1 400 /);
  }
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  const lines = daemon.log.filter(({ part }) => part === "handoff");
  assert(lines.length < 150, `${lines.length} lines`);
  const more = lines.map(({ message }) => /… and ([\d,]+) more$/.exec(message)?.[1]?.replaceAll(",", ""))
    .reduce((sum, count) => sum + Number(count ?? 1), 0);
  assert.equal(more, sent, "none is left out of the sum");
});

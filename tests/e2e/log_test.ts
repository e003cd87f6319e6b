/** What the running daemon logs: the parts, and floods. */
import assert from "node:assert/strict";
import { connect } from "../../src/native/sender.ts";
import { startDaemon } from "../support/daemon.ts";

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

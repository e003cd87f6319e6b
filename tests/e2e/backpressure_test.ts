/** A client that does not read, and the daemon as a process. The client's socket is full before it is handed over. */
import assert from "node:assert/strict";
import { fill, pairEnds, tcpEnds } from "../support/clients.ts";
import { startDaemon } from "../support/daemon.ts";

for (const [name, makeEnds] of [["a socketpair", pairEnds], ["TCP", tcpEnds]] as const) {
  Deno.test(`${name}: while a client is full its backend is not read, and later nothing is missing`, async () => {
    await using daemon = await startDaemon();
    const ends = await makeEnds();
    const filled = fill(ends);
    using slow = daemon.handOff({ prompt: "slow" }, { ends });
    await daemon.until(
      "the first event",
      async () => await daemon.metric("daemon_stream_events_sent_total") >= 1,
    );
    // Others have their whole answers meanwhile.
    for (let other = 0; other < 3; other++) {
      using client = daemon.handOff();
      assert.match(await client.readAll(), /\[DONE\]/);
    }
    assert.equal(await daemon.metric("daemon_stream_events_sent_total"), 1 + 3 * 18);
    assert.equal(await daemon.metric("daemon_streams_active"), 1);
    const answer = await slow.readAll();
    assert.equal(answer.slice(0, filled), "f".repeat(filled));
    using same = daemon.handOff({ prompt: "slow" });
    assert.equal(answer.slice(filled), await same.readAll());
    assert.equal(await daemon.metric("daemon_stream_events_sent_total"), 5 * 18);
  });
}

Deno.test("a client that takes nothing is given up after the write time-out", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_WRITE_TIMEOUT_SECS: "0.3" } });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  for (const [index, makeEnds] of [pairEnds, tcpEnds].entries()) {
    const ends = await makeEnds();
    fill(ends);
    using _slow = daemon.handOff({ request_id: `slow-${index}` }, { ends });
    await daemon.until(
      "the end",
      () =>
        daemon.log.some(({ fields }) =>
          fields["reason"] === "write_timeout" &&
          fields["request_id"] === `slow-${index}`
        ),
    );
    await daemon.fdsBackTo(fds);
  }
  assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "write_timeout" }), 2);
  assert.equal(await daemon.metric("daemon_streams_active"), 0);
});

Deno.test("a drain that ends before a full client has read adds nothing after its [DONE]", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "0", DAEMON_SHUTDOWN_TIMEOUT_SECS: "0" },
  });
  const ends = pairEnds();
  fill(ends);
  using client = daemon.handOff({}, { ends });
  await daemon.until("the stream", async () => await daemon.metric("daemon_streams_active") === 1);
  daemon.signal("SIGTERM");
  await daemon.logged("Streams left at the end of the drain are told so");
  const answer = (await client.readAll()).replace(/^f+/, "");
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[^]*(\[DONE\]|"Server is shutting down"\})\n\n$/);
  assert.equal(answer.match(/HTTP\/1\.1/g)?.length, 1);
  assert.equal(await daemon.exit(), 0);
});

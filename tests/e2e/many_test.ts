/** Many streams at once. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import type { TestClient } from "../support/clients.ts";
import { startDaemon } from "../support/daemon.ts";
import { DONE_EVENT, STREAM_HEAD, textEvent } from "../support/wire.ts";

const STREAMS = 2000;

for (const workers of ["1", "2"]) {
  Deno.test(`${STREAMS} streams at once, ${workers} worker(s): none is lost, no descriptor is left`, async () => {
    // So much between the pieces that all are under way before the first one ends.
    await using daemon = await startDaemon({
      env: { DAEMON_WORKERS: workers, DAEMON_TOKEN_DELAY_MS: "300" },
    });
    await (await daemon.page("/metrics")).text();
    const fds = daemon.openFds();
    const prompt = "the same for all";
    const pieces = mockPieces(prompt);
    const expected = STREAM_HEAD + pieces.map(textEvent).join("") + DONE_EVENT;
    const clients: TestClient[] = [];
    for (let count = 0; count < STREAMS; count++) {
      clients.push(daemon.handOff({ prompt }));
    }
    await daemon.until(
      "all streams",
      async () => await daemon.metric("daemon_streams_peak") === STREAMS,
    );
    let lost = 0;
    for (const client of clients) {
      if (await client.readAll() !== expected) lost++;
      client.close();
    }
    assert.equal(lost, 0);
    await daemon.fdsBackTo(fds);
    assert.equal(await daemon.metric("daemon_connections_total"), STREAMS);
    assert.equal(await daemon.metric("daemon_connections_active"), 0);
    assert.equal(await daemon.metric("daemon_stream_events_sent_total"), STREAMS * 18);
    daemon.signal("SIGTERM");
    assert.equal(await daemon.exit(), 0);
  });
}

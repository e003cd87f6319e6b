/** What a sender has done to a socket before it hands it over does not reach the daemon's streams. */
import assert from "node:assert/strict";
import { connect } from "../../src/native/sender.ts";
import { type ClientEnds, tcpEnds } from "../support/clients.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { TestFolder } from "../support/folders.ts";
import { fillWindow, setOption } from "../support/socket_options.ts";
import { activator } from "../support/systemd.ts";
import { daemonTest, streamsActive, watched } from "../support/with_daemon.ts";

const setup = { env: { DAEMON_TOKEN_DELAY_MS: "50" } };
/** How long close(2) of such a socket waits for data that nobody takes. */
const LINGER_SECS = 5;
/** Far below that, and far above the 50 ms that are asked for. */
const LONGEST_MS = 2000;

/** A client that reads nothing, and whose close(2) waits for it. */
async function lingering(): Promise<ClientEnds> {
  const ends = await tcpEnds();
  setOption(ends.far, "SO_LINGER", 1, LINGER_SECS);
  await fillWindow(ends);
  return ends;
}

/** One whole answer. Gives back the longest time between two reads, the handoff included. */
async function longestWaitMs(daemon: TestDaemon): Promise<number> {
  let last = performance.now();
  let longest = 0;
  let text = "";
  const decoder = new TextDecoder();
  using client = daemon.handOff();
  for (let chunk = await client.read(); chunk !== undefined; chunk = await client.read()) {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    text += decoder.decode(chunk, { stream: true });
  }
  assert.match(text, /^HTTP\/1\.1 200 [^]*data: \[DONE\]\n\n$/);
  return longest;
}

daemonTest("SO_LINGER: the end of an answer that nobody reads holds nobody up", setup, async (daemon) => {
  const ends = await lingering();
  using _client = daemon.handOff({}, { ends });
  await streamsActive(daemon, 1);
  const longest = await longestWaitMs(daemon); // the other answer ends before this one
  assert(longest < LONGEST_MS, `${longest} ms between two events`);
  const complete = () => daemon.log.filter(({ message }) => message === "Stream complete").length;
  await daemon.until("both ends", () => complete() === 2);
});

daemonTest("SO_LINGER: clients that are refused hold nobody up", setup, async (daemon) => {
  const fds = daemon.openFds();
  const both = [await lingering(), await lingering()];
  daemon.signal("SIGSTOP"); // the last close of a socket is the one that waits: it shall be the daemon's
  using sender = connect(daemon.pathOf("seqpacket"), "seqpacket");
  sender.send(new TextEncoder().encode("{}"), both.map(({ far }) => far));
  for (const { far } of both) far.close();
  daemon.signal("SIGCONT");
  for (const newcomer of ["first", "second"]) {
    const longest = await longestWaitMs(daemon);
    assert(longest < LONGEST_MS, `the ${newcomer} newcomer waited ${longest} ms for an event`);
  }
  for (const { near } of both) near.close();
  await daemon.logged("Handoff refused");
  sender.close();
  await daemon.fdsBackTo(fds);
});

daemonTest("SO_LINGER of 0 s: who reads only after the end has all of the answer", setup, async (daemon) => {
  const ends = await tcpEnds();
  setOption(ends.far, "SO_LINGER", 1, 0);
  const filled = await fillWindow(ends);
  using client = daemon.handOff({}, { ends });
  await daemon.logged("Stream complete");
  await daemon.until("its close", async () => await daemon.metric("daemon_connections_active") === 0);
  assert.match((await client.readAll()).slice(filled), /^HTTP[^]*\[DONE\]\n\n$/); // fails at a RST
});

daemonTest("TCP_CORK: events go out one by one", setup, async (daemon) => {
  const ends = await tcpEnds();
  setOption(ends.far, "TCP_CORK", 1);
  using client = daemon.handOff({}, { ends });
  let reads = 0;
  while (await client.read() !== undefined) reads++;
  // A corked socket keeps what is small for 200 ms (tcp(7)), so that all 18 would come in 5 reads.
  assert(reads > 10, `18 events in ${reads} reads`);
});

Deno.test({
  name: "SO_PASSPIDFD on a listener from systemd: the descriptors of senders are closed",
  timeout: 60_000,
  async fn() {
    using folder = new TestFolder();
    const path = `${folder.path}/passed.sock`;
    await using daemon = await startDaemon({
      wrapper: activator([`seqpacket:${path}`, `stream:${path}.stream`]),
      env: { DAEMON_SOCKET_PATH: path, DAEMON_TOKEN_DELAY_MS: "0", SOCKET_OPTIONS: "76" },
    });
    daemon.socketPath = path;
    const fds = daemon.openFds();
    await watched(daemon, async () => {
      for (let count = 0; count < 20; count++) {
        using client = daemon.handOff({}, { kind: count % 2 === 0 ? "seqpacket" : "stream" });
        assert.match(await client.readAll(), /\[DONE\]\n\n$/);
      }
      await daemon.fdsBackTo(fds);
    });
  },
});

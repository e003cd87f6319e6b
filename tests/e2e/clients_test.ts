/** What clients do besides reading: they go away, and they talk. */
import assert from "node:assert/strict";
import { pairEnds, tcpEnds } from "../support/clients.ts";
import { handOff, socketPair } from "../../src/native/sender.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { endWriting, getOption } from "../support/socket_options.ts";

const KINDS = [["socketpair", pairEnds], ["TCP", tcpEnds]] as const;
// The first piece comes at once, the second in an hour.
const slow = { env: { DAEMON_TOKEN_DELAY_MS: "3600000" } };

/** Waits for the end of a stream whose client has just gone; at most a second may pass. */
async function cancelled(daemon: TestDaemon, count: number): Promise<void> {
  const goneAt = performance.now();
  const ended = () =>
    daemon.log.filter(({ message, fields }) =>
      message === "Stream ended early" && fields["reason"] === "client_disconnected"
    ).length;
  await daemon.until(`end ${count}`, () => ended() >= count);
  const elapsedMs = performance.now() - goneAt;
  assert(elapsedMs < 1000, `it took ${elapsedMs} ms`);
}

Deno.test("a client that goes away in the middle ends its backend's request", async (t) => {
  await using daemon = await startDaemon(slow);
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  let count = 0;
  for (const [name, makeEnds] of KINDS) {
    await t.step(`${name}: FIN`, async () => {
      using client = daemon.handOff({}, { ends: await makeEnds() });
      await client.readUntil("Hello! ");
      client.close();
      await cancelled(daemon, ++count);
      await daemon.fdsBackTo(fds);
    });
    await t.step(`${name}: RST`, async () => {
      using client = daemon.handOff({}, { ends: await makeEnds() });
      // Wait for the bytes without reading them: to close with something unread is a RST (RFC 9293, 3.10.4).
      await daemon.until(
        "the first event",
        async () => await daemon.metric("daemon_stream_events_sent_total") === count + 1,
      );
      client.close();
      await cancelled(daemon, ++count);
      await daemon.fdsBackTo(fds);
    });
  }
  assert.equal(
    await daemon.metric("daemon_stream_errors_total", { reason: "client_disconnected" }),
    count,
  );
  assert.equal(await daemon.metric("daemon_streams_active"), 0);
  assert.equal(await daemon.metric("daemon_connections_active"), 0);
});

Deno.test("a client that says that it has said all counts as gone", async () => {
  await using daemon = await startDaemon(slow);
  const [near, far] = socketPair();
  using client = near;
  handOff(daemon.pathOf("seqpacket"), "seqpacket", new TextEncoder().encode("{}"), far);
  far.close();
  const first = await client.read(20_000);
  assert.match(new TextDecoder().decode(first), /Hello! /);
  endWriting(client);
  await cancelled(daemon, 1);
  assert.equal(await client.read(20_000), undefined);
});

Deno.test("the kernel gives a TCP client up whose bytes stay unacknowledged for the write time-out", async () => {
  await using daemon = await startDaemon({ env: { ...slow.env, DAEMON_WRITE_TIMEOUT_SECS: "7.5" } });
  const { near, far } = await tcpEnds();
  using client = near;
  handOff(daemon.pathOf("seqpacket"), "seqpacket", new TextEncoder().encode("{}"), far);
  await client.readUntil("Hello! ");
  assert.equal(getOption(far, "TCP_USER_TIMEOUT"), 7500); // it is the same socket
  far.close();
});

Deno.test("a client that is gone before its handoff arrives costs nothing", async () => {
  await using daemon = await startDaemon(slow);
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  for (const [index, [, makeEnds]] of KINDS.entries()) {
    const ends = await makeEnds();
    ends.near.close();
    daemon.handOff({}, { ends });
    await cancelled(daemon, index + 1);
  }
  await daemon.fdsBackTo(fds);
});

Deno.test("clients that close after any number of bytes leave nothing behind", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "1" } });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  for (let pieces = 0; pieces < 18; pieces++) {
    for (const [, makeEnds] of KINDS) {
      using client = daemon.handOff({ prompt: "x" }, { ends: await makeEnds() });
      for (let read = 0; read < pieces; read++) await client.read();
      client.close();
    }
  }
  await daemon.fdsBackTo(fds);
  await daemon.until("the last stream", async () => await daemon.metric("daemon_streams_active") === 0);
  assert.equal(await daemon.metric("daemon_connections_active"), 0);
  assert.equal(await daemon.metric("daemon_connections_total"), 36);
});

Deno.test("what a client sends is not read, and yet it gets its answer to the last byte", async (t) => {
  await using daemon = await startDaemon();
  using plain = daemon.handOff();
  const answer = await plain.readAll();
  assert.match(answer, /^HTTP\/1\.1 200 [^]*data: \[DONE\]\n\n$/);
  for (const [name, makeEnds] of KINDS) {
    await t.step(`${name}: bytes sent before the handoff`, async () => {
      const ends = await makeEnds();
      await ends.near.write(new Uint8Array(100_000).fill(0x47));
      using client = daemon.handOff({}, { ends });
      assert.equal(await client.readAll(), answer);
    });
    await t.step(`${name}: bytes sent during the answer`, async () => {
      using client = daemon.handOff({}, { ends: await makeEnds() });
      await client.readUntil("streamed");
      await client.write(new Uint8Array(100_000).fill(0x47));
      assert.equal(await client.readAll(), answer);
    });
  }
});

Deno.test("a client's way out is the same for 400 and 503: unread bytes do not cut the answer off", async () => {
  await using daemon = await startDaemon({ env: { ...slow.env, DAEMON_MAX_CONNECTIONS: "1" } });
  const told = async (data: string, others: number, says: RegExp): Promise<void> => {
    for (const [, makeEnds] of KINDS) {
      const ends = await makeEnds();
      await ends.near.write(new Uint8Array(100_000).fill(0x47));
      using client = daemon.handOff(new TextEncoder().encode(data), { ends });
      assert.match(await client.readAll(), says);
      await daemon.until("its end", async () => await daemon.metric("daemon_connections_active") === others);
    }
  };
  await told("no JSON", 0, /^HTTP\/1\.1 400 [^]*Handoff data is not valid JSON \(7 bytes\)\n$/);
  using only = daemon.handOff();
  await only.readUntil("Hello! ");
  await told("{}", 1, /^HTTP\/1\.1 503 [^]*Too many connections\n$/);
});

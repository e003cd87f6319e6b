/** A client that comes with a handoff that is refused hears why: never silence where exactly one good client came. */
import assert from "node:assert/strict";
import { connect, type OwnedFd } from "../../src/native/sender.ts";
import { type ClientEnds, pairEnds, tcpEnds } from "../support/clients.ts";
import type { TestDaemon } from "../support/daemon.ts";
import { daemonTest } from "../support/with_daemon.ts";

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const LIMIT_BYTES = 1024;
const setup = {
  env: { DAEMON_HANDOFF_BUFFER_BYTES: `${LIMIT_BYTES}`, DAEMON_HANDOFF_TIMEOUT_SECS: "0.3" },
};

/** A plain answer with the connection closed after it, and one line of text. */
function plain(status: string): RegExp {
  return new RegExp(
    `^HTTP/1\\.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: \\d+\r\n` +
      "(Retry-After: \\d+\r\n)?Connection: close\r\n\r\n[^\n]+\n$",
  );
}

/** Sends pieces over one connection, the client with the first. The connection stays open. */
function send(
  daemon: TestDaemon,
  kind: "seqpacket" | "stream",
  pieces: readonly string[],
  { far }: ClientEnds,
): OwnedFd {
  const sender = connect(daemon.pathOf(kind), kind);
  try {
    for (const [index, piece] of pieces.entries()) sender.send(utf8(piece), index === 0 ? [far] : []);
  } catch (error) {
    assert.match(`${error}`, /EPIPE|ECONNRESET/); // refused before all of it was sent
  }
  far.close();
  return sender;
}

const tooMuch = `{"prompt":"${"x".repeat(LIMIT_BYTES)}"}`;
for (const kind of ["seqpacket", "stream"] as const) {
  daemonTest(
    `${kind}: data above the limit is answered 413 over a socketpair and over TCP`,
    setup,
    async (daemon) => {
      await (await daemon.page("/healthz")).text();
      const fds = daemon.openFds();
      for (const [index, makeEnds] of [pairEnds, tcpEnds].entries()) {
        const ends = await makeEnds();
        using client = ends.near;
        {
          using _sender = send(daemon, kind, [tooMuch], ends);
          assert.match(await client.readAll(), plain("413 Content Too Large"));
        }
        const lines = () => daemon.log.filter(({ message }) => message === "Handoff refused");
        await daemon.until("the log line", () => lines().length === index + 1);
        assert.equal(lines()[index]?.fields["reason"], "payload_truncated");
        assert.equal(
          await daemon.metric("daemon_handoffs_failed", { reason: "payload_truncated" }),
          index + 1,
        );
        client.close();
        await daemon.fdsBackTo(fds);
      }
    },
  );
}

daemonTest("STREAM: data that goes above the limit piece by piece is answered 413", setup, async (daemon) => {
  const ends = pairEnds();
  using client = ends.near;
  const pieces = Array.from({ length: 5 }, (_, index) => index === 0 ? '{"prompt":"' : "x".repeat(300));
  using _sender = send(daemon, "stream", pieces, ends);
  assert.match(await client.readAll(), plain("413 Content Too Large"));
});

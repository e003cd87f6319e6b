/** The main job over the real daemon: a handoff in, a stream out, byte for byte. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import type { SocketKind } from "../../src/native/acceptor.ts";
import { pairEnds, tcpEnds } from "../support/clients.ts";
import { startDaemon } from "../support/daemon.ts";

const HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
  "Connection: close\r\nX-Accel-Buffering: no\r\n\r\n";

/** All that a client of the mock backend receives. */
function expectedAnswer(content: string): string {
  const pieces = mockPieces(content);
  return HEAD + pieces.map((text) => `data: ${JSON.stringify({ content: text })}\n\n`).join("") +
    "data: [DONE]\n\n";
}

Deno.test("an answer, byte for byte, over each kind of socket to each kind of client", async (t) => {
  await using daemon = await startDaemon();
  const fds = daemon.openFds();
  for (const kind of ["seqpacket", "stream"] satisfies SocketKind[]) {
    for (const [name, makeEnds] of [["TCP", tcpEnds], ["socketpair", pairEnds]] as const) {
      await t.step(`${kind}, ${name}`, async () => {
        const prompt = `Grüße über ${kind} 😀`;
        using client = daemon.handOff({ prompt }, { kind, ends: await makeEnds() });
        assert.equal(await client.readAll(), expectedAnswer(prompt));
      });
    }
  }
  await daemon.fdsBackTo(fds);
  assert.equal(await daemon.metric("daemon_handoffs_received"), 4);
  assert.equal(await daemon.metric("daemon_stream_events_sent_total"), 4 * 18);
  assert.equal(await daemon.metric("daemon_streams_active"), 0);
});

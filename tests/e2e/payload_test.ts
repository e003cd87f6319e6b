/** The ways in which a handoff's data arrives. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import type { SocketKind } from "../../src/native/acceptor.ts";
import { connect, type OwnedFd } from "../../src/native/sender.ts";
import { pairEnds, type TestClient } from "../support/clients.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { daemonTests } from "../support/with_daemon.ts";

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
// Time for the daemon to read what has come so far: it says nothing that could be awaited.
const pause = () => new Promise((resolve) => setTimeout(resolve, 2));

function quoted(answer: string): string {
  const contents = [...answer.matchAll(/^data: (\{.*)$/gm)].map(([, json]) =>
    JSON.parse(json as string).content
  );
  const asked = (contents[1] as string).slice('You said: "'.length, -'". '.length);
  assert.deepEqual(contents, mockPieces(asked));
  assert.match(answer, /\ndata: \[DONE\]\n\n$/);
  return asked;
}

/** Sends pieces over one STREAM connection, the fd with the piece `fdWith`. Gives back the open connection. */
async function sendPieces(
  daemon: TestDaemon,
  pieces: readonly Uint8Array<ArrayBuffer>[],
  fdWith = 0,
): Promise<{ sender: OwnedFd; client: TestClient }> {
  const sender = connect(daemon.pathOf("stream"), "stream");
  const { near, far } = pairEnds();
  for (const [index, piece] of pieces.entries()) {
    if (index > 0) await pause();
    assert.equal(sender.send(piece, index === fdWith ? [far] : []), piece.length);
  }
  far.close();
  return { sender, client: near };
}

daemonTests("how the data of a handoff arrives", { env: { DAEMON_TOKEN_DELAY_MS: "0" } }, {
  "a STREAM payload cut in two at every byte: in UTF-8, in escapes, between fd and text": async (daemon) => {
    const json = utf8('{"prompt":"ü😀\\n\\"}{\\u00e9\\ud83d\\ude00"}');
    for (let at = 1; at < json.length; at++) {
      const { sender, client } = await sendPieces(daemon, [json.slice(0, at), json.slice(at)]);
      sender.close();
      assert.equal(quoted(await client.readAll()), 'ü😀\n"}{é😀', `cut at ${at}`);
      client.close();
    }
  },

  "a STREAM payload byte by byte, by a sender that stays": async (daemon) => {
    const json = utf8('{"a":{"b":"}"},"prompt":"ü"}');
    const { sender, client } = await sendPieces(daemon, Array.from(json, (byte) => Uint8Array.of(byte)));
    // Nothing but the closing brace says that the data is whole.
    assert.equal(quoted(await client.readAll()), "ü");
    assert.equal(await sender.read(20_000), undefined);
    sender.close();
    client.close();
  },

  "many senders that are half through at a time are all waited for": async (daemon) => {
    const half = Array.from({ length: 200 }, (_, index) => {
      const { near, far } = pairEnds();
      const sender = connect(daemon.pathOf("stream"), "stream");
      sender.send(utf8('{"prompt":'), [far]);
      far.close();
      return { client: near, sender, index };
    });
    for (const { client, sender, index } of half) {
      sender.send(utf8(`"${index}"}`));
      assert((await client.readAll()).includes(`You said: \\"${index}\\"`));
      client.close();
      sender.close();
    }
  },

  "the fd may come with any piece of a STREAM payload": async (daemon) => {
    const pieces = ['{"prom', 'pt":', '"x"}'].map(utf8);
    for (const fdWith of [0, 1, 2]) {
      const { sender, client } = await sendPieces(daemon, pieces, fdWith);
      assert.equal(quoted(await client.readAll()), "x");
      sender.close();
      client.close();
    }
  },

  "a STREAM sender that closes in the middle of its data has said all: the client gets 400": async (
    daemon,
  ) => {
    const { sender, client } = await sendPieces(daemon, [utf8('{"prompt":')]);
    sender.close();
    assert.match(
      await client.readAll(),
      /^HTTP\/1\.1 400 .*\r\n\r\nHandoff data is not valid JSON \(10 bytes\)\n$/s,
    );
    client.close();
  },

  "a NUL byte is a whole STREAM payload, whatever the sender does next": async (daemon) => {
    for (const next of ["stays", "closes", "says more"]) {
      const { sender, client } = await sendPieces(daemon, [
        next === "says more" ? utf8('\0{"prompt":"more"}') : Uint8Array.of(0),
      ]);
      if (next === "closes") sender.close();
      assert.equal(quoted(await client.readAll()), "Hello", next);
      sender.close();
      client.close();
    }
  },

  "128 KiB of data, over each kind of socket": async (daemon, t) => {
    for (const kind of ["seqpacket", "stream"] satisfies SocketKind[]) {
      await t.step(kind, async () => {
        const frame = '{"system":"","prompt":"end"}';
        const json = frame.replace('""', `"${"s".repeat(128 * 1024 - frame.length)}"`);
        using client = daemon.handOff(utf8(json), { kind });
        assert.equal(quoted(await client.readAll()), "end");
      });
    }
  },

  "data that nests as deep as 128 KiB allow is judged as any other, and does no harm": async (daemon) => {
    const depth = 60_000;
    for (
      const [status, json] of [
        [400, "[".repeat(depth) + "]".repeat(depth)],
        [200, `{"messages":[{"role":"user","content":${"[".repeat(depth)}${"]".repeat(depth)}}]}`],
        [400, `{"user_id":1234567890123456789,"a":${"[".repeat(depth)}${"]".repeat(depth)}}`],
        [200, `{"a":`.repeat(depth / 4) + "1" + "}".repeat(depth / 4)],
      ] as const
    ) {
      using client = daemon.handOff(utf8(json));
      assert((await client.readAll()).startsWith(`HTTP/1.1 ${status} `));
    }
  },
});

Deno.test("a STREAM sender that stops in the middle of its data is cut off by the timeout", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "0", DAEMON_HANDOFF_TIMEOUT_SECS: "0.2" },
  });
  const { sender, client } = await sendPieces(daemon, [utf8('{"prompt":')]);
  assert.match(await client.readAll(), /^HTTP\/1\.1 400 /);
  sender.close();
  client.close();
});

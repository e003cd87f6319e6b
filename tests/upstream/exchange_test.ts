import assert from "node:assert/strict";
import { Exchange } from "../../src/upstream/exchange.ts";
import { H1Connection } from "../../src/upstream/h1/connection.ts";
import { H2Connection } from "../../src/upstream/h2/connection.ts";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { FakeStream, settle } from "../support/fake_stream.ts";

/** What was heard, and who hears it. */
function rig() {
  const heard: string[] = [];
  const owner = { changed() {}, returned() {}, gone: () => heard.push("gone") };
  const exchange = (name: string, throws: boolean): Exchange => {
    const head = { method: "POST", url: new URL("http://h/"), headers: [] };
    return new Exchange({ head, headers: [], body: new Uint8Array(0) }, {
      head() {},
      data() {},
      end() {},
      fail: (error) => {
        heard.push(`${name} ${error.kind}`);
        if (throws) throw new Error(`a bug of ${name}'s consumer`);
      },
    });
  };
  return { peer: new FakeStream(), heard, owner, exchange };
}

/** @returns what nobody caught meanwhile, which is to be seen and not to end the isolate of this test */
async function reported(act: () => Promise<void>): Promise<string[]> {
  const messages: string[] = [];
  const onError = (event: ErrorEvent): void => {
    event.preventDefault();
    messages.push(event.error.message);
  };
  addEventListener("error", onError);
  try {
    await act();
  } finally {
    removeEventListener("error", onError);
  }
  return messages;
}

Deno.test("exchange: over HTTP/2, who throws where it is told of a failure keeps nobody else from being told", async () => {
  const { peer, heard, owner, exchange } = rig();
  const connection = new H2Connection(peer, owner, 0);
  peer.feed(h2.settingsFrame([]));
  await connection.ready;
  connection.start(exchange("a", true));
  connection.start(exchange("b", false));
  await settle();
  const messages = await reported(async () => {
    peer.feed(null);
    await connection.closed;
  });
  assert.deepEqual(heard, ["gone", "a unavailable", "b unavailable"]);
  assert.deepEqual(messages, ["a bug of a's consumer"]);
  await settle();
  assert.equal(peer.closed, true);
});

Deno.test("exchange: over HTTP/1.1, who throws where it is told of a failure does not keep its connection open", async () => {
  const { peer, heard, owner, exchange } = rig();
  const connection = new H1Connection(peer, owner, null);
  connection.start(exchange("a", true));
  await settle();
  const messages = await reported(async () => {
    peer.feed(new TextEncoder().encode("no answer at all\r\n\r\n"));
    await connection.closed;
  });
  assert.deepEqual(heard, ["a malformed", "gone"]);
  assert.deepEqual(messages, ["a bug of a's consumer"]);
  assert.equal(peer.closed, true);
});

import assert from "node:assert/strict";
import { Exchange } from "../../src/upstream/exchange.ts";
import { H1Connection } from "../../src/upstream/h1/connection.ts";
import { BackendError } from "../../src/errors.ts";
import { FakeStream, settle } from "../support/fake_stream.ts";

const LEAST = 2_048;
const MOST = 65_536;

/** A stream that remembers how large the buffer of each read was. */
class MeasuredStream extends FakeStream {
  readonly buffers: number[] = [];

  override read(into: Uint8Array): Promise<number | null> {
    this.buffers.push(into.length);
    return super.read(into);
  }
}

/** A connection with an answer under way. */
async function rig(): Promise<{ peer: MeasuredStream; exchange: Exchange; connection: H1Connection }> {
  const peer = new MeasuredStream();
  const owner = { changed: () => {}, returned: () => {}, gone: () => {} };
  const connection = new H1Connection(peer, owner, null);
  const head = { method: "POST", url: new URL("http://h/"), headers: [] };
  const request = { head, headers: [], body: new Uint8Array(0) };
  const exchange = new Exchange(request, { head() {}, data() {}, end() {}, fail() {} });
  connection.start(exchange);
  peer.feed(new TextEncoder().encode("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"));
  await settle();
  return { peer, exchange, connection };
}

async function close(connection: H1Connection): Promise<void> {
  connection.close(new BackendError("other", "the test is over"));
  await assert.doesNotReject(connection.closed);
}

Deno.test("h1 connection: its read buffer grows while each read fills it, and is small again when one does not", async () => {
  const { peer, connection } = await rig();
  peer.feed(new Uint8Array(300_000));
  await settle();
  assert.equal(Math.max(...peer.buffers), MOST);
  assert.equal(peer.buffers.at(-1), LEAST, "the one that waits");
  // Half a large buffer at a time is no reason to hold one in the silence between.
  for (let piece = 0; piece < 3; piece++) {
    peer.feed(new Uint8Array(40_000));
    await settle();
    assert.equal(peer.buffers.at(-1), LEAST);
  }
  await close(connection);
});

Deno.test("h1 connection: a paused one holds no large buffer", async () => {
  const { peer, exchange, connection } = await rig();
  peer.feed(new Uint8Array(LEAST + 2 * LEAST));
  await settle();
  assert.equal(peer.buffers.at(-1), 4 * LEAST, "both were filled");
  exchange.paused = true;
  peer.feed(new Uint8Array(4 * LEAST + 1));
  await settle();
  const reads = peer.buffers.length;
  exchange.resume();
  await settle();
  assert.equal(peer.buffers[reads], LEAST, "the first read after the pause");
  await close(connection);
});

/** A stream whose end its reader hears of before anything that is written later in the same turn goes out. */
class EndingStream extends FakeStream {
  #reading = Promise.withResolvers<number | null>();

  override read(into: Uint8Array): Promise<number | null> {
    const reading = this.#reading = Promise.withResolvers();
    super.read(into).then(reading.resolve, reading.reject);
    return reading.promise;
  }

  end(): void {
    this.#reading.resolve(null);
  }
}

for (const reused of [false, true]) {
  const name = reused ? "one that was used before" : "a fresh one";
  Deno.test(`h1 connection: a request of which nothing was written on ${name} is sent back, and has not failed`, async () => {
    const peer = new EndingStream();
    const heard: string[] = [];
    const connection = new H1Connection(peer, {
      changed() {},
      returned: (exchange, why) =>
        heard.push(`${exchange.request?.head.url.pathname} returned: ${why.message}`),
      gone: () => heard.push("gone"),
    }, null);
    const start = (path: string): void => {
      const head = { method: "POST", url: new URL(`http://h${path}`), headers: [] };
      connection.start(
        new Exchange({ head, headers: [], body: new Uint8Array(1) }, {
          head() {},
          data() {},
          end: () => heard.push(`${path} end`),
          fail: (error) => heard.push(`${path} failed: ${error.message}`),
        }),
      );
    };
    if (reused) {
      start("/first");
      await settle();
      peer.feed(new TextEncoder().encode("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
      await settle();
      assert.deepEqual(heard.splice(0), ["/first end"]);
      connection.resting = false;
      peer.takeSent();
    }
    peer.end();
    start("/it");
    await connection.closed;
    assert.deepEqual(heard, ["gone", "/it returned: the server closed the connection"]);
    assert.equal(peer.takeSent().length, 0);
  });
}

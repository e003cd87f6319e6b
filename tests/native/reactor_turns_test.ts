/** What a reactor hands on in a turn of the event loop, and in a rest. */
import assert from "node:assert/strict";
import { closeReactor, makeReactor, Reactor } from "../../src/native/reactor.ts";
import { TestAcceptor } from "../support/acceptor.ts";
import { closeAll, tcpEnds } from "../support/clients.ts";
import { TestReactor } from "../support/reactor.ts";

/** Uses up so much time. */
function burn(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

Deno.test("what was taken for a client that is closed meanwhile reaches nobody", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const [a, b] = [await reactor.accept(), await reactor.accept()];
  reactor.work = () => {
    // The turn is over with this event; the other client's waits in the buffer.
    burn(3);
    const other = reactor.events[0]?.[0] === a.client ? b.client : a.client;
    if (reactor.events.length === 1) reactor.reactor.close(other);
  };
  closeAll([a.near, b.near]);
  reactor.reactor.rest(50);
  assert.equal(reactor.events.length, 1);
  await reactor.reactor.caughtUp();
  assert.equal(reactor.events.length, 1);
});

Deno.test("a turn takes 128 handoffs at most, so that the event loop has its turns between them", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const clients = Array.from({ length: 500 }, () => acceptor.handOff());
  acceptor.blockUntilActive(500);
  let turns = 0;
  const count = (): void => void (turns++, reactor.handoffs.length < 500 && setImmediate(count));
  setImmediate(count);
  await reactor.until(() => reactor.handoffs.length === 500);
  assert(reactor.stretches.every((handoffs) => handoffs <= 128), String(reactor.stretches));
  assert(turns >= reactor.stretches.length - 2, `${turns} turns, ${reactor.stretches.length} stretches`);
  closeAll(clients);
});

Deno.test("a turn takes several long conversations", async () => {
  await using acceptor = new TestAcceptor({ handoffBufferBytes: 131_072 });
  await using reactor = new TestReactor(acceptor);
  const text = JSON.stringify({ prompt: "x".repeat(65_000) });
  const clients = Array.from({ length: 20 }, () => acceptor.handOff(text));
  acceptor.blockUntilActive(20);
  await reactor.until(() => reactor.handoffs.length === 20);
  assert(Math.max(...reactor.stretches) > 1, String(reactor.stretches));
  closeAll(clients);
});

Deno.test("a turn ends after a millisecond, whatever it was about, and what is left has a turn of its own", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  reactor.work = () => burn(1);
  const clients = Array.from({ length: 20 }, () => acceptor.handOff());
  acceptor.blockUntilActive(20);
  await reactor.until(() => reactor.handoffs.length === 20);
  assert(reactor.stretches.every((handoffs) => handoffs <= 3), String(reactor.stretches));
  reactor.stretches.length = 0;
  closeAll(clients);
  await reactor.until(() => reactor.events.length === 20);
  assert(reactor.stretches.every((events) => events <= 3), String(reactor.stretches));
});

Deno.test("what comes while a turn's rest waits for the next turn is not forgotten", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const clients = Array.from({ length: 10 }, () => acceptor.handOff());
  acceptor.blockUntilActive(10);
  reactor.work = () => {
    // It rings, and the ring is read while the others wait for their turns.
    if (reactor.handoffs.length === 2) {
      clients.push(acceptor.handOff());
      acceptor.blockUntilActive(11);
    }
    burn(3); // each has a turn of its own
  };
  const forgotten = Promise.withResolvers<never>();
  const timer = setTimeout(() => forgotten.reject(new Error("The last one is not handed on")), 5000);
  await Promise.race([reactor.until(() => reactor.handoffs.length === 11), forgotten.promise]);
  clearTimeout(timer);
  closeAll(clients);
});

Deno.test("running streams keep their pace while many handoffs wait", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  reactor.work = () => burn(0.5);
  const clients = Array.from({ length: 400 }, () => acceptor.handOff());
  acceptor.blockUntilActive(400);
  // How many handoffs are handed on from one beat of 5 ms to the next.
  const between: number[] = [];
  let before = 0;
  const pace = setInterval(() => {
    between.push(reactor.handoffs.length - before);
    before = reactor.handoffs.length;
  }, 5);
  await reactor.until(() => reactor.handoffs.length === 400);
  clearInterval(pace);
  // Ten fit into 5 ms. What is due waits for the turn under way, and perhaps for one more: four each, or five.
  assert(between.every((handoffs) => handoffs <= 20), String(between));
  closeAll(clients);
});

Deno.test("sockets, such as a provider's, have their turns between those of a reactor with much to hand on", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const { near, far } = await tcpEnds();
  const clients = Array.from({ length: 120 }, () => acceptor.handOff());
  acceptor.blockUntilActive(120);
  reactor.work = () => {
    if (reactor.handoffs.length === 10) far.send(new Uint8Array(1));
    burn(1); // so that a turn has two or three
  };
  await near.read();
  const handedOn = reactor.handoffs.length;
  assert(handedOn >= 10 && handedOn < 40, `read after ${handedOn} handoffs`);
  await reactor.until(() => reactor.handoffs.length === 120);
  closeAll([near, ...clients]);
  far.close();
});

Deno.test("caughtUp resolves when all that waited was handed on, also if nothing does", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  await reactor.reactor.caughtUp();
  reactor.work = () => burn(0.3);
  const clients = Array.from({ length: 100 }, () => acceptor.handOff());
  acceptor.blockUntilActive(100);
  await reactor.reactor.caughtUp();
  assert.equal(reactor.handoffs.length, 100);
  closeAll(clients);
});

Deno.test("caughtUp resolves when the reactor is shut down, or fails", async () => {
  await using acceptor = new TestAcceptor();
  const shut = new TestReactor(acceptor);
  const waiting = shut.reactor.caughtUp();
  await shut[Symbol.asyncDispose]();
  await waiting;
  await shut.reactor.caughtUp();
  const failing = new TestReactor(acceptor);
  const failed = assert.rejects(failing.running, { name: "ShimError" });
  const caughtUp = failing.reactor.caughtUp();
  closeReactor(failing.reactor.handle);
  await caughtUp;
  await failed;
  failing.reactor.shutDown();
});

Deno.test("a rest ends with a handoff, which is handed on before it returns", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  reactor.reactor.rest(1);
  assert.deepEqual(reactor.handoffs, []);
  using _client = acceptor.handOff({ prompt: "x" });
  const startedMs = performance.now();
  reactor.reactor.rest(60_000);
  assert(performance.now() - startedMs < 30_000);
  assert.deepEqual(reactor.handoffs.map(({ text }) => text), ['{"prompt":"x"}']);
});

Deno.test("a rest lasts as long as it was asked for, and what happens to clients meanwhile is told after it", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const { near, client } = await reactor.accept();
  near.close();
  const startedMs = performance.now();
  reactor.reactor.rest(50);
  assert(performance.now() - startedMs >= 49);
  assert.deepEqual(reactor.events, [[client, 0]]);
});

Deno.test("there is no rest while handoffs wait for their turn", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const clients = Array.from({ length: 200 }, () => acceptor.handOff());
  acceptor.blockUntilActive(200);
  reactor.reactor.rest(60_000); // a turn's share
  const { length } = reactor.handoffs;
  assert(length > 0 && length <= 128, `${length} handoffs`);
  reactor.reactor.rest(60_000);
  assert.equal(reactor.handoffs.length, length);
  await reactor.until(() => reactor.handoffs.length === 200);
  closeAll(clients);
});

Deno.test("a reactor that has ended gives no rest", async () => {
  await using acceptor = new TestAcceptor();
  const ended = new TestReactor(acceptor);
  await ended[Symbol.asyncDispose]();
  ended.reactor.rest(60_000);
  const reactor = new Reactor(makeReactor(acceptor.acceptor.handle));
  closeReactor(reactor.handle);
  reactor.rest(60_000);
  reactor.shutDown();
});

Deno.test("shut down by an owner in the middle of a turn, it hands on nothing more", async () => {
  await using acceptor = new TestAcceptor();
  const reactor = new TestReactor(acceptor);
  reactor.work = () => reactor.reactor.shutDown();
  const clients = Array.from({ length: 10 }, () => acceptor.handOff());
  acceptor.blockUntilActive(10);
  await reactor.running;
  assert.equal(reactor.handoffs.length, 1);
  assert.equal(acceptor.acceptor.active(), 0);
  for (const client of clients) assert.equal(await client.read(), undefined);
  closeAll(clients);
});

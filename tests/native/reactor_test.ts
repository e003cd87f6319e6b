/** The reactor over real sockets in this process. */
import assert from "node:assert/strict";
import { openFds } from "../../src/native/process.ts";
import { closeReactor, Reactor } from "../../src/native/reactor.ts";
import { TestAcceptor } from "../support/acceptor.ts";
import { type ClientEnds, pairEnds, tcpEnds, type TestClient } from "../support/clients.ts";
import { TestReactor } from "../support/reactor.ts";

const ownUid = async (): Promise<number> => (await Deno.stat("/proc/self")).uid as number;

/** Uses up so much time. */
function burn(ms: number): void {
  for (const until = performance.now() + ms; performance.now() < until;);
}

function closeAll(clients: readonly TestClient[]): void {
  for (const client of clients) client.close();
}

Deno.test("a handoff comes with its data and time", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  using _client = acceptor.handOff({ prompt: "ü" }, pairEnds(), "stream");
  await reactor.until(() => reactor.handoffs.length === 1);
  const { durationSecs, client, ...rest } = reactor.handoffs[0] as typeof reactor.handoffs[0];
  assert.deepEqual(rest, { text: '{"prompt":"ü"}', overLimit: false, noRoom: false, refusal: undefined });
  assert(Number.isInteger(client) && durationSecs >= 0 && durationSecs < 5);
});

Deno.test("handoffs beyond the limit say so", async () => {
  await using acceptor = new TestAcceptor({ maxConnections: 1 });
  await using reactor = new TestReactor(acceptor);
  const first = await reactor.accept();
  const second = await reactor.accept();
  assert.deepEqual(reactor.handoffs.map(({ overLimit }) => overLimit), [false, true]);
  assert.equal(acceptor.acceptor.active(), 2);
  reactor.reactor.close(second.client);
  assert.equal(acceptor.acceptor.active(), 1);
  closeAll([first.near, second.near]);
});

Deno.test("handoffs where nobody admits any say so; where another does, they go there", async () => {
  await using acceptor = new TestAcceptor();
  await using full = new TestReactor(acceptor);
  full.reactor.admit(false);
  const first = await full.accept();
  assert.equal(full.handoffs[0]?.noRoom, true);
  await using other = new TestReactor(acceptor);
  const clients = [];
  for (let count = 0; count < 5; count++) clients.push((await other.accept()).near);
  assert(other.handoffs.every(({ noRoom }) => !noRoom));
  other.reactor.admit(false);
  full.reactor.admit(true);
  const last = await full.accept();
  assert.deepEqual([full.handoffs.length, full.handoffs[1]?.noRoom], [2, false]);
  closeAll([first.near, last.near, ...clients]);
});

Deno.test("a refused handoff that brought a good client brings it with the reason, to be told", async () => {
  const uid = await ownUid();
  for (
    const [policy, text, reason, detail] of [
      [{ handoffBufferBytes: 100 }, "x".repeat(101), "payload_truncated", 100],
      [{ allowedUids: [uid + 1] }, "{}", "uid_not_allowed", uid],
    ] as const
  ) {
    await using acceptor = new TestAcceptor(policy);
    await using reactor = new TestReactor(acceptor);
    const { near, client } = await reactor.accept(text);
    await acceptor.until(() => acceptor.refusals.length > 0);
    const { refusal, text: payload } = reactor.handoffs[0] as typeof reactor.handoffs[0];
    assert.deepEqual([refusal, payload], [reason, ""]);
    const [{ count, detail: told, reason: toldReason } = {}] = acceptor.refusals;
    assert.deepEqual([acceptor.refusals.length, count, toldReason, told], [1, 1, reason, detail]);
    assert.deepEqual(reactor.send([client, "no", true]), [2]);
    reactor.reactor.closedByEnd(client);
    assert.equal(await near.readAll(), "no");
    assert.equal(acceptor.acceptor.active(), 0);
    near.close();
  }
});

Deno.test("payloads longer than the first buffer arrive whole, among short ones, in order", async () => {
  await using acceptor = new TestAcceptor({ handoffBufferBytes: 200_000 });
  await using reactor = new TestReactor(acceptor);
  const texts = ["{}", `{"a":"${"x".repeat(150_000)}"}`, '{"b":1}', `{"c":"${"y".repeat(60_000)}"}`, "{}"];
  const clients = texts.map((text) => acceptor.handOff(text));
  acceptor.blockUntilActive(texts.length);
  await reactor.until(() => reactor.handoffs.length === texts.length);
  assert.deepEqual(reactor.handoffs.map(({ text }) => text), texts);
  closeAll(clients);
});

Deno.test("a batch reaches each client; END closes in order", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const [a, b] = [await reactor.accept(), await reactor.accept()];
  assert.deepEqual(reactor.send([a.client, "for a"], [b.client, "for b", true]), [5, 5]);
  reactor.reactor.closedByEnd(b.client);
  assert.equal(await b.near.readAll(), "for b");
  assert.equal(await a.near.readUntil("for a"), "for a");
  assert.equal(acceptor.acceptor.active(), 1);
  closeAll([a.near, b.near]);
});

Deno.test("results of a batch larger than any before", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const { near, client } = await reactor.accept();
  const entries = Array.from({ length: 3000 }, (_, index) => [client, index < 2990 ? "" : "x"] as const);
  assert.equal(String(reactor.send(...entries)), String(entries.map(([, text]) => text.length)));
  reactor.reactor.close(client);
  assert.equal(await near.readAll(), "x".repeat(10));
  near.close();
});

Deno.test("a send that comes up short, and room again", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const { near, client } = await reactor.accept();
  const text = "x".repeat(1_000_000);
  const [taken] = reactor.send([client, text]) as [number];
  assert(taken > 0 && taken < text.length);
  assert.deepEqual(reactor.send([client, "overtakes"]), [0]);
  let read = 0;
  while (read < taken) read += (await near.read())?.length ?? assert.fail("the end");
  await reactor.until(() => reactor.events.length > 0);
  assert.deepEqual(reactor.events, [[client, "writable"]]);
  assert.deepEqual(reactor.send([client, "after", true]), [5]);
  reactor.reactor.closedByEnd(client);
  assert.equal(await near.readAll(), "after");
  near.close();
});

Deno.test("a client's end is told once; closed, nothing is told of it", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const [a, b] = [await reactor.accept(), await reactor.accept()];
  a.near.close();
  await reactor.until(() => reactor.events.length > 0);
  assert.deepEqual(reactor.events, [[a.client, 0]]);
  reactor.reactor.close(b.client);
  reactor.reactor.close(a.client);
  b.near.close();
  assert.equal(acceptor.acceptor.active(), 0);
  const successor = await reactor.accept();
  assert.equal(successor.client, a.client, "its number is used again");
  assert.equal(reactor.events.length, 1);
  successor.near.close();
});

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

Deno.test("a turn ends after 2 ms, whatever it was about, and what is left has a turn of its own", async () => {
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
  const reactor = new Reactor(acceptor.acceptor.handle);
  closeReactor(reactor.handle);
  reactor.rest(60_000);
  reactor.shutDown();
});

Deno.test("shutting a reactor down closes its clients; what its owners still do with them does nothing", async () => {
  await using acceptor = new TestAcceptor();
  const reactor = new TestReactor(acceptor);
  const { near, client } = await reactor.accept();
  await reactor[Symbol.asyncDispose]();
  assert.equal(await near.read(), undefined);
  reactor.reactor.close(client);
  reactor.reactor.shutDown();
  assert.equal(acceptor.acceptor.active(), 0);
  near.close();
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

Deno.test("handoffs that a reactor had not taken go to another one", async () => {
  await using acceptor = new TestAcceptor();
  const first = new TestReactor(acceptor);
  const clients = Array.from({ length: 10 }, (_, index) => acceptor.handOff({ prompt: String(index) }));
  acceptor.blockUntilActive(10);
  await using next = new TestReactor(acceptor);
  await first[Symbol.asyncDispose]();
  await next.until(() => next.handoffs.length === 10);
  assert.deepEqual(first.handoffs, []);
  closeAll(clients);
});

Deno.test("a reactor that is closed behind its back fails its run by name", async () => {
  await using acceptor = new TestAcceptor();
  const reactor = new Reactor(acceptor.acceptor.handle);
  const failed = assert.rejects(
    reactor.run({ handoff: () => assert.fail("there are none") }),
    { name: "ShimError", message: "A thread of the shim ended by itself" },
  );
  closeReactor(reactor.handle);
  await failed;
  closeReactor(reactor.handle);
  reactor.shutDown();
});

Deno.test("one that cannot be started, such as a second time, fails its run", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  await assert.rejects(reactor.reactor.run({ handoff: () => assert.fail("not here") }), /EBUSY/);
});

Deno.test("an owner that throws fails the run by its own error; shut down, the reactor closes its client", async () => {
  await using acceptor = new TestAcceptor();
  const reactor = new Reactor(acceptor.acceptor.handle);
  const bug = new TypeError("a bug");
  const failed = assert.rejects(
    reactor.run({
      handoff: () => {
        throw bug;
      },
    }),
    bug,
  );
  using client = acceptor.handOff();
  await failed;
  reactor.shutDown();
  assert.equal(await client.read(), undefined);
});

for (
  const [name, makeEnds] of [["socketpairs", () => Promise.resolve(pairEnds())], ["TCP", tcpEnds]] as const
) {
  Deno.test(`no fd is left of clients over ${name}, however they ended`, async () => {
    await using acceptor = new TestAcceptor();
    const ends: ClientEnds[] = [];
    for (let count = 0; count < 5; count++) ends.push(await makeEnds());
    const nears = ends.map(({ near }) => near);
    const before = openFds();
    {
      await using reactor = new TestReactor(acceptor);
      const clients: number[] = [];
      for (const end of ends) clients.push((await reactor.accept({}, end)).client);
      const [ended, closed, gone, full] = clients as [number, number, number, number, number];
      assert.deepEqual(reactor.send([ended, "bye", true]), [3]);
      reactor.reactor.closedByEnd(ended);
      reactor.reactor.close(closed);
      nears[2]?.close();
      await reactor.until(() => reactor.events.length === 1);
      reactor.reactor.close(gone);
      reactor.send([full, "x".repeat(10_000_000)]);
    }
    // Each far end was the daemon's, and one near end is closed.
    assert.equal(openFds(), before - 5 - 1);
    closeAll(nears);
  });
}

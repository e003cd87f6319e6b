/** The reactor over real sockets in this process. */
import assert from "node:assert/strict";
import { openFds } from "../../src/native/process.ts";
import { closeReactor, makeReactor, Reactor } from "../../src/native/reactor.ts";
import { TestAcceptor } from "../support/acceptor.ts";
import { type ClientEnds, closeAll, pairEnds, tcpEnds } from "../support/clients.ts";
import { TestReactor } from "../support/reactor.ts";
import { until } from "../support/until.ts";

const ownUid = async (): Promise<number> => (await Deno.stat("/proc/self")).uid as number;

Deno.test("a handoff comes with its data and time", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const sentMs = performance.now();
  using _client = acceptor.handOff({ prompt: "ü" }, pairEnds(), "stream");
  await reactor.until(() => reactor.handoffs.length === 1);
  const tookSecs = (performance.now() - sentMs) / 1000;
  const { durationSecs, client, ...rest } = reactor.handoffs[0] as typeof reactor.handoffs[0];
  assert.deepEqual(rest, {
    text: '{"prompt":"ü"}',
    overLimit: false,
    noRoom: false,
    moved: false,
    gone: false,
    refusal: undefined,
  });
  assert(Number.isInteger(client) && durationSecs >= 0 && durationSecs < tookSecs);
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

Deno.test("long payloads arrive whole, among short ones, in order", async () => {
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
  const reactor = new Reactor(makeReactor(acceptor.acceptor.handle));
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
  const reactor = new Reactor(makeReactor(acceptor.acceptor.handle));
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
    await until("their descriptors' end", () => openFds() <= before - 5 - 1);
    closeAll(nears);
  });
}

Deno.test("data that the buffer has no room for arrives whole", async () => {
  await using acceptor = new TestAcceptor();
  await using first = new TestReactor(acceptor);
  await using second = new TestReactor(acceptor);
  const { near, client } = await first.accept();
  const text = "x".repeat(2_500_000);
  assert.equal(first.reactor.move(client, second.reactor.handle, new TextEncoder().encode(text)), true);
  await second.until(() => second.handoffs.length === 1);
  assert(second.handoffs[0]?.text === text);
  second.reactor.close(second.handoffs[0].client);
  near.close();
});

Deno.test("a client goes from one reactor to another with its data; it stays where that has ended", async () => {
  await using acceptor = new TestAcceptor();
  await using first = new TestReactor(acceptor);
  await using second = new TestReactor(acceptor);
  const { near, client } = await first.accept();
  const payload = new TextEncoder().encode('{"a":"ü"}');
  assert.equal(first.reactor.move(client, second.reactor.handle, payload), true);
  await second.until(() => second.handoffs.length === 1);
  const [{ client: moved, ...handoff }] = second.handoffs as [typeof second.handoffs[0]];
  const seen = { text: '{"a":"ü"}', overLimit: false, noRoom: false, moved: true, gone: false };
  assert.deepEqual(handoff, { ...seen, refusal: undefined, durationSecs: 0 });
  assert.deepEqual(second.send([moved, "x", true]), [1]);
  second.reactor.closedByEnd(moved);
  assert.equal(await near.readAll(), "x");
  const other = await first.accept();
  second.reactor.shutDown();
  assert.equal(first.reactor.move(other.client, second.reactor.handle, payload), false);
  first.reactor.close(other.client);
  closeAll([near, other.near]);
});

/** The acceptor over real sockets in this process. */
import assert from "node:assert/strict";
import { Acceptor } from "../../src/native/acceptor.ts";
import { openShim } from "../../src/native/library.ts";
import { openFds } from "../../src/native/process.ts";
import { makeReactor, Reactor } from "../../src/native/reactor.ts";
import { connect, socketPair } from "../../src/native/sender.ts";
import { TEST_POLICY, TestAcceptor } from "../support/acceptor.ts";
import { TestReactor } from "../support/reactor.ts";
import { until } from "../support/until.ts";

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** How many of all refusals had this reason. */
const refused = ({ refusals }: TestAcceptor, wanted: string): number =>
  refusals.reduce((sum, { reason, count }) => sum + (reason === wanted ? count : 0), 0);

Deno.test("a refusal comes with its reason, size and time", async () => {
  await using acceptor = new TestAcceptor();
  const beganMs = performance.now();
  using sender = connect(acceptor.pathOf("seqpacket"), "seqpacket");
  sender.send(utf8("{}"));
  await acceptor.until(() => acceptor.refusals.length === 1);
  const tookSecs = (performance.now() - beganMs) / 1000;
  const { durationSecs, ...refusal } = acceptor.refusals[0] as typeof acceptor.refusals[0];
  assert.deepEqual(refusal, { reason: "no_fd", count: 1, receivedBytes: 2, detail: 0 });
  assert(durationSecs > 0 && durationSecs <= tookSecs, `${durationSecs} of ${tookSecs} s`);
});

Deno.test("many refusals of several reasons are counted, each of them", async () => {
  await using acceptor = new TestAcceptor();
  const [a, b] = socketPair();
  for (let count = 0; count < 300; count++) {
    using sender = connect(acceptor.pathOf("seqpacket"), "seqpacket");
    if (count % 3 === 0) sender.send(utf8("{}"), [a, b]);
    else sender.send(utf8("{}"));
  }
  const counts = () => [refused(acceptor, "no_fd"), refused(acceptor, "many_fds")];
  await acceptor.until(() => String(counts()) === "200,100");
  assert.equal(acceptor.refusals.find(({ reason }) => reason === "many_fds")?.detail, 2);
  a.close();
  b.close();
});

Deno.test("a changed policy holds for what comes", async () => {
  await using acceptor = new TestAcceptor({ handoffBufferBytes: 1024 });
  await using reactor = new TestReactor(acceptor);
  acceptor.acceptor.configure({ ...TEST_POLICY, handoffBufferBytes: 100_000 });
  const text = `{"a":"${"x".repeat(90_000)}"}`;
  using _client = (await reactor.accept(text)).near;
  assert.equal(reactor.handoffs[0]?.text, text);
});

Deno.test("a handoff that says nothing is refused after its time, or at once by a stop that does not wait", async () => {
  for (const handoffTimeoutMs of [50, 3_600_000]) {
    await using acceptor = new TestAcceptor({ handoffTimeoutMs });
    using _silent = connect(acceptor.pathOf("seqpacket"), "seqpacket");
    if (handoffTimeoutMs > 50) {
      acceptor.acceptor.stop(false);
      acceptor.acceptor.stop(true);
    }
    await acceptor.until(() => refused(acceptor, "timeout") === 1);
    assert.equal(acceptor.refusals[0]?.detail, handoffTimeoutMs);
    if (handoffTimeoutMs > 50) await acceptor.until(() => acceptor.drains === 1);
  }
});

Deno.test("after a stop the backlog is served, then drained is said once, and the paths are gone", async () => {
  await using acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  const clients = Array.from({ length: 20 }, () => acceptor.handOff());
  await acceptor.drain();
  await reactor.reactor.caughtUp();
  assert.deepEqual([reactor.handoffs.length, acceptor.drains], [20, 1]);
  acceptor.acceptor.stop(false);
  assert.throws(() => connect(acceptor.pathOf("stream"), "stream"), /ENOENT/);
  for (const client of clients) client.close();
  await reactor.until(() => reactor.events.length === 20);
  assert.equal(acceptor.drains, 1);
});

Deno.test("a path that cannot be removed is an error by name; it has stopped all the same", async () => {
  const acceptor = new TestAcceptor();
  await using reactor = new TestReactor(acceptor);
  using _client = acceptor.handOff();
  const path = acceptor.pathOf("seqpacket");
  // A folder that nobody may remove from, in a file system where root is refused, too: the path leads elsewhere now.
  Deno.renameSync(acceptor.folder, `${acceptor.folder}.moved`);
  Deno.writeTextFileSync(acceptor.folder, "a file where the folder was");
  assert.throws(() => acceptor.acceptor.stop(false), /Cannot remove a handoff socket: ENOTDIR/);
  await acceptor.until(() => acceptor.drains === 1);
  await reactor.reactor.caughtUp();
  assert.equal(reactor.handoffs.length, 1);
  Deno.removeSync(acceptor.folder);
  Deno.renameSync(`${acceptor.folder}.moved`, acceptor.folder);
  assert.throws(() => connect(path, "seqpacket"), /ECONNREFUSED/);
  await acceptor[Symbol.asyncDispose]();
});

Deno.test("each handoff goes to the reactor with the fewest clients", async () => {
  await using acceptor = new TestAcceptor();
  await using a = new TestReactor(acceptor);
  await using b = new TestReactor(acceptor);
  const clients = [];
  for (let count = 0; count < 10; count++) {
    clients.push(acceptor.handOff());
    acceptor.blockUntilActive(count + 1);
  }
  await Promise.all([a.reactor.caughtUp(), b.reactor.caughtUp()]);
  assert.deepEqual([a.handoffs.length, b.handoffs.length], [5, 5]);
  for (const { client } of a.handoffs) a.reactor.close(client);
  for (let count = 0; count < 5; count++) {
    clients.push(acceptor.handOff());
    acceptor.blockUntilActive(6 + count);
  }
  await a.reactor.caughtUp();
  assert.deepEqual([a.handoffs.length, b.handoffs.length], [10, 5]);
  for (const client of clients) client.close();
});

Deno.test("closing it closes the reactors that are left, and their clients; it can be done twice", async () => {
  const before = openFds();
  const acceptor = new TestAcceptor();
  const reactor = new TestReactor(acceptor);
  const { near } = await reactor.accept();
  const failed = assert.rejects(reactor.running, { message: "A thread of the shim ended by itself" });
  await acceptor[Symbol.asyncDispose]();
  acceptor.acceptor.close();
  await failed;
  assert.equal(await near.read(), undefined);
  reactor.reactor.shutDown();
  near.close();
  // What clients of former tests were is closed where nobody waits: it may have counted.
  await until("no more descriptors than before", () => openFds() <= before);
});

Deno.test("one that is closed behind its back fails its run by name", async () => {
  const acceptor = new Acceptor(TEST_POLICY);
  const failed = assert.rejects(
    acceptor.run({ refused: () => {}, drained: () => {}, acceptFailed: () => {} }),
    // Its last record may still ring.
    { name: "ShimError", message: /^A thread of the shim ended by itself$|: no such acceptor/ },
  );
  openShim().shim_acceptor_close(acceptor.handle);
  await failed;
  acceptor.close();
});

Deno.test("a listener of events that throws fails the run by its own error", async () => {
  const folder = Deno.makeTempDirSync();
  const acceptor = new Acceptor(TEST_POLICY);
  acceptor.listen("seqpacket", { path: `${folder}/x`, mode: 0o600, group: "" });
  const bug = new TypeError("a bug");
  const failed = assert.rejects(
    acceptor.run({
      refused: () => {
        throw bug;
      },
      drained: () => {},
      acceptFailed: () => {},
    }),
    bug,
  );
  using sender = connect(`${folder}/x`, "seqpacket");
  sender.send(utf8("{}"));
  await failed;
  acceptor.close();
  Deno.removeSync(folder, { recursive: true });
});

Deno.test("a bad policy, path, group or kind of socket is an error by name", async () => {
  await using taken = new TestAcceptor();
  assert.throws(
    () => new Acceptor({ ...TEST_POLICY, handoffTimeoutMs: 0 }),
    /Cannot make an acceptor: an argument is out of range/,
  );
  const acceptor = new Acceptor(TEST_POLICY);
  const listen = (path: string, group = "") => acceptor.listen("stream", { path, mode: 0o600, group });
  assert.throws(() => listen(taken.pathOf("seqpacket")), /seqpacket\.sock: another process listens there/);
  assert.throws(() => listen("/etc/passwd"), /something that is not a socket is there/);
  assert.throws(
    () => listen(`${taken.folder}/x`, "no such group"),
    /the system has no group "no such group"/,
  );
  const [a, b] = socketPair();
  assert.throws(() => acceptor.adopt(a.fd), /it is not a listening Unix socket/);
  a.close();
  b.close();
  acceptor.close();
  acceptor.close();
  assert.throws(() => acceptor.active(), /no such acceptor, reactor or client/);
  assert.throws(() => new Reactor(makeReactor(acceptor.handle)), {
    name: "ShimError",
    message: "Cannot make a reactor: no such acceptor, reactor or client",
  });
});

Deno.test("the socket's file has the mode, and a stale one is replaced", () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/d.sock`;
  const first = new Acceptor(TEST_POLICY);
  first.listen("seqpacket", { path, mode: 0o620, group: "" });
  assert.equal((Deno.statSync(path).mode ?? 0) & 0o777, 0o620);
  // As a daemon that died leaves it: a file at which nobody listens.
  Deno.renameSync(path, `${path}.kept`);
  first.close();
  Deno.renameSync(`${path}.kept`, path);
  const second = new Acceptor(TEST_POLICY);
  second.listen("stream", { path, mode: 0o600, group: "" });
  connect(path, "stream").close();
  second.close();
  assert.throws(() => Deno.statSync(path), Deno.errors.NotFound);
  Deno.removeSync(folder, { recursive: true });
});

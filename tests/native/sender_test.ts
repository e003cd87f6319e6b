/** The other side of a handoff, and what the shim knows of the process. */
import assert from "node:assert/strict";
import { ShimError } from "../../src/errors.ts";
import { statusText } from "../../src/native/library.ts";
import { monotonicUsec, notify, openFds } from "../../src/native/process.ts";
import { connect, handOff, OwnedFd, socketPair } from "../../src/native/sender.ts";
import { TestAcceptor } from "../support/acceptor.ts";
import { pairEnds } from "../support/clients.ts";
import { uptimeUsec } from "../support/folders.ts";

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

Deno.test("what does not exist is an error by name", () => {
  assert.throws(
    () => connect("/nonexistent/x.sock", "stream"),
    (error: unknown) =>
      error instanceof ShimError && error.status === -2 &&
      error.message.includes("/nonexistent/x.sock: ENOENT"),
  );
  assert.throws(() => notify("not a path", "READY=1"), /an argument is out of range/);
  assert.equal(statusText(-5004), "another process listens there");
  assert.equal(statusText(-4000), "errno 4000, unknown error");
});

Deno.test("a read ends with bytes, the end, or its time-out", async () => {
  const [a, b] = socketPair();
  await assert.rejects(a.read(20), /Cannot read: ETIMEDOUT/);
  b.send(utf8("x"));
  assert.deepEqual(await a.read(1000), utf8("x"));
  b.close();
  assert.equal(await a.read(1000), undefined);
  a.close();
  a.close();
});

Deno.test("closing during a read waits for it, so that the number is not another's by then", async () => {
  const [a, b] = socketPair();
  const before = openFds();
  const reading = a.read(5000);
  a.close();
  assert.equal(openFds(), before);
  b.send(utf8("x"));
  assert.deepEqual(await reading, utf8("x"));
  assert.equal(openFds(), before - 1);
  b.close();
});

Deno.test("data that does not fit one send is an error, not half a handoff", async () => {
  await using acceptor = new TestAcceptor();
  const ends = pairEnds();
  assert.throws(
    () => handOff(acceptor.pathOf("stream"), "stream", new Uint8Array(10_000_000).fill(0x20), ends.far),
    /Cannot send 10000000 bytes at once, of which \d+ fit: EMSGSIZE/,
  );
  ends.far.close();
  ends.near.close();
});

Deno.test("the clock is the system's monotonic one", () => {
  const uptime = uptimeUsec();
  const usec = monotonicUsec();
  assert(Math.abs(Number(usec) - uptime) < 60e6, `${usec}`);
  assert(monotonicUsec() >= usec);
});

Deno.test("an fd that is owned is closed once", () => {
  const [a, b] = socketPair();
  const before = openFds();
  using owned = new OwnedFd(a.fd);
  owned.close();
  assert.equal(openFds(), before - 1);
  b.close();
});

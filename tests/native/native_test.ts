/** The shim's functions as TypeScript sees them, over real sockets in this process. */
import assert from "node:assert/strict";
import { ShimError } from "../../src/errors.ts";
import { Intake } from "../../src/native/intake.ts";
import { statusText } from "../../src/native/library.ts";
import { monotonicUsec, notify, openFds } from "../../src/native/process.ts";
import {
  type ClientSocket,
  closeReactor,
  END,
  type Handoff,
  Reactor,
  type RefusedHandoff,
} from "../../src/native/reactor.ts";
import { connect, handOff, OwnedFd, socketPair } from "../../src/native/sender.ts";
import { pairEnds } from "../support/clients.ts";
import { uptimeUsec } from "../support/folders.ts";
import { TestIntake } from "../support/intake.ts";

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);

/** A handoff as it was when it came. */
type Seen = Omit<Handoff, "payload"> & { readonly text: string };

/** A reactor over an intake, with what it tells. */
class Running implements AsyncDisposable {
  readonly intake: TestIntake;
  readonly reactor: Reactor;
  readonly handoffs: Seen[] = [];
  readonly refusals: RefusedHandoff[] = [];
  readonly drains: number[] = [];
  readonly #run: Promise<void>;
  #news = Promise.withResolvers<void>();

  constructor(policy: ConstructorParameters<typeof TestIntake>[0] = {}) {
    this.intake = new TestIntake(policy);
    this.reactor = new Reactor(this.intake.intake.handle);
    const tell = () => {
      this.#news.resolve();
      this.#news = Promise.withResolvers();
    };
    this.#run = this.reactor.run({
      handoff: ({ payload, ...handoff }) => {
        this.handoffs.push({ ...handoff, text: new TextDecoder().decode(payload) });
        tell();
      },
      refused: (refusal) => {
        this.refusals.push(refusal);
        tell();
      },
      drained: () => {
        this.drains.push(this.handoffs.length);
        tell();
      },
      acceptFailed: (errno) => assert.fail(`accept: errno ${errno}`),
    });
  }

  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#news.promise;
  }

  /** Hands over and waits for the handoff. */
  async accept(text = "{}"): Promise<{ near: ReturnType<typeof pairEnds>["near"]; socket: ClientSocket }> {
    const { near, far } = pairEnds();
    const before = this.handoffs.length;
    handOff(this.intake.pathOf("seqpacket"), "seqpacket", utf8(text), far);
    far.close();
    await this.until(() => this.handoffs.length > before);
    return { near, socket: (this.handoffs[before] as Seen).socket };
  }

  /** One entry for each text; `end` marks the last ones. */
  send(...entries: [ClientSocket, string, end?: boolean][]): number[] {
    const data = utf8(entries.map(([, text]) => text).join(""));
    let offset = 0;
    const words = entries.flatMap(([{ id }, text, end]) => {
      const entry = [id, offset, text.length, end ? END : 0];
      offset += text.length;
      return entry;
    });
    const batch = { entries: Uint32Array.from(words), count: entries.length, data, dataBytes: data.length };
    return [...this.reactor.send(batch).subarray(0, entries.length)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reactor.close();
    await this.#run;
    this.intake[Symbol.dispose]();
  }
}

Deno.test("a handoff comes with its data, kind, uid and time", async () => {
  await using running = new Running();
  using _client = running.intake.handOff({ prompt: "ü" }, pairEnds(), "stream");
  await running.until(() => running.handoffs.length === 1);
  const { text, overLimit, overStream, durationSecs, senderUid } = running.handoffs[0] as Seen;
  assert.deepEqual([text, overLimit, overStream], ['{"prompt":"ü"}', false, true]);
  assert.equal(senderUid, (await Deno.stat("/proc/self")).uid);
  assert(durationSecs >= 0 && durationSecs < 5);
});

Deno.test("handoffs beyond the limit say so", async () => {
  await using running = new Running({ maxConnections: 1 });
  const first = await running.accept();
  const second = await running.accept();
  assert.deepEqual(running.handoffs.map(({ overLimit }) => overLimit), [false, true]);
  assert.equal(running.intake.intake.active(), 2);
  second.socket.close();
  assert.equal(running.intake.intake.active(), 1);
  for (const { near } of [first, second]) near.close();
});

Deno.test("payloads longer than the first buffer arrive whole", async () => {
  await using running = new Running({ handoffBufferBytes: 200_000 });
  const text = `{"a":"${"x".repeat(150_000)}"}`;
  const { near } = await running.accept(text);
  assert.equal(running.handoffs[0]?.text, text);
  near.close();
});

Deno.test("a batch reaches each client; END closes in order", async () => {
  await using running = new Running();
  const [a, b] = [await running.accept(), await running.accept()];
  assert.deepEqual(running.send([a.socket, "for a"], [b.socket, "for b", true]), [5, 5]);
  b.socket.closedByEnd();
  assert.equal(await b.near.readAll(), "for b");
  assert.equal(await a.near.readUntil("for a"), "for a");
  assert.equal(running.intake.intake.active(), 1);
  for (const { near } of [a, b]) near.close();
});

Deno.test("a send that comes up short, and room again", async () => {
  await using running = new Running();
  const { near, socket } = await running.accept();
  const room = Promise.withResolvers<void>();
  socket.events = {
    gone: (errno) => room.reject(new Error(`gone ${errno}`)),
    writable: () => room.resolve(),
  };
  const text = "x".repeat(1_000_000);
  const [taken] = running.send([socket, text]) as [number];
  assert(taken > 0 && taken < text.length);
  assert.deepEqual(running.send([socket, "overtakes"]), [0]);
  let read = 0;
  while (read < taken) read += (await near.read())?.length ?? assert.fail("the end");
  await room.promise;
  assert.deepEqual(running.send([socket, "after", true]), [5]);
  socket.closedByEnd();
  assert.equal(await near.readAll(), "after");
  near.close();
});

Deno.test("a client's end is told once", async () => {
  await using running = new Running();
  const { near, socket } = await running.accept();
  const gone = Promise.withResolvers<number>();
  socket.events = { gone: (errno) => gone.resolve(errno), writable: () => {} };
  near.close();
  assert.equal(await gone.promise, 0);
  socket.close();
  socket.close();
  assert.equal(running.intake.intake.active(), 0);
});

Deno.test("a refusal comes with its reason and detail", async () => {
  await using running = new Running();
  const sender = connect(running.intake.pathOf("seqpacket"), "seqpacket");
  sender.send(utf8("{}"));
  await running.until(() => running.refusals.length === 1);
  assert.deepEqual({ ...running.refusals[0], durationSecs: 0 }, {
    reason: "no_fd",
    receivedBytes: 2,
    durationSecs: 0,
    detail: 0,
  });
  sender.close();
});

Deno.test("a changed policy holds for what comes", async () => {
  await using running = new Running({ handoffBufferBytes: 1024 });
  running.intake.intake.configure({
    maxConnections: 1,
    handoffTimeoutMs: 1000,
    handoffBufferBytes: 100_000,
    clientTimeoutMs: 1000,
    maxPending: 1,
    allowedUids: [],
  });
  const { near } = await running.accept(`{"a":"${"x".repeat(90_000)}"}`);
  near.close();
});

Deno.test("after a stop the backlog is served, then drained is said once, and the paths are gone", async () => {
  await using running = new Running();
  const clients = Array.from({ length: 20 }, () => running.intake.handOff());
  running.intake.intake.stop();
  await running.until(() => running.drains.length > 0);
  assert.deepEqual(running.drains, [20]);
  running.intake.intake.stop();
  assert.throws(() => connect(running.intake.pathOf("stream"), "stream"), /ENOENT/);
  for (const client of clients) client.close();
});

Deno.test("a rest ends with a handoff, which is handed on before it returns", async () => {
  await using running = new Running();
  running.reactor.rest(1);
  assert.deepEqual(running.handoffs, []);
  using _client = running.intake.handOff({ prompt: "x" });
  running.reactor.rest(60_000);
  assert.deepEqual(running.handoffs.map(({ text }) => text), ['{"prompt":"x"}']);
});

Deno.test("a reactor that has ended gives no rest", async () => {
  const running = new Running();
  await running[Symbol.asyncDispose]();
  running.reactor.rest(60_000);
  using intake = new TestIntake();
  const reactor = new Reactor(intake.intake.handle);
  closeReactor(reactor.handle);
  reactor.rest(60_000);
  reactor.close();
});

Deno.test("closing a reactor closes its clients", async () => {
  const running = new Running();
  const { near } = await running.accept();
  await running[Symbol.asyncDispose]();
  assert.equal(await near.read(), undefined);
  near.close();
});

Deno.test("a reactor that is closed behind its back fails its run by name", async () => {
  using intake = new TestIntake();
  const reactor = new Reactor(intake.intake.handle);
  const failed = assert.rejects(
    reactor.run({ handoff: () => {}, refused: () => {}, drained: () => {}, acceptFailed: () => {} }),
    { name: "ShimError", message: "The reactor ended by itself" },
  );
  closeReactor(reactor.handle);
  await failed;
  closeReactor(reactor.handle);
  reactor.close();
});

Deno.test("what does not exist is an error by name", () => {
  assert.throws(() => new Reactor(4_000_000), {
    message: "Cannot make a reactor: no such intake, reactor or client",
  });
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

Deno.test("a bad policy, path, group or kind of socket is an error by name", () => {
  using taken = new TestIntake();
  const policy = {
    maxConnections: 1,
    handoffTimeoutMs: 1000,
    handoffBufferBytes: 1024,
    clientTimeoutMs: 0,
    maxPending: 1,
    allowedUids: [],
  };
  assert.throws(() => new Intake({ ...policy, handoffTimeoutMs: 0 }), /Cannot make an intake/);
  const intake = new Intake(policy);
  const listen = (path: string, group = "") => intake.listen("stream", { path, mode: 0o600, group });
  assert.throws(() => listen(taken.pathOf("seqpacket")), /seqpacket\.sock: another process listens there/);
  assert.throws(() => listen("/etc/passwd"), /something that is not a socket is there/);
  assert.throws(
    () => listen(`${taken.folder}/x`, "no such group"),
    /the system has no group "no such group"/,
  );
  const [a, b] = socketPair();
  assert.throws(() => intake.adopt(a.fd), /it is not a listening Unix socket/);
  a.close();
  b.close();
  intake.close();
  intake.close();
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
  await using running = new Running();
  const ends = pairEnds();
  assert.throws(
    () => handOff(running.intake.pathOf("stream"), "stream", new Uint8Array(10_000_000).fill(0x20), ends.far),
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

/** Handoffs that are refused: named in log and metric, every descriptor closed, and the next one is served. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import type { HandoffFailure } from "../../src/errors.ts";
import type { SocketKind } from "../../src/native/acceptor.ts";
import { connect, type OwnedFd, socketPair } from "../../src/native/sender.ts";
import { pairEnds } from "../support/clients.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { daemonTests } from "../support/with_daemon.ts";
import { takeAllFds, withFile, withListener } from "../support/fds.ts";

const KINDS = ["seqpacket", "stream"] satisfies SocketKind[];
const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const { uid } = Deno.statSync("/proc/self");

/** One message over a connection of its own, which is closed at once. */
function send(daemon: TestDaemon, kind: SocketKind, data: string, fds: readonly OwnedFd[]): void {
  using sender = connect(daemon.pathOf(kind), kind);
  assert.equal(sender.send(utf8(data), fds), data.length);
}

/** Waits for the refusal in log and metric, then for its descriptors' end, and that the daemon still serves. */
async function refused(
  daemon: TestDaemon,
  { reason, count, fds }: { reason: HandoffFailure; count: number; fds: number },
): Promise<Readonly<Record<string, unknown>>> {
  const lines = () =>
    daemon.log.filter(({ message, fields }) => message === "Handoff refused" && fields["reason"] === reason);
  await daemon.until(`refusal ${count} for ${reason}`, () => lines().length >= count);
  assert.equal(await daemon.metric("daemon_handoffs_failed", { reason }), count);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\ndata: \[DONE\]\n\n$/);
  await daemon.fdsBackTo(fds);
  for (const { fields } of lines()) assert.match(String(fields["request_id"]), /^[0-9a-f]{8}-acceptor-\w+$/);
  return lines()[count - 1]?.fields ?? {};
}

Deno.test("handoffs without a usable client are refused by name", async (t) => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "0" } });
  await (await daemon.page("/metrics")).text(); // its connection stays open
  const fds = daemon.openFds();
  for (const [index, kind] of KINDS.entries()) {
    const count = index + 1;

    await t.step(`${kind}: no fd`, async () => {
      using sender = connect(daemon.pathOf(kind), kind);
      sender.send(utf8('{"prompt":"x"}'));
      const line = await sender.read(20_000);
      const told =
        "No file descriptor came with this message: this socket takes handoffs (SCM_RIGHTS), not text.\n";
      assert.equal(line && new TextDecoder().decode(line), kind === "stream" ? told : undefined);
      if (line !== undefined) assert.equal(await sender.read(20_000), undefined);
      const fields = await refused(daemon, { reason: "no_fd", count, fds });
      assert.deepEqual(Object.keys(fields).sort(), ["duration_ms", "reason", "received_bytes", "request_id"]);
      assert.equal(fields["received_bytes"], 14);
    });

    await t.step(`${kind}: more than one fd`, async () => {
      const [a, b] = [pairEnds(), pairEnds()];
      send(daemon, kind, "{}", [a.far, b.far]);
      for (const ends of [a, b]) {
        ends.far.close();
        assert.equal(await ends.near.read(), undefined);
        ends.near.close();
      }
      const fields = await refused(daemon, { reason: "many_fds", count, fds });
      assert.equal(fields["fds"], 2);
    });

    await t.step(`${kind}: not a socket`, async () => {
      withFile((file) => send(daemon, kind, "{}", [file]));
      await refused(daemon, { reason: "not_a_socket", count, fds });
    });

    await t.step(`${kind}: a socket that is no byte stream`, async () => {
      const [near, far] = socketPair("seqpacket");
      send(daemon, kind, "{}", [far]);
      far.close();
      assert.equal(await near.read(20_000), undefined);
      near.close();
      const fields = await refused(daemon, { reason: "not_stream", count, fds });
      assert.equal(fields["socket_type"], 5); // SOCK_SEQPACKET
    });

    await t.step(`${kind}: a socket that listens`, async () => {
      withListener((listener) => send(daemon, kind, "{}", [listener]));
      await refused(daemon, { reason: "listening", count, fds });
    });
  }
});

const TOO_LONG = "HTTP/1.1 413 Content Too Large\r\nContent-Type: text/plain; charset=utf-8\r\n" +
  "Content-Length: 25\r\nConnection: close\r\n\r\nHandoff data is too long\n";
const REFUSED = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n" +
  "Content-Length: 16\r\nRetry-After: 5\r\nConnection: close\r\n\r\nHandoff refused\n";

Deno.test("a payload that is longer than the buffer is refused and its client told 413, one of its size is not", async (t) => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "0", DAEMON_HANDOFF_BUFFER_BYTES: "1024" },
  });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  const payload = (bytes: number) => `{"prompt":"${"x".repeat(bytes - '{"prompt":""}'.length)}"}`;
  for (const [index, kind] of KINDS.entries()) {
    await t.step(kind, async () => {
      const ends = pairEnds();
      send(daemon, kind, payload(1025), [ends.far]);
      ends.far.close();
      assert.equal(await ends.near.readAll(), TOO_LONG);
      ends.near.close();
      const fields = await refused(daemon, { reason: "payload_truncated", count: index + 1, fds });
      assert.equal(fields["limit_bytes"], 1024);
      using client = daemon.handOff(utf8(payload(1024)), { kind });
      assert.match(await client.readAll(), /You said: /);
    });
  }
});

Deno.test("a sender that says nothing is refused after the timeout", async (t) => {
  await using daemon = await startDaemon({
    env: { DAEMON_TOKEN_DELAY_MS: "0", DAEMON_HANDOFF_TIMEOUT_SECS: "0.2" },
  });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  for (const [index, kind] of KINDS.entries()) {
    await t.step(kind, async () => {
      using sender = connect(daemon.pathOf(kind), kind);
      assert.equal(await sender.read(20_000), undefined);
      const fields = await refused(daemon, { reason: "timeout", count: index + 1, fds });
      assert.equal(fields["limit_ms"], 200);
      assert((fields["duration_ms"] as number) >= 200);
    });
  }
});

Deno.test("a sender whose uid is not allowed is refused, and its client told 503", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_ALLOWED_UIDS: `${(uid ?? 0) + 1}` } });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  for (const kind of KINDS) {
    const { near, far } = pairEnds();
    using client = near;
    send(daemon, kind, "{}", [far]);
    far.close();
    assert.equal(await client.readAll(), REFUSED);
  }
  assert.equal((await daemon.logged("Handoff refused")).fields["uid"], uid);
  await daemon.until(
    "the second refusal",
    async () => await daemon.metric("daemon_handoffs_failed", { reason: "uid_not_allowed" }) === 2,
  );
  await daemon.fdsBackTo(fds);
  assert.equal(await daemon.metric("daemon_handoffs_received"), 0);
});

Deno.test("a sender whose uid is allowed is served", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_ALLOWED_UIDS: `${(uid ?? 0) + 1}, ${uid}` } });
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]/);
});

Deno.test("at the limit of open files an fd gets lost on its way: that handoff is refused, later ones are served", async () => {
  await using daemon = await startDaemon({
    wrapper: ["prlimit", "--nofile=128"],
    env: { DAEMON_TOKEN_DELAY_MS: "0", DAEMON_HANDOFF_TIMEOUT_SECS: "60" },
  });
  await (await daemon.page("/metrics")).text();
  const fds = daemon.openFds();
  const silent = await takeAllFds(daemon);
  const { fields: noRoom } = await daemon.logged("Cannot accept handoffs for a moment");
  assert.deepEqual(noRoom, { error: "EMFILE, too many open files" });
  const all = daemon.openFds();
  // Served is one for which the daemon has closed something of its own just now.
  for (const sender of silent) {
    // The acceptor rests a moment before it takes in who waits for what has become free.
    await daemon.until("no descriptor is free", () => daemon.openFds() >= all);
    const ends = pairEnds();
    sender.send(utf8("{}"), [ends.far]);
    ends.far.close();
    const answer = await ends.near.readAll();
    ends.near.close();
    if (answer === "") break;
    assert.match(answer, /\[DONE\]/);
  }
  const { fields } = await daemon.logged("Handoff refused");
  assert.deepEqual([fields["reason"], fields["received_bytes"]], ["control_truncated", 2]);
  for (const each of silent) each.close();
  await daemon.fdsBackTo(fds);
  assert.equal(await daemon.metric("daemon_handoffs_failed", { reason: "control_truncated" }), 1);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]/);
});

/** A plain answer, byte for byte. */
function plain(status: string, line: string): string {
  return `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\n` +
    `Content-Length: ${utf8(line).length + 1}\r\nConnection: close\r\n\r\n${line}\n`;
}

const BAD: readonly [name: string, data: string | Uint8Array<ArrayBuffer>, line: string][] = [
  ["not JSON", '{"prompt":}', "Handoff data is not valid JSON (11 bytes)"],
  ["not UTF-8", Uint8Array.of(0x7b, 0xff, 0x7d), "Handoff data is not valid UTF-8"],
  ["not an object", "[1]", "Handoff data is an array, expected a JSON object"],
  ["null", "null", "Handoff data is null, expected a JSON object"],
  ["prompt", '{"prompt":5}', 'Field "prompt" is 5, expected a string'],
  ["system", '{"system":{}}', 'Field "system" is an object, expected a string'],
  ["model", '{"model":[]}', 'Field "model" is an array, expected a string'],
  ["max_tokens", '{"max_tokens":"5"}', 'Field "max_tokens" is a string, expected a number'],
  ["temperature", '{"temperature":true}', 'Field "temperature" is a boolean, expected a number'],
  ["user_id", '{"user_id":{}}', 'Field "user_id" is an object, expected a number or a string'],
  ["request_id", '{"request_id":1}', 'Field "request_id" is 1, expected a string'],
  ["test_pattern", '{"test_pattern":1}', 'Field "test_pattern" is 1, expected a string'],
  ["messages", '{"messages":{}}', 'Field "messages" is an object, expected an array of {role, content}'],
  [
    "messages[1].content",
    '{"messages":[{"role":"user","content":"a"},{"role":"user"}]}',
    'Field "messages[1].content" is missing, expected a string, an array of parts or null',
  ],
];

Deno.test("a line about a handoff has its request id: 400, 503 and a stream", async () => {
  await using daemon = await startDaemon({
    env: { DAEMON_MAX_CONNECTIONS: "1", DAEMON_TOKEN_DELAY_MS: "3600000" },
  });
  using bad = daemon.handOff({ request_id: "r-400", prompt: 5 });
  assert.match(await bad.readAll(), /^HTTP\/1\.1 400 /);
  await daemon.until("room", async () => await daemon.metric("daemon_connections_active") === 0);
  const stream = daemon.handOff({ request_id: "r-200" });
  await stream.readUntil("Hello! ");
  using beyond = daemon.handOff({ request_id: "r-503" });
  assert.match(await beyond.readAll(), /^HTTP\/1\.1 503 /);
  stream.close();
  await daemon.logged("Stream ended early");
  const about = daemon.log.filter(({ part }) => part === "handoff" || part === "stream");
  assert.deepEqual(about.map(({ fields }) => fields["request_id"]), ["r-400", "r-503", "r-200"]);
});

daemonTests("handoffs of every kind at one daemon", {}, {
  "all of the most fds that a message can carry are closed": async (daemon) => {
    const fds = daemon.openFds();
    const pairs = Array.from({ length: 253 }, () => pairEnds());
    send(daemon, "seqpacket", "{}", pairs.map(({ far }) => far));
    for (const { near, far } of pairs) {
      far.close();
      assert.equal(await near.read(), undefined);
      near.close();
    }
    assert.equal((await daemon.logged("Handoff refused")).fields["fds"], 253);
    await daemon.fdsBackTo(fds);
  },

  "bad handoff data is answered 400, byte for byte, and the field is named": async (daemon, t) => {
    for (const [name, data, line] of BAD) {
      for (const kind of KINDS) {
        await t.step(`${kind}: ${name}`, async () => {
          using client = daemon.handOff(typeof data === "string" ? utf8(data) : data, { kind });
          assert.equal(await client.readAll(), plain("400 Bad Request", line));
        });
      }
    }
    const warned = () =>
      daemon.log.filter(({ level, message }) =>
        level === "warning" && message === "Handoff data refused, client answered 400"
      );
    await daemon.until("a warning for each", () => warned().length >= 2 * BAD.length);
    assert.deepEqual(
      warned().map(({ fields }) => fields["reason"]),
      BAD.flatMap(([, , line]) => [line, line]),
    );
    assert.equal(await daemon.metric("daemon_handoffs_failed", { reason: "bad_request" }), 2 * BAD.length);
    assert.equal(await daemon.metric("daemon_backend_requests", { backend: "mock" }), 0);
  },

  "a NUL byte, nothing, or only unknown fields stand for the defaults": async (daemon, t) => {
    const expected = mockPieces("Hello");
    const events = expected.map((text) => `data: ${JSON.stringify({ content: text })}\n\n`).join("");
    for (const kind of KINDS) {
      for (const data of ["\0", "{}", '{"unknown":1,"prompt":null}', "{ }"]) {
        await t.step(`${kind}: ${JSON.stringify(data)}`, async () => {
          using client = daemon.handOff(utf8(data), { kind });
          assert.equal((await client.readAll()).split("\r\n\r\n")[1], `${events}data: [DONE]\n\n`);
        });
      }
    }
  },

  "refusals that come at once are counted, each of them": async (daemon) => {
    daemon.signal("SIGSTOP"); // so that they wait in the backlog together
    for (let count = 0; count < 100; count++) {
      using sender = connect(daemon.pathOf("seqpacket"), "seqpacket");
      sender.send(utf8("{}"));
    }
    daemon.signal("SIGCONT");
    const counted = () => daemon.metric("daemon_handoffs_failed", { reason: "no_fd" });
    await daemon.until("a hundred refusals", async () => await counted() >= 100);
    assert.equal(await counted(), 100);
  },
});

/** Streams with an id in the running daemon: resumed, watched from elsewhere, stopped. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";
import { daemonTests } from "../support/with_daemon.ts";

const GONE = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const STANDING = { DAEMON_TOKEN_DELAY_MS: "3600000" };

/** The events of the mock's answer, after the one with that id. */
function mockEvents(prompt: string, after = 0): string {
  const data = [...mockPieces(prompt).map((content) => JSON.stringify({ content })), "[DONE]"];
  const events = data.map((each, index) =>
    `${index === 0 ? "retry: 1000\n" : ""}id: ${index + 1}\ndata: ${each}\n\n`
  );
  return events.slice(after).join("");
}

async function answer(daemon: TestDaemon, data: Record<string, unknown>): Promise<string> {
  using client = daemon.handOff(data);
  return await client.readAll();
}

for (const workers of ["1", "3"]) {
  const env = { DAEMON_WORKERS: workers };

  daemonTests(`${workers} workers: streams that are come back to`, {
    env: { ...env, DAEMON_TOKEN_DELAY_MS: "20" },
  }, {
    [`${workers} workers: a client that leaves comes back to the rest of the same answer`]: async (
      daemon,
    ) => {
      const id = { stream_id: "a", prompt: "Hi", on_disconnect: "continue" };
      using first = daemon.handOff(id);
      await first.readUntil("id: 3\n");
      first.close();
      assert.equal(await answer(daemon, { ...id, last_event_id: "2" }), STREAM_HEAD + mockEvents("Hi", 2));
      assert.equal(await answer(daemon, { ...id, last_event_id: "0" }), STREAM_HEAD + mockEvents("Hi"));
      assert.equal(await answer(daemon, { ...id, last_event_id: "19" }), GONE);
      assert.equal(await daemon.metric("daemon_backend_requests", { backend: "mock" }), 1);
      for (const [outcome, count] of [["begun", 1], ["resumed", 2], ["nothing", 1]] as const) {
        assert.equal(await daemon.metric("daemon_resume_requests_total", { outcome }), count);
      }
      assert.equal(await daemon.metric("daemon_resume_streams_kept"), 1);
      assert(await daemon.metric("daemon_resume_bytes") > 1024);
    },

    [`${workers} workers: many streams, watched by many, each from another place`]: async (daemon) => {
      const ids = Array.from({ length: 20 }, (_, index) => ({ stream_id: `s${index}`, prompt: `p${index}` }));
      const asked = () => daemon.metric("daemon_backend_requests", { backend: "mock" });
      const before = await asked();
      const all = await Promise.all(ids.flatMap((id) => [answer(daemon, id), answer(daemon, id)]));
      for (const [index, { prompt }] of ids.entries()) {
        assert.deepEqual(
          all.slice(index * 2, index * 2 + 2),
          Array(2).fill(STREAM_HEAD + mockEvents(prompt)),
        );
      }
      assert.equal(await asked() - before, ids.length);
      const later = await Promise.all(
        ids.map((id, index) => answer(daemon, { ...id, last_event_id: `${index % 18}` })),
      );
      assert.deepEqual(later, ids.map(({ prompt }, index) => STREAM_HEAD + mockEvents(prompt, index % 18)));
    },
  });

  Deno.test(`${workers} workers: stop ends it for all who watch, and at the provider`, async () => {
    await using daemon = await startDaemon({ env: { ...env, ...STANDING } });
    const id = { stream_id: "a", on_disconnect: "continue" };
    using first = daemon.handOff(id);
    using second = daemon.handOff(id);
    await Promise.all([first.readUntil("Hello! "), second.readUntil("Hello! ")]);
    assert.equal(await answer(daemon, { stream_id: "a", action: "stop" }), plainResponse(200, "Stopped"));
    const expected = `${STREAM_HEAD}retry: 1000\nid: 1\ndata: {"content":"Hello! "}\n\n` +
      'id: 2\ndata: {"error":"Stopped"}\n\n';
    assert.deepEqual(await Promise.all([first.readAll(), second.readAll()]), [expected, expected]);
    assert.equal(await daemon.metric("daemon_stream_errors_total", { reason: "stopped" }), 2);
    assert.equal(
      await answer(daemon, { stream_id: "a", action: "stop" }),
      plainResponse(404, "No such stream is under way"),
    );
    const { fields } = await daemon.logged("Answer ended early");
    assert.deepEqual([fields["stream_id"], fields["reason"]], ["a", "stopped"]);
  });
}

Deno.test("cancel: with the last one who watches the answer ends, and its descriptors", async () => {
  await using daemon = await startDaemon({ env: STANDING });
  const before = daemon.openFds();
  using client = daemon.handOff({ stream_id: "a" });
  await client.readUntil("Hello! ");
  client.close();
  assert.equal((await daemon.logged("Answer ended early")).fields["reason"], "client_disconnected");
  assert.match(
    await answer(daemon, { stream_id: "a", last_event_id: "1" }),
    /\r\n\r\nid: 2\ndata: {"error":"Client disconnected"}\n\n$/,
  );
  await daemon.fdsBackTo(before);
});

Deno.test("a stream that nobody watches does not hold up the daemon's end; one that is watched is told", async () => {
  await using daemon = await startDaemon({ env: { ...STANDING, DAEMON_SHUTDOWN_TIMEOUT_SECS: "0.5" } });
  using left = daemon.handOff({ stream_id: "left", on_disconnect: "continue" });
  await left.readUntil("Hello! ");
  left.close();
  using client = daemon.handOff({ stream_id: "watched" });
  await client.readUntil("Hello! ");
  daemon.signal("SIGTERM");
  assert.match(await client.readAll(), /\nid: 2\ndata: {"error":"Server is shutting down"}\n\n$/);
  assert.equal(await daemon.exit(), 0);
  const ended = daemon.log.filter(({ message }) => message === "Answer ended early");
  assert.deepEqual(ended.map(({ fields }) => [fields["stream_id"], fields["reason"]]), [
    ["left", "shutdown"],
    ["watched", "shutdown"],
  ]);
});

Deno.test("a worker that nothing but kept streams keep busy ends at once", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "0" } });
  await answer(daemon, { stream_id: "a" });
  const startMs = performance.now();
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  assert(performance.now() - startMs < 4000);
});

Deno.test("a reload changes what is kept from then on", async () => {
  const path = await Deno.makeTempFile({ suffix: ".toml" });
  try {
    await Deno.writeTextFile(path, "[resume]\nkeep_secs = 0\n");
    await using daemon = await startDaemon({ args: [path], permissions: [`--allow-read=${path},src`] });
    await answer(daemon, { stream_id: "a" });
    assert.equal(await answer(daemon, { stream_id: "a", last_event_id: "1" }), GONE);
    await Deno.writeTextFile(path, "[resume]\nkeep_secs = 100\n");
    daemon.signal("SIGHUP");
    await daemon.logged("Configuration reloaded");
    await answer(daemon, { stream_id: "b", prompt: "Hi" });
    assert.equal(
      await answer(daemon, { stream_id: "b", last_event_id: "18" }),
      STREAM_HEAD + mockEvents("Hi", 18),
    );
  } finally {
    await Deno.remove(path);
  }
});

Deno.test("a worker that dies loses its streams and no other's; its ids can be begun anew", async () => {
  await using daemon = await startDaemon({ unruly: true, env: { ...STANDING, DAEMON_WORKERS: "3" } });
  const ids = Array.from(
    { length: 12 },
    (_, index) => ({ stream_id: `s${index}`, on_disconnect: "continue" }),
  );
  const clients = ids.map((id) => daemon.handOff(id));
  await Promise.all(clients.map((client) => client.readUntil("Hello! ")));
  for (const client of clients) client.close();
  const ends = () => daemon.log.filter(({ message }) => message === "Stream ended early");
  await daemon.until("their ends", () => ends().length === ids.length);
  // The id that a worker makes tells which one it is.
  const workers = new Map(
    ends().map(({ fields }) => [fields["stream_id"], String(fields["request_id"]).split("-")[1]]),
  );
  using dying = daemon.handOff({ stream_id: "dying", prompt: "die" });
  const { fields: { worker } } = await daemon.logged("Worker died");
  await dying.readAll().catch(() => {}); // closed with its worker
  const isServed = async () =>
    !(await answer(daemon, { stream_id: "dying", action: "stop" })).includes(" 503 ");
  await daemon.until("the worker's successor", isServed);
  const now = await Promise.all(ids.map(async (id) => {
    using client = daemon.handOff({ ...id, last_event_id: "0" });
    const first = await client.read();
    return new TextDecoder().decode(first).startsWith(GONE) ? "gone" : "there";
  }));
  const lost = now.filter((each) => each === "gone").length;
  assert(lost > 0 && lost < ids.length, `${now}`);
  assert.deepEqual(
    now,
    ids.map(({ stream_id }) => workers.get(stream_id) === String(worker) ? "gone" : "there"),
  );
  const again = now.indexOf("gone");
  using client = daemon.handOff(ids[again]);
  await client.readUntil("Hello! ");
});

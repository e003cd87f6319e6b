/** Streams with an id over several daemons that meet in Debian's redis-server. */
import assert from "node:assert/strict";
import { shimPath } from "../../src/native/library.ts";
import { bundle } from "../../tools/package/program.ts";
import { allowFlag, startDaemon, type TestDaemon } from "../support/daemon.ts";
import { mockPieces } from "../support/mock_answer.ts";
import { makeAuthority } from "../support/mock_llm.ts";
import { Redis } from "../support/redis.ts";
import { plainResponse, STREAM_HEAD } from "../support/wire.ts";

const GONE = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";
const OUT = plainResponse(503, "The store of streams cannot be reached");
const STANDING = { DAEMON_TOKEN_DELAY_MS: "3600000" };
const SLOW = { DAEMON_TOKEN_DELAY_MS: "40" };
const CONTINUE = { on_disconnect: "continue" };
const HELLO = 'retry: 1000\nid: 1\ndata: {"content":"Hello! "}\n\n';

/** A daemon with that store, which may connect to it and to nothing else besides. */
function daemonWith({ url, port }: Redis, env: Record<string, string> = {}): Promise<TestDaemon> {
  return startDaemon({
    env: { DAEMON_RESUME_STORE: "redis", DAEMON_RESUME_REDIS_URL: url, DAEMON_WORKERS: "2", ...env },
    permissions: [`${allowFlag("net")},127.0.0.1:${port}`.replace(/127\.0\.0\.1:9090/, "127.0.0.1:0")],
  });
}

/** The events of the mock's answer, after the one with that id. */
function mockEvents(prompt: string, after = 0): string {
  const data = [...mockPieces(prompt).map((content) => JSON.stringify({ content })), "[DONE]"];
  return data.map((each, index) => `${index === 0 ? "retry: 1000\n" : ""}id: ${index + 1}\ndata: ${each}\n\n`)
    .slice(after).join("");
}

async function answer(daemon: TestDaemon, data: Record<string, unknown>): Promise<string> {
  using client = daemon.handOff(data);
  return await client.readAll();
}

/** A stream that stands after its first event, watched at the daemon that makes it and at another one. */
async function standing(env: Record<string, string> = {}) {
  await using parts = new AsyncDisposableStack();
  const redis = parts.use(await Redis.start());
  const first = parts.use(await daemonWith(redis, STANDING));
  const second = parts.use(await daemonWith(redis, { ...STANDING, ...env }));
  const here = parts.use(first.handOff({ stream_id: "s", ...CONTINUE }));
  await here.readUntil("Hello! ");
  const there = parts.use(second.handOff({ stream_id: "s", last_event_id: "0" }));
  await there.readUntil("Hello! ");
  const all = parts.move();
  return { redis, first, second, here, there, [Symbol.asyncDispose]: () => all.disposeAsync() };
}

Deno.test("begun at one daemon, resumed at another while it lasts, watched at both, and kept in both", async () => {
  await using redis = await Redis.start();
  await using first = await daemonWith(redis, SLOW);
  await using second = await daemonWith(redis, SLOW);
  const data = { stream_id: "s", prompt: "Hü", ...CONTINUE };
  using begun = first.handOff(data);
  await begun.readUntil("id: 3\n");
  begun.close();
  using watching = first.handOff({ stream_id: "s", last_event_id: "0" });
  // The first one would begin it, if the other daemon had not.
  const elsewhere = [answer(second, data), answer(second, { stream_id: "s", last_event_id: "2" })];
  assert.deepEqual(await Promise.all(elsewhere), [
    STREAM_HEAD + mockEvents("Hü"),
    STREAM_HEAD + mockEvents("Hü", 2),
  ]);
  assert.equal(await watching.readAll(), STREAM_HEAD + mockEvents("Hü"));
  assert.equal(
    await answer(second, { stream_id: "s", last_event_id: "18" }),
    STREAM_HEAD + mockEvents("Hü", 18),
  );
  assert.equal(await answer(second, { stream_id: "s", last_event_id: "19" }), GONE);
  assert.equal(await answer(second, { stream_id: "other", last_event_id: "0" }), GONE);
  assert.equal(await second.metric("daemon_backend_requests", { backend: "mock" }), 0);
  assert.equal(await first.metric("daemon_resume_store_up"), 1);
  const seconds = Number(await redis.cli("TTL", "streaming-daemon:{s}:events"));
  assert(seconds > 200 && seconds <= 300, `${seconds}`);
});

Deno.test("one that has ended before is at a daemon that has never heard of it, in the format that it was written in", async () => {
  await using redis = await Redis.start();
  const data = { stream_id: "s", format: "ai-sdk", ...CONTINUE };
  let whole: string;
  {
    await using first = await daemonWith(redis);
    whole = await answer(first, data);
    first.signal("SIGTERM");
    assert.equal(await first.exit(), 0);
  }
  await using second = await daemonWith(redis);
  assert.match(whole, /x-vercel-ai-ui-message-stream: v1\r\n/);
  assert.equal(await answer(second, { stream_id: "s", last_event_id: "0" }), whole);
  assert.equal(await answer(second, { stream_id: "s" }), whole);
});

Deno.test("stopped at another daemon: all who watch get the end, wherever they are", async () => {
  await using site = await standing();
  const { first, second, here, there } = site;
  assert.equal(await answer(second, { stream_id: "s", action: "stop" }), plainResponse(200, "Stopped"));
  const all = `${STREAM_HEAD}${HELLO}id: 2\ndata: {"error":"Stopped"}\n\n`;
  assert.deepEqual(await Promise.all([here.readAll(), there.readAll()]), [all, all]);
  // One whose worker has died, and which nobody follows.
  await site.redis.cli("SET", "streaming-daemon:{dead}:about", '{"owner":"nobody"}');
  for (const [daemon, stream_id] of [[first, "s"], [second, "s"], [second, "dead"]] as const) {
    assert.equal(
      await answer(daemon, { stream_id, action: "stop" }),
      plainResponse(404, "No such stream is under way"),
    );
  }
});

Deno.test("a daemon that is killed: what it said is there, and ends with an error that says so, everywhere the same", async () => {
  await using site = await standing();
  await using third = await daemonWith(site.redis, STANDING);
  site.first.signal("SIGKILL");
  const all = `${STREAM_HEAD}${HELLO}id: 2\ndata: {"error":"The daemon that gave this answer has gone"}\n\n`;
  const got = await Promise.all([
    site.there.readAll(),
    answer(third, { stream_id: "s", last_event_id: "0" }),
  ]);
  assert.deepEqual(got, [all, all]);
  assert.equal(await answer(third, { stream_id: "s", last_event_id: "1" }), all.replace(HELLO, ""));
});

Deno.test("what is asked of a daemon that has been killed does not stay in the store", async () => {
  await using site = await standing();
  site.first.signal("SIGKILL");
  await site.first.exit();
  // Its lease holds for some seconds.
  assert.equal(
    await answer(site.second, { stream_id: "s", action: "stop" }),
    plainResponse(200, "Stopped"),
  );
  const [key = ""] = (await site.redis.cli("KEYS", "streaming-daemon:asked:*")).split("\n");
  const seconds = Number(await site.redis.cli("TTL", key));
  assert(seconds > 0 && seconds <= 10, `${seconds}`);
});

Deno.test("the store goes: streams go on and begin, one line and a metric say so; it comes back, and all is as before", async () => {
  await using redis = await Redis.start();
  await using first = await daemonWith(redis, { ...SLOW, DAEMON_WORKERS: "1" });
  await using second = await daemonWith(redis, SLOW);
  using running = first.handOff({ stream_id: "a", prompt: "Hi", ...CONTINUE });
  await running.readUntil("id: 2\n");
  await redis.down();
  await first.logged(/^The store of streams cannot be reached/);
  assert.equal(await first.metric("daemon_resume_store_up"), 0);
  assert.equal(await running.readAll(), STREAM_HEAD + mockEvents("Hi"));
  assert.equal(await answer(first, { stream_id: "b", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  assert.equal(
    await answer(first, { stream_id: "b", last_event_id: "18" }),
    STREAM_HEAD + mockEvents("Hi", 18),
  );
  assert.equal(await answer(second, { stream_id: "a", last_event_id: "1" }), OUT);
  assert.equal(await answer(second, { stream_id: "a", action: "stop" }), OUT);
  assert.equal(first.log.filter(({ message }) => message.startsWith("The store")).length, 1);
  assert.equal(await first.metric("daemon_resume_unsaved_total"), 1);
  await redis.up();
  await first.logged("The store of streams is back");
  await second.logged("The store of streams is back");
  await first.until("the store", async () => await first.metric("daemon_resume_store_up") === 1);
  await second.until("the store", async () => await second.metric("daemon_resume_store_up") === 1);
  assert.equal(await answer(first, { stream_id: "c", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  assert.equal(
    await answer(second, { stream_id: "c", last_event_id: "17" }),
    STREAM_HEAD + mockEvents("Hi", 17),
  );
});

Deno.test("who watches at another daemon when the store goes is told, and does not wait for ever", async () => {
  await using site = await standing();
  const { redis, there } = site;
  await redis.down();
  assert.equal(await there.readAll(), `${STREAM_HEAD}${HELLO}data: {"error":"Internal error"}\n\n`);
});

Deno.test("one of the two connections breaks: it is opened anew, and who watches at another daemon hears on", async () => {
  await using site = await standing({ DAEMON_WORKERS: "1" });
  const { redis, first, second, there } = site;
  let readers: string[] = [];
  await second.until("the readers of three workers", async () => {
    const clients = await redis.cli("CLIENT", "LIST");
    readers = [...clients.matchAll(/^id=(\d+) .* cmd=xread /gm)].map(([, id]) => id as string);
    return readers.length === 3;
  });
  for (const id of readers) await redis.cli("CLIENT", "KILL", "ID", id);
  await Promise.all([first, second].map((each) => each.logged("The store of streams is back")));
  assert.equal(await answer(first, { stream_id: "s", action: "stop" }), plainResponse(200, "Stopped"));
  assert.equal(await there.readAll(), `${STREAM_HEAD}${HELLO}id: 2\ndata: {"error":"Stopped"}\n\n`);
});

Deno.test("a store that takes nothing is one that cannot be reached: it wants a password, or has another one", async () => {
  await using redis = await Redis.start();
  await redis.cli("CONFIG", "SET", "requirepass", "right");
  for (const url of [redis.url, redis.url.replace("//", "//:wrong-one@")]) {
    await using daemon = await daemonWith(redis, { DAEMON_WORKERS: "1", DAEMON_RESUME_REDIS_URL: url });
    const { fields } = await daemon.logged(/^The store of streams cannot be reached/);
    assert.match(JSON.stringify(fields["error"]), /NOAUTH|WRONGPASS/);
    assert.equal(await daemon.metric("daemon_resume_store_up"), 0);
    assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
    assert.equal(daemon.log.some((line) => JSON.stringify(line).includes("wrong-one")), false);
  }
});

Deno.test("a stream with a gap is taken out of the store as soon as that takes something again", async () => {
  await using redis = await Redis.start();
  await using daemon = await daemonWith(redis, { ...SLOW, DAEMON_WORKERS: "1" });
  using client = daemon.handOff({ stream_id: "s", prompt: "Hi", ...CONTINUE });
  await client.readUntil("id: 2\n");
  await redis.cli("REPLICAOF", "127.0.0.1", "1"); // it takes no writes any more
  await daemon.until("the gap", async () => await daemon.metric("daemon_resume_unsaved_total") > 0);
  await redis.cli("REPLICAOF", "NO", "ONE");
  await daemon.until("its end", async () => await redis.cli("KEYS", "*{s}*") === "");
  assert.equal(await client.readAll(), STREAM_HEAD + mockEvents("Hi"));
});

Deno.test("a store that stands still holds nobody up for more than a second", async () => {
  await using redis = await Redis.start();
  await using daemon = await daemonWith(redis, { DAEMON_WORKERS: "1" });
  assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  redis.freeze(true);
  const startMs = performance.now();
  assert.equal(await answer(daemon, { stream_id: "b", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  assert.equal(await answer(daemon, { prompt: "plain" }).then((got) => got.endsWith("[DONE]\n\n")), true);
  assert(performance.now() - startMs < 5000);
  redis.freeze(false);
  // What it did after all, when nobody waited any more, is undone: elsewhere nobody waits for that stream.
  await daemon.until("the claim", async () => await redis.cli("KEYS", "*{b}*") === "");
  await daemon.until("the store", async () => await daemon.metric("daemon_resume_store_up") === 1);
  assert.equal(await answer(daemon, { stream_id: "c", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  assert.notEqual(await redis.cli("KEYS", "*{c}*"), "");
});

Deno.test("who comes for an id while another one's claim of it is under way, which then leaves, is answered", async () => {
  await using redis = await Redis.start();
  await using daemon = await daemonWith(redis, { DAEMON_WORKERS: "1" });
  assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  redis.freeze(true);
  const left = daemon.handOff({ stream_id: "b", prompt: "Hi" });
  left.close();
  using client = daemon.handOff({ stream_id: "b", prompt: "Hi" });
  await daemon.until("both", async () => await daemon.metric("daemon_handoffs_received") === 3);
  redis.freeze(false);
  assert.equal(await client.readAll(), STREAM_HEAD + mockEvents("Hi"));
});

Deno.test("who comes for an id whose claim was late and is not given back yet is answered", async () => {
  await using redis = await Redis.start();
  await using daemon = await daemonWith(redis, { DAEMON_WORKERS: "1" });
  assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  redis.freeze(true);
  const left = daemon.handOff({ stream_id: "b", prompt: "Hi" });
  left.close();
  await daemon.logged(/client answered 503/); // which has gone
  using client = daemon.handOff({ stream_id: "b", prompt: "Hi" });
  await daemon.until("its handoff", async () => await daemon.metric("daemon_handoffs_received") === 3);
  redis.freeze(false);
  assert.equal(await client.readAll(), STREAM_HEAD + mockEvents("Hi"));
});

Deno.test("a store that is not there at the start: the daemon starts, and begins streams", async () => {
  const redis = await Redis.start();
  await redis.down();
  await using daemon = await daemonWith(redis, { DAEMON_WORKERS: "1" });
  assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
  assert.equal(await answer(daemon, { stream_id: "x", last_event_id: "1" }), OUT);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a failure before the first event leaves the id free everywhere; nothing is left behind", async () => {
  await using redis = await Redis.start();
  const refused = {
    DAEMON_BACKEND_PROVIDER: "openai",
    OPENAI_API_KEY: "k",
    OPENAI_API_BASE: "http://127.0.0.1:1/v1",
  };
  await using first = await startDaemon({
    env: {
      DAEMON_RESUME_STORE: "redis",
      DAEMON_RESUME_REDIS_URL: redis.url,
      OPENAI_MAX_RETRIES: "0",
      ...refused,
    },
  });
  await using second = await daemonWith(redis);
  assert.match(await answer(first, { stream_id: "s" }), /^HTTP\/1.1 502 /);
  await first.until("the id", async () => await redis.cli("KEYS", "*{s}*") === "");
  assert.equal(await answer(second, { stream_id: "s", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
});

Deno.test("a daemon that ends in order lets what nobody watches finish, since it is kept", async () => {
  await using redis = await Redis.start();
  const first = await daemonWith(redis, SLOW);
  await using second = await daemonWith(redis, SLOW);
  try {
    using begun = first.handOff({ stream_id: "s", prompt: "Hi", ...CONTINUE });
    await begun.readUntil("Hello! ");
    begun.close();
    first.signal("SIGTERM");
    assert.equal(
      await answer(second, { stream_id: "s", last_event_id: "0" }),
      STREAM_HEAD + mockEvents("Hi"),
    );
    assert.equal(await first.exit(), 0);
    const leases = (await redis.cli("KEYS", "streaming-daemon:worker:*")).split("\n");
    assert.equal(leases.length, 2, "the other daemon's: its own it has given back");
  } finally {
    await first[Symbol.asyncDispose]();
  }
});

Deno.test("over TLS with a password, by an authority of its own; neither is ever said", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const { leaf, authority } = await makeAuthority();
    const [cert, key, ca] = [`${folder}/cert.pem`, `${folder}/key.pem`, `${folder}/ca.pem`];
    await Deno.writeTextFile(cert, leaf.cert);
    await Deno.writeTextFile(key, leaf.key);
    await Deno.writeTextFile(ca, authority);
    await using redis = await Redis.startTls(cert, key, "--requirepass", "geheim");
    const daemonFor = (password: string, trust: Record<string, string>) =>
      startDaemon({
        env: {
          DAEMON_RESUME_STORE: "redis",
          DAEMON_RESUME_REDIS_URL: `rediss://:${password}@localhost:${redis.port}`,
          ...trust,
        },
        permissions: [`--allow-net=127.0.0.1:0,localhost:${redis.port}`, `${allowFlag("read")},${folder}`],
      });
    await using daemon = await daemonFor("geheim", { DAEMON_RESUME_REDIS_CA_FILE: ca });
    assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
    assert.equal(await daemon.metric("daemon_resume_store_up"), 1);
    for (
      const [password, trust] of [["geheim", {}], ["falsch", { DAEMON_RESUME_REDIS_CA_FILE: ca }]] as const
    ) {
      await using refused = await daemonFor(password, trust);
      await refused.logged(/^The store of streams cannot be reached/);
      assert.equal(await answer(refused, { stream_id: "b", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
      // Neither URL nor password.
      assert.doesNotMatch(refused.stderr.join("\n"), /geheim|falsch/);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the program as it is installed, bundled, has the store as well", async () => {
  await using redis = await Redis.start();
  const folder = await Deno.makeTempDir();
  try {
    await bundle(folder);
    await using daemon = await startDaemon({
      env: { DAEMON_RESUME_STORE: "redis", DAEMON_RESUME_REDIS_URL: redis.url, DAEMON_SHIM_PATH: shimPath() },
      main: `${folder}/main.js`,
      permissions: [`--allow-read=${folder}`],
    });
    assert.equal(await answer(daemon, { stream_id: "a", prompt: "Hi" }), STREAM_HEAD + mockEvents("Hi"));
    assert.equal(await redis.cli("XLEN", "streaming-daemon:{a}:events") !== "0", true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

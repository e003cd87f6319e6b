import assert from "node:assert/strict";
import type { BackendError } from "../../src/errors.ts";
import { openShim } from "../../src/native/library.ts";
import type { Exchange } from "../../src/upstream/exchange.ts";
import * as h2 from "../../src/upstream/h2/frames.ts";
import { encodeHead } from "../../src/upstream/h2/hpack.ts";
import { Pool, type PoolOptions } from "../../src/upstream/pool.ts";
import { ask, backendRig, certificate } from "../support/backend_rig.ts";
import { mockLlm } from "../support/mock_llm.ts";
import { type TestProxy, testProxy } from "../support/proxy.ts";
import { until } from "../support/until.ts";

// Opened once and for all before any test, whose sanitizer would take it for a leak.
openShim();

const options = (set: Partial<PoolOptions> = {}): PoolOptions => ({
  http2: true,
  socketPath: null,
  insecure: false,
  caCerts: [],
  maxIdlePerHost: 100,
  idleTimeoutMs: 60_000,
  pingIntervalMs: 20_000,
  connectTimeoutMs: 10_000,
  proxy: {},
  ...set,
});

interface Asked {
  readonly exchange: Exchange;
  /** The head's status, or the failure. */
  readonly head: Promise<number>;
  /** How it ended. */
  readonly end: Promise<"end" | BackendError>;
}

function post(pool: Pool, base: string, pattern: string, bodyBytes = 0): Asked {
  const head = Promise.withResolvers<number>();
  const end = Promise.withResolvers<"end" | BackendError>();
  head.promise.catch(() => {});
  const exchange = pool.request(
    {
      head: { method: "POST", url: new URL(`${base}/x`), headers: [] },
      headers: [["x-test-pattern", pattern]],
      body: new Uint8Array(bodyBytes),
    },
    {
      head: (status) => head.resolve(status),
      data: () => {},
      end: () => end.resolve("end"),
      fail: (error) => {
        head.reject(error);
        end.resolve(error);
      },
    },
  );
  return { exchange, head: head.promise, end: end.promise };
}

Deno.test("pool: 600 streams at a limit of 20 per connection all run at once", async () => {
  await using mock = await mockLlm({ protocol: "h2c", maxStreams: 20 });
  const pool = new Pool(options());
  const asked = Array.from({ length: 600 }, () => post(pool, mock.base, "stall-1"));
  assert.deepEqual(new Set(await Promise.all(asked.map(({ head }) => head))), new Set([200]));
  assert.equal(mock.counts.peakStreams, 600);
  assert.equal(pool.stats().streams, 600);
  assert.equal(pool.stats().waiting, 0);
  for (const { exchange } of asked) exchange.cancel();
  await mock.resets(600);
  assert.equal(pool.stats().streams, 0);
  await pool.close();
});

Deno.test("pool: the next connection is there before the last one is full", async () => {
  await using mock = await mockLlm({ protocol: "h2c", maxStreams: 10 });
  const pool = new Pool(options());
  const asked = [];
  for (let i = 0; i < 9; i++) {
    asked.push(post(pool, mock.base, "stall-1"));
    await asked[i]?.head;
    if (pool.stats().connections === 2) break;
  }
  assert.equal(asked.length, 9, "with one free stream of ten left, not earlier");
  await until("the next connection", () => pool.stats().connections >= 2);
  for (const { exchange } of asked) exchange.cancel();
  await pool.close();
});

for (const protocol of ["h1", "h2c"] as const) {
  Deno.test(`pool: over ${protocol}, what follows the path in an address is asked for, too`, async () => {
    await using mock = await mockLlm({ protocol });
    const pool = new Pool(options({ http2: protocol === "h2c" }));
    assert.equal(await post(pool, `${mock.base}/x?api-version=1&`, "plain").end, "end");
    assert.match(mock.requests[0]?.path ?? "", /\/x\?api-version=1&\/x$/);
    await pool.close();
  });
}

Deno.test("pool: over HTTP/1.1, each has its connection, and connections are used again", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const pool = new Pool(options({ http2: false }));
  const asked = Array.from({ length: 50 }, () => post(pool, mock.base, "slow-head-20"));
  await Promise.all(asked.map(({ end }) => end));
  assert.equal(mock.counts.peakStreams, 50);
  for (let i = 0; i < 20; i++) assert.equal(await post(pool, mock.base, "plain").end, "end");
  assert.equal(mock.counts.connections, 50);
  await pool.close();
});

Deno.test("pool: more idle connections than wanted, and ones that idle too long, are closed", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const pool = new Pool(options({ http2: false, maxIdlePerHost: 3, idleTimeoutMs: 2_500 }));
  await Promise.all(Array.from({ length: 10 }, () => post(pool, mock.base, "slow-head-20").end));
  assert.equal(pool.stats().connections, 10);
  await until("three connections", () => pool.stats().connections <= 3);
  assert.equal(pool.stats().connections, 3);
  await until("no connection", () => pool.stats().connections === 0);
  assert.equal(pool.stats().opened, 10);
  await pool.close();
});

Deno.test("pool: with nothing open and nothing to do it keeps no timer", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const pool = new Pool(options({ http2: false, maxIdlePerHost: 0 }));
  const nobody = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  nobody.close();
  const stopped = Promise.withResolvers<void>();
  const { clearInterval } = globalThis;
  globalThis.clearInterval = (timer) => {
    clearInterval(timer);
    stopped.resolve();
  };
  const tooLate = setTimeout(() => stopped.reject(new Error("the timer goes on")), 20_000);
  try {
    assert.match(String(await post(pool, `http://127.0.0.1:${nobody.addr.port}`, "plain").end), /refused/);
    assert.equal(await post(pool, mock.base, "plain").end, "end");
    await stopped.promise;
  } finally {
    clearTimeout(tooLate);
    globalThis.clearInterval = clearInterval;
    await pool.close();
  }
  // Of hosts that are forgotten, too.
  assert.equal(pool.stats().opened, 1);
  assert.equal(pool.stats().failedDials, 1);
});

Deno.test("pool: a server on http:// that speaks HTTP/1.1 only is spoken to in HTTP/1.1", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const pool = new Pool(options());
  for (const asked of Array.from({ length: 5 }, () => post(pool, mock.base, "plain"))) {
    assert.equal(await asked.end, "end");
  }
  assert.deepEqual(new Set(mock.requests.map(({ httpVersion }) => httpVersion)), new Set(["1.1"]));
  assert.equal(pool.stats().failedDials, 0);
  await pool.close();
});

/** What servers of HTTP/1.1 say to HTTP/2's first bytes before they close. */
const NOT_HTTP2: readonly [server: string, answer: Uint8Array][] = [
  ["Python's http.server, in HTTP/0.9", new TextEncoder().encode("<!DOCTYPE HTML>\n<html>")],
  ["Kestrel", h2.numbersFrame(h2.GOAWAY, 0, 0, 13)],
  ["hyper", new Uint8Array()],
];
for (const [name, said] of NOT_HTTP2) {
  Deno.test(`pool: a server of HTTP/1.1 that answers HTTP/2 as ${name} is spoken to in HTTP/1.1`, async () => {
    const server = await scripted(async (connection) => {
      const buffer = new Uint8Array(65_536);
      const count = await connection.read(buffer) ?? 0;
      const old = new TextDecoder().decode(buffer.subarray(0, count)).startsWith("POST /x HTTP/1.1\r\n");
      const answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
      await connection.write(old ? new TextEncoder().encode(answer) : said);
      if (!old) connection.close();
    });
    const pool = new Pool(options());
    assert.equal(await post(pool, server.base, "plain").end, "end");
    assert.equal(pool.stats().failedDials, 0);
    await pool.close();
    await server.stop();
  });
}

Deno.test("pool: a server that has spoken HTTP/2 is not taken for one that does not, where it closes without a word", async () => {
  const server = await scripted(async (connection, count) => {
    if (count > 1) connection.close();
    else await connection.write(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 1]]));
  });
  const pool = new Pool(options());
  post(pool, server.base, "plain");
  await until("a stream", () => pool.stats().streams === 1);
  const message = String(await post(pool, server.base, "plain").end);
  assert.match(message, /127.0.0.1:\d+: (the server closed the connection|.*reset)/);
  assert.ok(pool.stats().failedDials > 0);
  await pool.close();
  await server.stop();
});

Deno.test("pool: behind who agrees on HTTP/2 by TLS and passes on bytes, HTTP/1.1 is spoken to who knows that only", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  // As HAProxy in its mode tcp, and AWS's load balancers of TLS.
  const pem = await certificate();
  const listener = Deno.listenTls({
    hostname: "127.0.0.1",
    port: 0,
    ...pem,
    alpnProtocols: ["h2", "http/1.1"],
  });
  let connections = 0;
  const tooMany = Promise.withResolvers<string>();
  const serve = (async () => {
    for await (const connection of listener) {
      if (++connections === 10) tooMany.resolve("ten connections");
      const onward = await Deno.connect({ hostname: "127.0.0.1", port: mock.port });
      connection.readable.pipeTo(onward.writable).catch(() => {});
      onward.readable.pipeTo(connection.writable).catch(() => {});
    }
  })();
  const pool = new Pool(options({ caCerts: [pem.cert] }));
  try {
    const asked = post(pool, `https://127.0.0.1:${listener.addr.port}`, "plain");
    assert.equal(await Promise.race([asked.end, tooMany.promise]), "end");
    assert.equal(connections, 2);
  } finally {
    await pool.close();
    listener.close();
    await serve;
  }
});

Deno.test("pool: a host that does not answer blocks nobody else's requests, and is given up", async () => {
  const silent = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  await using mock = await mockLlm({ protocol: "h2c" });
  const pool = new Pool(options({ connectTimeoutMs: 900 }));
  const stuck = Array.from(
    { length: 200 },
    () => post(pool, `http://127.0.0.1:${silent.addr.port}`, "plain"),
  );
  assert.equal(await post(pool, mock.base, "plain").end, "end");
  assert.equal(pool.stats().waiting, 200);
  stuck[0]?.exchange.cancel();
  assert.equal(pool.stats().waiting, 199);
  const end = await stuck[1]?.end;
  assert.match(String(end), /no connection within 900 ms/);
  await Promise.all(stuck.map(({ end }) => end));
  silent.close();
  await pool.close();
});

for (const insecure of [false, true]) {
  const how = insecure ? "insecure " : "";
  Deno.test(`pool: ${how}TLS with a host that says nothing is given up, and its connection closed`, async () => {
    using silent = Deno.listen({ port: 0, hostname: "127.0.0.1" });
    const pool = new Pool(options({ insecure, connectTimeoutMs: 900 }));
    const { end } = post(pool, `https://127.0.0.1:${silent.addr.port}`, "plain");
    using connection = await silent.accept();
    assert.match(String(await end), /cannot connect to 127.0.0.1:\d+: no connection within 900 ms/);
    const buffer = new Uint8Array(65_536);
    while (await connection.read(buffer) !== null);
    await pool.close();
  });
}

Deno.test("pool: closed, it fails what waits and runs, and takes nothing more", async () => {
  const silent = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  await using mock = await mockLlm({ protocol: "h2c" });
  const pool = new Pool(options());
  const running = post(pool, mock.base, "stall-1");
  await running.head;
  const waiting = post(pool, `http://127.0.0.1:${silent.addr.port}`, "plain");
  await pool.close();
  assert.match(String(await running.end), /the pool is closed/);
  assert.match(String(await waiting.end), /the pool is closed/);
  assert.match(String(await post(pool, mock.base, "plain").end), /the pool is closed/);
  silent.close();
});

/** An HTTP/2 server that does with each connection what the test says. */
async function scripted(onConnection: (connection: Deno.Conn, count: number) => Promise<void>): Promise<{
  base: string;
  stop(): Promise<void>;
}> {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const open = new Set<Deno.Conn>();
  const serve = (async () => {
    let count = 0;
    for await (const connection of listener) {
      open.add(connection);
      onConnection(connection, ++count).catch(() => {/* the client closed it */});
    }
  })();
  await Promise.resolve();
  return {
    base: `http://127.0.0.1:${listener.addr.port}`,
    async stop(): Promise<void> {
      listener.close();
      for (const connection of open) {
        try {
          connection.close();
        } catch {
          // Closed by the script.
        }
      }
      await serve;
    },
  };
}

async function waitForHeaders(connection: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  let all = "";
  while (!all.includes("x-test-pattern")) {
    const count = await connection.read(buffer);
    if (count === null) throw new Error("closed");
    all += new TextDecoder("latin1").decode(buffer.subarray(0, count));
  }
}

const OK_HEAD = encodeHead([[":status", "200"]]);
const answer = (id: number): Uint8Array =>
  h2.bytesFrame(h2.HEADERS, h2.FLAG_END_HEADERS | h2.FLAG_END_STREAM, id, OK_HEAD);

Deno.test("pool: what a GOAWAY leaves unprocessed goes to another connection at once", async () => {
  const server = await scripted(async (connection, count) => {
    await connection.write(h2.settingsFrame([]));
    await waitForHeaders(connection);
    await connection.write(count === 1 ? h2.numbersFrame(h2.GOAWAY, 0, 0, 0) : answer(1));
  });
  const pool = new Pool(options());
  assert.equal(await post(pool, server.base, "plain").end, "end");
  assert.equal(pool.stats().opened, 2);
  await pool.close();
  await server.stop();
});

Deno.test("pool: a server that refuses each stream is not asked for ever", async () => {
  let connections = 0;
  const server = await scripted(async (connection) => {
    connections++;
    await connection.write(h2.settingsFrame([]));
    await waitForHeaders(connection);
    await connection.write(h2.numbersFrame(h2.GOAWAY, 0, 0, 0));
  });
  const pool = new Pool(options());
  assert.match(
    String(await post(pool, server.base, "plain").end),
    /the server closes the connection \(NO_ERROR\)/,
  );
  assert.equal(connections, 4);
  await pool.close();
  await server.stop();
});

Deno.test("pool: a server that lets no stream run is a failure, not a wait", async () => {
  const server = await scripted(async (connection) => {
    await connection.write(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 0]]));
  });
  const pool = new Pool(options());
  assert.match(String(await post(pool, server.base, "plain").end), /lets no stream run/);
  await pool.close();
  await server.stop();
});

Deno.test("pool: of two dials, the one that fails takes with it those only for whom the other has no room", async () => {
  const hasFailed = Promise.withResolvers<void>();
  const server = await scripted(async (connection, count) => {
    if (count === 2) await hasFailed.promise;
    const streams = count === 1 ? 0 : 100;
    await connection.write(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, streams]]));
    for await (const _ of connection.readable);
    hasFailed.resolve();
  });
  const pool = new Pool(options());
  // Until the server says more, 100 streams are expected of a connection.
  const asked = Array.from({ length: 150 }, () => post(pool, server.base, "plain"));
  await until("all that wait have a connection", () => pool.stats().waiting === 0);
  assert.equal(pool.stats().streams, 100);
  await pool.close();
  const failures = await Promise.all(asked.map(async ({ end }) => String(await end)));
  assert.equal(failures.filter((failure) => failure.includes("lets no stream run")).length, 50);
  await server.stop();
});

Deno.test("pool: connections are opened all at once for what waits, by what the first takes", async () => {
  const open = Promise.withResolvers<void>();
  const server = await scripted(async (connection, count) => {
    if (count > 1) return count === 6 ? open.resolve() : undefined;
    await connection.write(h2.settingsFrame([[h2.SETTINGS_MAX_CONCURRENT_STREAMS, 2]]));
  });
  const pool = new Pool(options());
  const asked = [post(pool, server.base, "plain")];
  await until("the first connection", () => pool.stats().streams === 1);
  for (let i = 0; i < 11; i++) asked.push(post(pool, server.base, "plain"));
  await open.promise;
  await pool.close();
  await Promise.all(asked.map(({ end }) => end));
  await server.stop();
});

Deno.test("pool: of idle connections the ones used last are kept", async () => {
  const heard = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const server = await scripted(async (connection, count) => {
    while (await readRequest(connection)) {
      heard[count - 1]?.resolve();
      await Promise.all(heard.map(({ promise }) => promise));
      if (count === 2) await first.end;
      await say(connection, `HTTP/1.1 20${count} OK\r\nContent-Length: 0\r\n\r\n`);
    }
  });
  const pool = new Pool(options({ http2: false, maxIdlePerHost: 1 }));
  const [first, second] = [post(pool, server.base, "plain"), post(pool, server.base, "plain")];
  assert.deepEqual(await Promise.all([first.head, second.head]), [201, 202]);
  await until("one connection", () => pool.stats().connections === 1);
  assert.equal(await post(pool, server.base, "plain").head, 202);
  await pool.close();
  await server.stop();
});

Deno.test("pool: a connection whose server falls silent is found by a ping", async () => {
  const server = await scripted(async (connection) => {
    await connection.write(h2.settingsFrame([]));
    await waitForHeaders(connection);
    await connection.write(h2.bytesFrame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, OK_HEAD));
  });
  const pool = new Pool(options({ pingIntervalMs: 900 }));
  const asked = post(pool, server.base, "plain");
  assert.equal(await asked.head, 200);
  assert.match(String(await asked.end), /no answer to a ping within 900 ms/);
  assert.equal(pool.stats().connections, 0);
  await pool.close();
  await server.stop();
});

/** Reads one request of a raw HTTP/1.1 client, its body included. @returns false at the end of the connection */
async function readRequest(connection: Deno.Conn): Promise<boolean> {
  const buffer = new Uint8Array(65_536);
  let all = "";
  for (;;) {
    const head = all.indexOf("\r\n\r\n");
    const length = Number(/content-length: (\d+)/.exec(all)?.[1] ?? 0);
    if (head >= 0 && all.length >= head + 4 + length) return true;
    const count = await connection.read(buffer);
    if (count === null) return false;
    all += new TextDecoder("latin1").decode(buffer.subarray(0, count));
  }
}

const say = async (connection: Deno.Conn, words: string): Promise<void> => {
  await connection.write(new TextEncoder().encode(words));
};
const OK_H1 = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

Deno.test("pool: a request that a kept HTTP/1.1 connection may have delivered is not sent again", async () => {
  let requests = 0;
  const server = await scripted(async (connection) => {
    if (await readRequest(connection)) await say(connection, OK_H1);
    requests++;
    if (await readRequest(connection)) requests++;
    connection.close();
  });
  const pool = new Pool(options({ http2: false }));
  assert.equal(await post(pool, server.base, "plain").end, "end");
  const second = post(pool, server.base, "plain");
  assert.match(String(await second.end), /unavailable|closed the connection/);
  assert.equal(second.exchange.unprocessed, false);
  assert.equal(requests, 2);
  assert.equal(pool.stats().opened, 1);
  await pool.close();
  await server.stop();
});

Deno.test("pool: the HTTP/1.1 connection used last is used next, so that the others idle out under load", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const pool = new Pool(options({ http2: false, idleTimeoutMs: 1_500 }));
  await Promise.all(Array.from({ length: 10 }, () => post(pool, mock.base, "slow-head-20").end));
  assert.equal(pool.stats().connections, 10);
  // Requests that follow one another at once take turns on two: one rests after its answer meanwhile.
  for (const endMs = performance.now() + 20_000; pool.stats().connections > 2;) {
    assert.ok(performance.now() < endMs, `${pool.stats().connections} connections are kept`);
    assert.equal(await post(pool, mock.base, "slow-head-20").end, "end");
  }
  assert.equal(await post(pool, mock.base, "plain").end, "end");
  assert.equal(pool.stats().opened, 10);
  await pool.close();
});

Deno.test("pool: a server that closes an HTTP/1.1 connection right after an answer loses no request by it", async () => {
  const server = await scripted(async (connection) => {
    await readRequest(connection);
    await say(connection, OK_H1.replace("\r\n", "\r\nKeep-Alive: timeout=5, max=100\r\n"));
    connection.close();
  });
  const pool = new Pool(options({ http2: false }));
  for (let i = 1; i <= 20; i++) {
    assert.equal(await post(pool, server.base, "plain").end, "end");
    assert.equal(pool.stats().opened, i);
  }
  await pool.close();
  await server.stop();
});

Deno.test("pool: an HTTP/1.1 connection is not used any more when its server is about to close it", async () => {
  const server = await scripted(async (connection) => {
    while (await readRequest(connection)) {
      await say(connection, OK_H1.replace("\r\n", "\r\nKeep-Alive: timeout=1\r\n"));
    }
  });
  const pool = new Pool(options({ http2: false }));
  assert.equal(await post(pool, server.base, "plain").end, "end");
  assert.equal(await post(pool, server.base, "plain").end, "end");
  assert.equal(pool.stats().opened, 1);
  await until("no connection", () => pool.stats().connections === 0);
  await pool.close();
  await server.stop();
});

/** Answers after which an HTTP/1.1 connection cannot be trusted, though they say that it is kept. */
const SPOILT: readonly (readonly [name: string, answer: string, bodyBytes: number])[] = [
  ["before the whole request", OK_H1, 16_000_000],
  ["413", OK_H1.replace("200 OK", "413 Content Too Large"), 10],
  ["with no time to be kept for", OK_H1.replace("\r\n", "\r\nKeep-Alive: timeout=0\r\n"), 10],
  ["with a line too many", `${OK_H1}\r\n`, 10],
  ["with another answer", `${OK_H1}${OK_H1}`, 10],
];
for (const [name, answer, bodyBytes] of SPOILT) {
  Deno.test(`pool: after an HTTP/1.1 answer ${name}, the next request has another connection`, async () => {
    const server = await scripted(async (connection) => {
      await connection.read(new Uint8Array(1_000));
      await say(connection, answer);
    });
    const pool = new Pool(options({ http2: false }));
    for (let i = 1; i <= 2; i++) {
      assert.equal(await post(pool, server.base, "plain", bodyBytes).end, "end");
      assert.equal(pool.stats().opened, i);
    }
    await pool.close();
    await server.stop();
  });
}

Deno.test("pool: bytes on an idle HTTP/1.1 connection end it, and nobody's request", async () => {
  const idle = Promise.withResolvers<void>();
  const server = await scripted(async (connection) => {
    if (await readRequest(connection)) await say(connection, OK_H1);
    await idle.promise;
    await say(connection, "\r\n");
  });
  const pool = new Pool(options({ http2: false }));
  assert.equal(await post(pool, server.base, "plain").end, "end");
  idle.resolve();
  await until("no connection", () => pool.stats().connections === 0);
  assert.equal(await post(pool, server.base, "plain").end, "end");
  await pool.close();
  await server.stop();
});

Deno.test("pool: a refused stream goes to another connection, with pauses, and not for ever", async () => {
  const times: number[] = [];
  const server = await scripted(async (connection) => {
    await connection.write(h2.settingsFrame([]));
    await waitForHeaders(connection);
    times.push(performance.now());
    await connection.write(h2.numbersFrame(h2.RST_STREAM, 1, h2.REFUSED_STREAM));
  });
  const pool = new Pool(options());
  const { exchange, end } = post(pool, server.base, "plain");
  assert.match(String(await end), /REFUSED_STREAM/);
  assert.equal(exchange.unprocessed, true);
  assert.equal(pool.stats().waiting, 0);
  assert.equal(times.length, 4, "each on a connection of its own");
  assert.ok((times[3] ?? 0) - (times[0] ?? 0) >= 500, `${times}`);
  await pool.close();
  await server.stop();
});

Deno.test("pool: cancelled in the pause after a refusal, it is not sent again", async () => {
  let refusals = 0;
  const refused = Promise.withResolvers<void>();
  const server = await scripted(async (connection) => {
    await connection.write(h2.settingsFrame([]));
    await waitForHeaders(connection);
    await connection.write(h2.numbersFrame(h2.RST_STREAM, 1, h2.REFUSED_STREAM));
    if (++refusals === 2) refused.resolve();
  });
  const pool = new Pool(options());
  const asked = post(pool, server.base, "plain");
  await refused.promise;
  await until("the pause", () => pool.stats().streams === 0);
  assert.equal(pool.stats().waiting, 1);
  asked.exchange.cancel();
  assert.equal(pool.stats().waiting, 0);
  await asked.end;
  await pool.close();
  assert.equal(refusals, 2);
  await server.stop();
});

Deno.test("pool: a stream that had its head is not sent again, whatever the server says of it", async () => {
  for (
    const last of [h2.numbersFrame(h2.GOAWAY, 0, 0, 0), h2.numbersFrame(h2.RST_STREAM, 1, h2.REFUSED_STREAM)]
  ) {
    const server = await scripted(async (connection) => {
      await connection.write(h2.settingsFrame([]));
      await waitForHeaders(connection);
      await connection.write(h2.bytesFrame(h2.HEADERS, h2.FLAG_END_HEADERS, 1, OK_HEAD));
      await connection.write(last);
    });
    const pool = new Pool(options());
    const end = await post(pool, server.base, "plain").end;
    assert.equal(end === "end" ? end : end.kind, "truncated");
    assert.equal(pool.stats().opened, 1);
    await pool.close();
    await server.stop();
  }
});

Deno.test("pool: after silence, an HTTP/2 connection is asked for a sign of life before it gets a stream", async () => {
  const answers = async (connection: Deno.Conn): Promise<void> => {
    await connection.write(h2.settingsFrame([]));
    await waitForHeaders(connection);
    await connection.write(answer(1));
  };
  const dead = await scripted(answers); // says nothing any more
  let pings = 0;
  const alive = await scripted(async (connection) => {
    await answers(connection);
    const buffer = new Uint8Array(1_000);
    // An acknowledgement of SETTINGS, and then the PING.
    for (let sent = new Uint8Array(0); sent.length < 17;) {
      const count = await connection.read(buffer) ?? 0;
      sent = Uint8Array.of(...sent, ...buffer.subarray(0, count)).subarray(-17);
      if (sent[3] === h2.PING) break;
      if (sent.length === 17) sent = sent.subarray(-16);
    }
    pings++;
    await connection.write(h2.bytesFrame(h2.PING, h2.FLAG_ACK, 0, new Uint8Array(8)));
    await connection.write(answer(3));
  });
  const pool = new Pool(options({ pingIntervalMs: 400 }));
  for (const server of [alive, dead]) assert.equal(await post(pool, server.base, "plain").end, "end");
  await new Promise((next) => setTimeout(next, 500));
  const startMs = performance.now();
  const all = Array.from({ length: 20 }, () => post(pool, dead.base, "plain"));
  assert.equal(pool.stats().streams, 0, "none went to the silent one");
  assert.equal(await all[0]?.end, "end", "on another connection");
  assert.ok(performance.now() - startMs < 1_500);
  for (const { exchange } of all) exchange.cancel();
  assert.equal(await post(pool, alive.base, "plain").end, "end");
  assert.equal(pings, 1);
  await pool.close();
  await alive.stop();
  await dead.stop();
});

for (const protocol of ["h1s", "h2"] as const) {
  Deno.test(`pool: ${protocol} through a proxy's tunnel`, async () => {
    let tunnel: TestProxy | null = null;
    {
      const target = await backendRig({ protocol });
      await using _ = target;
      tunnel = testProxy("200 Connected", target.mock.port);
      const address = `http://us%20er:pass@127.0.0.1:${tunnel.port}`;
      const through = { http2: protocol === "h2", proxy: { httpProxy: address, httpsProxy: address } };
      await using rig = await backendRig({ protocol, port: 0 }, {
        ...through,
        maxRetries: 0,
        insecureSsl: false,
      });
      // The rig's own stand-in is not reached: the tunnel ends at the other one.
      const all = await rig.ears.hear(ask("plain"));
      assert.equal(all.at(-1), "end");
      assert.equal(rig.mock.requests.length, 0);
      assert.equal(target.mock.requests.length, 1);
      assert.match(
        tunnel.asked[0] ?? "",
        new RegExp(
          `^CONNECT 127.0.0.1:${rig.mock.port} HTTP/1.1\r\nHost: .*\r\nProxy-Authorization: Basic dXMgZXI6cGFzcw==\r\n\r\n$`,
        ),
      );
    }
    await tunnel.stop();
  });
}

Deno.test("pool: http:// through a proxy asks it for each request, in the absolute form", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const proxy = testProxy("200 OK", mock.port);
  const pool = new Pool(
    options({ proxy: { httpProxy: `http://us%20er:p%C3%A4ss@127.0.0.1:${proxy.port}` } }),
  );
  for (let i = 0; i < 2; i++) {
    assert.equal(await post(pool, "http://provider.invalid:81", "plain").end, "end");
  }
  assert.equal(pool.stats().opened, 1);
  await pool.close();
  await proxy.stop();
  assert.equal(
    proxy.asked[0],
    "POST http://provider.invalid:81/x HTTP/1.1\r\nhost: provider.invalid:81\r\n" +
      "Proxy-Authorization: Basic dXMgZXI6cMOkc3M=\r\nx-test-pattern: plain\r\ncontent-length: 0\r\n\r\n",
  );
  assert.equal(mock.requests.length, 2);
});

Deno.test("pool: a proxy whose head never ends is given up", async () => {
  const proxy = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const pool = new Pool(options({ proxy: { httpsProxy: `127.0.0.1:${proxy.addr.port}` } }));
  const { end } = post(pool, "https://example.invalid", "plain");
  using connection = await proxy.accept();
  const writing = connection.write(new TextEncoder().encode("HTTP/1.1 200 OK\r\nx: " + "y".repeat(8_192)));
  assert.match(String(await end), /: the proxy's answer is too long$/);
  await Promise.allSettled([writing]);
  await pool.close();
  proxy.close();
});

Deno.test("pool: connections are opened at most 256 at a time, and those that fail are counted", async () => {
  const silent = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const accepted: Deno.Conn[] = [];
  const accepting = (async () => {
    for await (const connection of silent) accepted.push(connection);
  })();
  const pool = new Pool(options({ http2: false, connectTimeoutMs: 1900 }));
  // The server says nothing, so that no handshake of TLS comes to its end.
  const base = `https://127.0.0.1:${silent.addr.port}`;
  const asked = Array.from({ length: 300 }, () => post(pool, base, "plain"));
  await Promise.race(asked.map(({ end }) => end));
  assert.equal(accepted.length, 256);
  await Promise.all(asked.map(({ end }) => end));
  assert.deepEqual([accepted.length, pool.stats().failedDials], [300, 300]);
  await pool.close();
  silent.close();
  await accepting;
  for (const connection of accepted) connection.close();
});

Deno.test("pool: closed before it was asked for anything, it opens nothing", async () => {
  await using mock = await mockLlm({ protocol: "h1" });
  const pool = new Pool(options());
  await pool.close();
  assert.match(String(await post(pool, mock.base, "plain").end), /the pool is closed/);
  assert.deepEqual([mock.counts.connections, pool.stats().opened], [0, 0]);
});

Deno.test("pool: a proxy is asked for an IPv6 address in brackets", async () => {
  const tunnel = testProxy("403 Forbidden", 1);
  const pool = new Pool(options({ proxy: { httpsProxy: `127.0.0.1:${tunnel.port}` } }));
  assert.match(String(await post(pool, "https://[2001:db8::1]", "plain").end), /the proxy answered/);
  assert.equal(tunnel.asked[0], "CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n");
  await pool.close();
  await tunnel.stop();
});

Deno.test("pool: a proxy that refuses is named", async () => {
  const tunnel = testProxy("407 Proxy Authentication Required", 1);
  const pool = new Pool(options({ proxy: { httpsProxy: `127.0.0.1:${tunnel.port}` } }));
  const end = String(await post(pool, "https://example.invalid", "plain").end);
  assert.match(end, /example.invalid:443 through the proxy 127.0.0.1:\d+: the proxy answered HTTP\/1.1 407/);
  await pool.close();
  await tunnel.stop();
});

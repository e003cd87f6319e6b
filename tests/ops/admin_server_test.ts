import assert from "node:assert/strict";
import { type AdminPages, type AdminServer, openAdminServer } from "../../src/ops/admin_server.ts";

const LOOPBACK = { hostname: "127.0.0.1", port: 0 };

function pages(own: Partial<AdminPages> = {}): AdminPages {
  return {
    metrics: () => Promise.resolve("up 1\n"),
    status: () => Promise.reject(new Error("not asked for")),
    ready: () => true,
    onError: (error) => assert.fail(String(error)),
    ...own,
  };
}

async function withServer(
  own: Partial<AdminPages>,
  use: (base: string, server: AdminServer) => Promise<void>,
): Promise<void> {
  const server = openAdminServer(LOOPBACK, pages(own));
  try {
    await use(`http://127.0.0.1:${server.addr.port}`, server);
  } finally {
    await server.close();
  }
}

async function ask(url: string, init?: RequestInit): Promise<[status: number, body: string]> {
  const response = await fetch(url, init);
  return [response.status, await response.text()];
}

Deno.test("admin server: /metrics is the text of the metrics with its content type", async () => {
  await withServer({}, async (base) => {
    const response = await fetch(`${base}/metrics?x=1`);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/plain; version=0.0.4; charset=utf-8");
    assert.equal(response.headers.get("cache-control"), "no-store"); // each look is a new one
    assert.equal(await response.text(), "up 1\n");
  });
});

Deno.test("admin server: /healthz says that the process lives, also when it is not ready", async () => {
  await withServer({ ready: () => false }, async (base) => {
    assert.deepEqual(await ask(`${base}/healthz`), [200, "ok\n"]);
  });
});

Deno.test("admin server: /readyz follows whether handoffs are taken", async () => {
  let ready = false;
  await withServer({ ready: () => ready }, async (base) => {
    assert.deepEqual(await ask(`${base}/readyz`), [503, "not ready\n"]);
    ready = true;
    assert.deepEqual(await ask(`${base}/readyz`), [200, "ready\n"]);
  });
});

Deno.test("admin server: HEAD gets the head of the page alone", async () => {
  await withServer({}, async (base, server) => {
    const response = await fetch(`${base}/metrics`, { method: "HEAD" });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-length"), "5");
    assert.equal(await response.text(), "");

    const conn = await Deno.connect({ hostname: "127.0.0.1", port: server.addr.port });
    await conn.write(
      new TextEncoder().encode("HEAD /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
    );
    assert.match(await new Response(conn.readable).text(), /^HTTP\/1\.1 200 OK\r\n(.+\r\n)+\r\n$/);
  });
});

Deno.test("admin server: other paths are 404 and other methods 405 with Allow", async () => {
  await withServer({}, async (base) => {
    for (const path of ["/", "/metrics/", "/nope", "/toString", "/__proto__"]) {
      assert.deepEqual(await ask(base + path), [
        404,
        "not found: there are /metrics, /status, /healthz and /readyz\n",
      ]);
    }
    const response = await fetch(`${base}/metrics`, { method: "POST", body: "x" });
    assert.equal(response.status, 405);
    assert.equal(response.headers.get("allow"), "GET, HEAD");
    assert.equal(await response.text(), "only GET and HEAD\n");
  });
});

Deno.test("admin server: a page that fails is a 500 without the reason, which onError gets", async () => {
  const failure = new Error("geheim");
  const errors: unknown[] = [];
  const metrics = (): Promise<string> => Promise.reject(failure);
  await withServer({ metrics, onError: (error) => errors.push(error) }, async (base) => {
    assert.deepEqual(await ask(`${base}/metrics`), [500, "this page failed; the log says why\n"]);
  });
  assert.deepEqual(errors, [failure]);
});

Deno.test("admin server: an occupied port is refused with key, value and what to do", async () => {
  await withServer({}, (_, server) => {
    const value = `127.0.0.1:${server.addr.port}`;
    assert.throws(() => openAdminServer(server.addr, pages()), {
      name: "ListenError",
      message:
        `metrics.listen_addr = "${value}": cannot listen: somebody listens there already; expected a free port`,
    });
    return Promise.resolve();
  });
});

Deno.test("admin server: an address that is not this machine's is refused", () => {
  // 192.0.2.0/24 is for documentation (RFC 5737).
  assert.throws(() => openAdminServer({ hostname: "192.0.2.1", port: 9090 }, pages()), {
    name: "ListenError",
    message:
      /^metrics\.listen_addr = "192\.0\.2\.1:9090": cannot listen: .+; expected an address of this machine$/,
  });
});

Deno.test({
  name: "admin server: an address that the sandbox denies is refused with the flag to extend",
  permissions: { net: ["127.0.0.1:1"] },
  fn: () => {
    assert.throws(() => openAdminServer({ hostname: "::1", port: 9090 }, pages()), {
      name: "ListenError",
      message: `metrics.listen_addr = "[::1]:9090": cannot listen: the sandbox denies it; ` +
        "start with --allow-net=[::1]:9090 besides the other permissions",
    });
  },
});

// Each has sent nothing that is not read: where something is, the end is a reset.
Deno.test("admin server: close ends readers that hang, and the port is free again", async () => {
  const asked = Promise.withResolvers<void>();
  const never = Promise.withResolvers<string>();
  const metrics = (): Promise<string> => {
    asked.resolve();
    return never.promise;
  };
  const server = openAdminServer(LOOPBACK, pages({ metrics }));
  const connect = async (request: string): Promise<Deno.TcpConn> => {
    const conn = await Deno.connect(server.addr);
    await conn.write(new TextEncoder().encode(request));
    return conn;
  };
  const waiting = await connect("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  // What comes in one segment is read together, and the answer to the first half tells that it has been.
  const unfinished = await connect("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\nGET /metrics HT");
  let answer = "";
  const decoder = new TextDecoder();
  while (!answer.endsWith("\r\n\r\nok\n")) {
    const bytes = new Uint8Array(1024);
    const read = await unfinished.read(bytes);
    assert(read !== null, answer);
    answer += decoder.decode(bytes.subarray(0, read), { stream: true });
  }
  await asked.promise;
  await server.close();
  for (const conn of [waiting, unfinished]) {
    assert.equal(await conn.read(new Uint8Array(1)), null);
    conn.close();
  }
  const again = openAdminServer(server.addr, pages());
  await again.close();
  never.resolve("");
});

Deno.test("admin server: prints nothing of its own", async () => {
  const module = JSON.stringify(new URL("../../src/ops/admin_server.ts", import.meta.url).href);
  const script = `const { openAdminServer } = await import(${module});
    const server = openAdminServer({ hostname: "127.0.0.1", port: 0 }, {});
    await server.close();`;
  const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-lock", script],
    env: { NO_COLOR: "1" },
  }).output();
  const decoder = new TextDecoder();
  assert.deepEqual([decoder.decode(stdout), decoder.decode(stderr), success], ["", "", true]);
});

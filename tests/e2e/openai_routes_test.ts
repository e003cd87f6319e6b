/** The OpenAI backend over the real daemon: every way to a provider, and what becomes of those that lead nowhere. */
import assert from "node:assert/strict";
import { certificate, PROTOCOLS } from "../support/backend_rig.ts";
import { startDaemon } from "../support/daemon.ts";
import { TestFolder } from "../support/folders.ts";
import { makeAuthority, type MockLlm, mockLlm, type MockProtocol } from "../support/mock_llm.ts";
import { answer, broken, HELLO, KEY, UNAVAILABLE } from "../support/openai_daemon.ts";
import { testProxy } from "../support/proxy.ts";
import { ask, type Site, startSite } from "../support/several_backends.ts";
import { plainResponse } from "../support/wire.ts";

/** A proxy speaks HTTP/1.1 to whom it is asked for by http://. */
const PROXIED = ["h1", "h1s", "h2"] as const;

/** Keys of `[backends.NAME.openai]`. */
type Way = Readonly<Record<string, string | boolean>>;

/** What a daemon is given besides its ways. */
interface Surroundings {
  readonly env?: Readonly<Record<string, string>>;
  readonly permissions?: readonly string[];
  readonly files?: readonly string[];
  /** What each backend has besides, as TOML. */
  readonly more?: string;
}

/** A daemon with a backend for each way, which a handoff names; it is asked once for each. */
function startWays(
  ways: Readonly<Record<string, Way>>,
  { env = {}, permissions = [], files = [], more = "" }: Surroundings = {},
): Promise<Site> {
  const lines = (way: Way) =>
    Object.entries({ api_key: KEY, max_retries: 0, ...way }).map(([key, value]) =>
      `openai.${key} = ${JSON.stringify(value)}\n`
    );
  const toml = `backend.selectable = ${JSON.stringify(Object.keys(ways))}\n` +
    Object.entries(ways).map(([name, way]) =>
      `[backends.${name}]\nprovider = "openai"\n${more}${lines(way).join("")}`
    ).join("");
  return startSite(toml, env, permissions, files);
}

/** The client hears nothing of the reason, the log all of it, but no secret. */
async function assertUnavailable(site: Site, backend: string, message: RegExp): Promise<void> {
  const { daemon } = site;
  assert.equal(await ask(site, { backend, request_id: `lost-${backend}` }), UNAVAILABLE);
  await daemon.until(
    `a line of ${backend} like ${message}`,
    () => daemon.stderr.some((line) => line.includes(`"lost-${backend}"`) && message.test(line)),
  );
  assert.equal(await daemon.metric("daemon_backend_errors", { backend, kind: "unavailable" }), 1);
  assert.ok(!daemon.stderr.some((line) => line.includes(KEY) || line.includes("pass")));
}

/** Asks a way that leads to the stand-in, over that version of HTTP. */
async function assertAnswered(site: Site, backend: string, mock: MockLlm, version: string): Promise<void> {
  assert.equal(await ask(site, { backend }), HELLO);
  assert.equal(mock.requests.at(-1)?.httpVersion, version);
}

function closedPort(): number {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return listener.addr.port;
}

Deno.test("openai: nobody listens, a name that is none, a certificate that nobody vouches for", async (t) => {
  await using mock = await mockLlm({ protocol: "h2", certificate: await certificate() });
  const cases: readonly [name: string, base: string, message: RegExp][] = [
    ["refused", `http://127.0.0.1:${closedPort()}/v1`, /cannot connect to 127.0.0.1:\d+: .*refused/],
    ["refused-tls", `https://127.0.0.1:${closedPort()}/v1`, /cannot connect to 127.0.0.1:\d+: .*refused/],
    ["dns", "http://no-such-host.invalid/v1", /cannot connect to no-such-host.invalid:80: /],
    ["tls", mock.base, /cannot connect to 127.0.0.1:\d+: .*certificate/],
  ];
  const all = [true, false].flatMap((http2) =>
    cases.map(([name, api_base, message]) => ({
      name: `${name}-${http2 ? 2 : 1}`,
      way: { api_base, http2 },
      message,
    }))
  );
  await using site = await startWays(Object.fromEntries(all.map(({ name, way }) => [name, way])), {
    permissions: ["--allow-net=127.0.0.1,no-such-host.invalid"],
  });
  for (const [index, { name, message }] of all.entries()) {
    await t.step(name, async () => {
      await assertUnavailable(site, name, message);
      assert.equal(await site.daemon.metric("daemon_upstream_connect_failures_total"), index + 1);
    });
  }
  assert.equal(mock.requests.length, 0);
});

Deno.test("openai on a Unix socket", async (t) => {
  using folder = new TestFolder();
  const paths = ["h1", "h2c", "none"].map((name) => `${folder.path}/${name}.sock`);
  const way = (index: number): Way => ({
    api_base: "http://localhost/v1",
    api_socket: paths[index] as string,
    http2: index > 0,
  });
  await using site = await startWays({ h1: way(0), h2c: way(1), none: way(2) }, {
    // As docs/security.md has them.
    permissions: [
      `--allow-net=127.0.0.1:0,${paths.map((path) => `unix:${path}`)}`,
      `--allow-write=${paths}`,
    ],
    files: paths,
  });
  for (const [index, protocol] of (["h1", "h2c"] as const).entries()) {
    await t.step(protocol, async () => {
      await using mock = await mockLlm({ protocol, socketPath: paths[index] as string });
      await assertAnswered(site, protocol, mock, protocol === "h1" ? "1.1" : "2.0");
      assert.equal(await ask(site, { backend: protocol, test_pattern: "status-500" }), UNAVAILABLE);
      const [sent] = mock.requests;
      assert.equal(sent?.headers["host"] ?? sent?.headers[":authority"], "localhost");
    });
  }
  await t.step("which is not there", async () => {
    await assertUnavailable(site, "none", /cannot connect to the Unix socket .*none.sock: No such file/);
  });
});

Deno.test("openai: a certificate is verified with ca_file, and not with insecure_ssl", async (t) => {
  using folder = new TestFolder();
  const pem = await certificate();
  const file = `${folder.path}/ca.pem`;
  Deno.writeTextFileSync(file, pem.cert);
  await using h2 = await mockLlm({ protocol: "h2", certificate: pem });
  await using h1s = await mockLlm({ protocol: "h1s", certificate: pem });
  const ways: Record<string, Way> = {
    // A server of both.
    older: { api_base: h2.base, http2: false, ca_file: file },
  };
  const servers = { h2, h1s };
  for (const [name, { base }] of Object.entries(servers)) {
    const way = { api_base: base, http2: name === "h2" };
    ways[`${name}-file`] = { ...way, ca_file: file };
    ways[`${name}-insecure`] = { ...way, insecure_ssl: true };
    ways[`${name}-neither`] = way;
  }
  await using site = await startWays(ways, { files: [file] });
  for (const [name, mock] of Object.entries(servers)) {
    const version = name === "h2" ? "2.0" : "1.1";
    await t.step(`${name}: ca_file`, () => assertAnswered(site, `${name}-file`, mock, version));
    await t.step(`${name}: insecure_ssl`, () => assertAnswered(site, `${name}-insecure`, mock, version));
    await t.step(`${name}: neither`, async () => {
      const before = mock.requests.length;
      await assertUnavailable(site, `${name}-neither`, /cannot connect to 127.0.0.1:\d+: .*certificate/);
      assert.equal(mock.requests.length, before);
    });
  }
  await t.step(
    "http2 = false speaks HTTP/1.1 to a server of both",
    () => assertAnswered(site, "older", h2, "1.1"),
  );
});

Deno.test("openai: a private authority is trusted from ca_file and from the system's store, beside the public ones", async (t) => {
  const { leaf, authority } = await makeAuthority();
  await using mock = await mockLlm({ protocol: "h2", certificate: leaf });
  using folder = new TestFolder();
  const file = `${folder.path}/authority.pem`;
  Deno.writeTextFileSync(file, authority);
  const without = { api_base: mock.base };
  const refused = /cannot connect to 127.0.0.1:\d+: .*certificate/;
  await t.step("in ca_file, or nowhere", async () => {
    await using site = await startWays({ file: { ...without, ca_file: file }, nowhere: without }, {
      files: [file],
    });
    await assertAnswered(site, "file", mock, "2.0");
    await assertUnavailable(site, "nowhere", refused);
  });
  // SSL_CERT_FILE is where the system's store lies.
  await t.step("in the system's store", async () => {
    await using site = await startWays({ stored: without }, { env: { SSL_CERT_FILE: file }, files: [file] });
    await assertAnswered(site, "stored", mock, "2.0");
  });
  await t.step("in the system's store, which is not to be asked", async () => {
    const env = { SSL_CERT_FILE: file, DENO_TLS_CA_STORE: "mozilla" };
    await using site = await startWays({ stored: without }, { env, files: [file] });
    await assertUnavailable(site, "stored", refused);
  });
});

Deno.test("openai through a proxy", async (t) => {
  const pem = await certificate();
  await using h1 = await mockLlm({ protocol: "h1" });
  await using h1s = await mockLlm({ protocol: "h1s", certificate: pem });
  await using h2 = await mockLlm({ protocol: "h2", certificate: pem });
  const mocks = { h1, h1s, h2 };
  using folder = new TestFolder();
  const file = `${folder.path}/ca.pem`;
  Deno.writeTextFileSync(file, pem.cert);
  const ways = Object.fromEntries(PROXIED.map((protocol) => [protocol, {
    api_base: mocks[protocol].base,
    http2: protocol === "h2",
    ...(protocol === "h1" ? {} : { ca_file: file }),
  }]));
  const open = testProxy("200 Connected");
  const shut = testProxy("407 Proxy Authentication Required");
  const behind = (port: number, noProxy: string, reached: readonly number[]): Promise<Site> => {
    const proxy = `http://user:pass@127.0.0.1:${port}`;
    return startWays(ways, {
      env: {
        HTTP_PROXY: proxy,
        HTTPS_PROXY: proxy,
        NO_PROXY: noProxy,
        DENO_NO_UPDATE_CHECK: "1", // Deno would ask for a newer version of itself, through the proxy
      },
      // Without the provider's own where it is not needed.
      permissions: [`--allow-net=127.0.0.1:0,${reached.map((each) => `127.0.0.1:${each}`)}`],
      files: [file],
    });
  };
  await t.step("which makes a tunnel, or is asked in the absolute form", async () => {
    await using site = await behind(open.port, "", [open.port]);
    for (const [index, protocol] of PROXIED.entries()) {
      const mock = mocks[protocol];
      await assertAnswered(site, protocol, mock, protocol === "h2" ? "2.0" : "1.1");
      assert.deepEqual([mock.counts.connections, open.asked.length], [1, index + 1]);
      const authority = `127.0.0.1:${mock.port}`;
      const credentials = `Proxy-Authorization: Basic ${btoa("user:pass")}\r\n`;
      assert.ok(
        open.asked[index]?.startsWith(
          protocol !== "h1"
            ? `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials}\r\n`
            : `POST http://${authority}/v1/chat/completions HTTP/1.1\r\nhost: ${authority}\r\n${credentials}`,
        ),
        open.asked[index],
      );
    }
  });
  await t.step("which refuses", async () => {
    await using site = await behind(shut.port, "", [shut.port]);
    for (const protocol of ["h1s", "h2"]) {
      await assertUnavailable(
        site,
        protocol,
        /through the proxy 127.0.0.1:\d+: the proxy answered HTTP\/1.1 407/,
      );
    }
    assert.equal(await ask(site, { backend: "h1" }), UNAVAILABLE);
    await site.daemon.until(
      "the refusal in the log",
      () => site.daemon.stderr.some((line) => line.includes("the provider answered 407 without a word")),
    );
  });
  await t.step("which is not there", async () => {
    const port = closedPort();
    await using site = await behind(port, "", [port]);
    for (const protocol of PROXIED) {
      await assertUnavailable(site, protocol, /through the proxy 127.0.0.1:\d+: .*refused/);
    }
  });
  await t.step("which NO_PROXY leaves out", async () => {
    await using site = await behind(shut.port, "127.0.0.1", PROXIED.map((protocol) => mocks[protocol].port));
    const before = shut.asked.length;
    for (const backend of PROXIED) assert.equal(await ask(site, { backend }), HELLO);
    assert.equal(shut.asked.length, before);
  });
  await open.stop();
  await shut.stop();
});

Deno.test("openai: a server that takes the connection and says nothing", async () => {
  const connections: Deno.Conn[] = [];
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const accepting = (async () => {
    for await (const connection of listener) connections.push(connection);
  })();
  const ways = Object.fromEntries(
    ["http", "https"].flatMap((scheme) =>
      [true, false].map((http2) => [
        `${scheme}-${http2 ? 2 : 1}`,
        { api_base: `${scheme}://127.0.0.1:${listener.addr.port}/v1`, http2 },
      ])
    ),
  );
  await using site = await startWays(ways, { more: "timeout_secs = 1\n" });
  await Promise.all(
    Object.keys(ways).map(async (backend) =>
      assert.equal(await ask(site, { backend }), plainResponse(504, "Backend timeout"), backend)
    ),
  );
  for (const backend of Object.keys(ways)) {
    assert.equal(await site.daemon.metric("daemon_backend_errors", { backend, kind: "timeout" }), 1);
  }
  assert.equal(await site.daemon.metric("daemon_upstream_waiting"), 0);
  listener.close();
  await accepting;
  assert.equal(connections.length, 4);
  for (const connection of connections) connection.close();
});

Deno.test("openai: a provider that dies and comes back", async (t) => {
  using folder = new TestFolder();
  const pem = await certificate();
  const file = `${folder.path}/ca.pem`;
  Deno.writeTextFileSync(file, pem.cert);
  await using started = new AsyncDisposableStack();
  const mocks: (readonly [MockProtocol, MockLlm])[] = [];
  for (const protocol of PROTOCOLS) {
    mocks.push([protocol, started.use(await mockLlm({ protocol, certificate: pem }))]);
  }
  const way = (protocol: MockProtocol, { base }: MockLlm): Way => ({
    api_base: base,
    ...(protocol === "h2" ? { ca_file: file } : {}),
  });
  await using site = await startWays(
    Object.fromEntries(mocks.map(([protocol, mock]) => [protocol, way(protocol, mock)])),
    { files: [file], more: "timeout_secs = 30\n" },
  );
  for (const [protocol, mock] of mocks) {
    await t.step(protocol, async () => {
      using cut = site.daemon.handOff({ backend: protocol, test_pattern: "stall-1" });
      await cut.readUntil("word0 ");
      await mock.close();
      assert.equal(await cut.readAll(), broken(["word0 "]));
      assert.equal(await ask(site, { backend: protocol }), UNAVAILABLE);
      await using _ = await mockLlm({ protocol, port: mock.port, certificate: pem });
      assert.equal(await ask(site, { backend: protocol }), HELLO);
    });
  }
});

Deno.test("openai: a worker's successor trusts what ca_file had at the start, though the file is gone", async () => {
  using folder = new TestFolder();
  const pem = await certificate();
  const [file, path] = [`${folder.path}/ca.pem`, `${folder.path}/daemon.toml`];
  Deno.writeTextFileSync(file, pem.cert);
  await using mock = await mockLlm({ protocol: "h2", certificate: pem });
  Deno.writeTextFileSync(
    path,
    `[backend]\nprovider = "openai"\nselectable = ["mock"]\n[backends.mock]\nprovider = "mock"\n` +
      `[backend.openai]\napi_key = "k"\napi_base = "${mock.base}"\nca_file = "${file}"\n`,
  );
  await using daemon = await startDaemon({
    unruly: true,
    args: [path],
    permissions: [`--allow-read=config,/etc/streaming-daemon-ts,src,${folder.path}`],
  });
  Deno.removeSync(file);
  using _culprit = daemon.handOff({ backend: "mock", prompt: "die" });
  await daemon.logged("Worker died");
  assert.equal(await answer(daemon, "plain"), HELLO);
  assert.equal(await daemon.metric("daemon_worker_restarts_total"), 1);
  // A reload reads it anew.
  daemon.signal("SIGHUP");
  const { fields } = await daemon.logged("The new configuration does not hold, the old one stays");
  assert.match(JSON.stringify(fields), /backend\.openai\.ca_file .*ca\.pem cannot be read/);
  assert.equal(await answer(daemon, "plain"), HELLO);
});

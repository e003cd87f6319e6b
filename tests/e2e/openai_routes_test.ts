/** The OpenAI backend over the real daemon: every way to a provider, and what becomes of those that lead nowhere. */
import assert from "node:assert/strict";
import { certificate, PROTOCOLS } from "../support/backend_rig.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { makeAuthority, mockLlm, type MockProtocol } from "../support/mock_llm.ts";
import { answer, broken, HELLO, KEY, openaiDaemon, UNAVAILABLE } from "../support/openai_daemon.ts";
import { testProxy } from "../support/proxy.ts";
import { plainResponse } from "../support/wire.ts";

/** A proxy speaks HTTP/1.1 to whom it is asked for by http://. */
const PROXIED: readonly MockProtocol[] = ["h1", "h1s", "h2"];

/** A daemon for which there is no provider, or not the one that it expects. */
function lostDaemon(
  env: Readonly<Record<string, string>>,
  permissions: readonly string[],
): Promise<TestDaemon> {
  return startDaemon({
    env: {
      DAEMON_BACKEND_PROVIDER: "openai",
      OPENAI_API_KEY: KEY,
      OPENAI_MAX_RETRIES: "0",
      ...env,
    },
    permissions,
  });
}

/** The client hears nothing of the reason, the log all of it, but no secret. */
async function assertUnavailable(daemon: TestDaemon, message: RegExp): Promise<void> {
  assert.equal(await answer(daemon, "plain"), UNAVAILABLE);
  await daemon.until(`a line like ${message}`, () => daemon.stderr.some((line) => message.test(line)));
  assert.equal(await daemon.metric("daemon_backend_errors", { backend: "openai", kind: "unavailable" }), 1);
  assert.ok(!daemon.stderr.some((line) => line.includes(KEY) || line.includes("pass")));
}

function closedPort(): number {
  using listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  return listener.addr.port;
}

for (const http2 of ["true", "false"]) {
  Deno.test(`openai, http2 = ${http2}: nobody listens, a name that is none, a certificate that nobody vouches for`, async (t) => {
    await using mock = await mockLlm({ protocol: "h2", certificate: await certificate() });
    const cases: readonly [name: string, base: string, message: RegExp][] = [
      ["refused", `http://127.0.0.1:${closedPort()}/v1`, /cannot connect to 127.0.0.1:\d+: .*refused/],
      ["refused, TLS", `https://127.0.0.1:${closedPort()}/v1`, /cannot connect to 127.0.0.1:\d+: .*refused/],
      ["DNS", "http://no-such-host.invalid/v1", /cannot connect to no-such-host.invalid:80: /],
      ["TLS", mock.base, /cannot connect to 127.0.0.1:\d+: .*certificate/],
    ];
    for (const [name, base, message] of cases) {
      await t.step(name, async () => {
        await using daemon = await lostDaemon(
          { OPENAI_API_BASE: base, OPENAI_HTTP2_ENABLED: http2 },
          ["--allow-net=127.0.0.1,no-such-host.invalid"],
        );
        await assertUnavailable(daemon, message);
        assert.equal(await daemon.metric("daemon_upstream_connect_failures_total"), 1);
      });
    }
    assert.equal(mock.requests.length, 0);
  });
}

for (const protocol of ["h1", "h2c"] as const) {
  Deno.test(`openai over ${protocol} on a Unix socket`, async () => {
    const folder = await Deno.makeTempDir();
    const socketPath = `${folder}/llm.sock`;
    const setup = {
      env: { OPENAI_API_SOCKET: socketPath, OPENAI_HTTP2_ENABLED: `${protocol === "h2c"}` },
      // As README has them.
      permissions: [
        `--allow-net=127.0.0.1:0,unix:${socketPath}`,
        `--allow-read=config,/etc/streaming-daemon-ts,src,${socketPath}`,
        `--allow-write=${socketPath}`,
      ],
    };
    {
      await using both = await openaiDaemon(protocol, { ...setup, mock: { socketPath } });
      assert.equal(await answer(both.daemon, "plain"), HELLO);
      assert.equal(await answer(both.daemon, "status-500"), UNAVAILABLE);
      const [sent] = both.mock.requests;
      assert.equal(sent?.httpVersion, protocol === "h1" ? "1.1" : "2.0");
      assert.equal(sent.headers["host"] ?? sent.headers[":authority"], "localhost");
    }
    await using daemon = await lostDaemon(
      { OPENAI_API_BASE: "http://localhost/v1", ...setup.env },
      setup.permissions,
    );
    await assertUnavailable(daemon, /cannot connect to the Unix socket .*llm.sock: No such file/);
    await Deno.remove(folder, { recursive: true });
  });
}

for (const protocol of ["h2", "h1s"] as const) {
  Deno.test(`openai over ${protocol}: a certificate is verified with ca_file, and not with insecure_ssl`, async (t) => {
    const env = { OPENAI_HTTP2_ENABLED: `${protocol === "h2"}` };
    const version = protocol === "h2" ? "2.0" : "1.1";
    await t.step("ca_file", async () => {
      await using both = await openaiDaemon(protocol, { env });
      assert.equal(await answer(both.daemon, "plain"), HELLO);
      assert.equal(both.mock.requests[0]?.httpVersion, version);
    });
    await t.step("insecure_ssl", async () => {
      await using both = await openaiDaemon(protocol, {
        env: { ...env, OPENAI_CA_FILE: "", OPENAI_INSECURE_SSL: "true" },
      });
      assert.equal(await answer(both.daemon, "plain"), HELLO);
      assert.equal(both.mock.requests[0]?.httpVersion, version);
    });
    await t.step("neither", async () => {
      await using both = await openaiDaemon(protocol, { env: { ...env, OPENAI_CA_FILE: "" } });
      await assertUnavailable(both.daemon, /cannot connect to 127.0.0.1:\d+: .*certificate/);
    });
  });
}

Deno.test("openai: a private authority is trusted from ca_file and from the system's store, beside the public ones", async (t) => {
  const { leaf, authority } = await makeAuthority();
  await using mock = await mockLlm({ protocol: "h2", certificate: leaf });
  const file = await Deno.makeTempFile();
  await Deno.writeTextFile(file, authority);
  // SSL_CERT_FILE is where the system's store lies; the other one is of somebody else's.
  const cases: readonly (readonly [name: string, env: Record<string, string>, trusted: boolean])[] = [
    ["in ca_file", { OPENAI_CA_FILE: file }, true],
    ["in the system's store", { SSL_CERT_FILE: file }, true],
    [
      "in the system's store, which is not to be asked",
      { SSL_CERT_FILE: file, DENO_TLS_CA_STORE: "mozilla" },
      false,
    ],
    ["nowhere", {}, false],
  ];
  for (const [name, env, trusted] of cases) {
    await t.step(name, async () => {
      await using daemon = await lostDaemon({ OPENAI_API_BASE: mock.base, ...env }, [
        `--allow-read=config,/etc/streaming-daemon-ts,src,${file}`,
      ]);
      if (trusted) assert.equal(await answer(daemon, "plain"), HELLO);
      else await assertUnavailable(daemon, /cannot connect to 127.0.0.1:\d+: .*certificate/);
    });
  }
  await Deno.remove(file);
});

Deno.test("openai: http2 = false speaks HTTP/1.1 to a server of both", async () => {
  await using both = await openaiDaemon("h2", { env: { OPENAI_HTTP2_ENABLED: "false" } });
  assert.equal(await answer(both.daemon, "plain"), HELLO);
  assert.equal(both.mock.requests[0]?.httpVersion, "1.1");
});

for (const protocol of PROXIED) {
  Deno.test(`openai over ${protocol} through a proxy`, async (t) => {
    const secure = protocol === "h2" || protocol === "h1s";
    const http2 = `${protocol === "h2"}`;
    const pem = await certificate();
    await using mock = await mockLlm({ protocol, certificate: pem });
    const caFile = await Deno.makeTempFile();
    await Deno.writeTextFile(caFile, pem.cert);
    const open = testProxy("200 Connected", mock.port);
    const shut = testProxy("407 Proxy Authentication Required", mock.port);
    const behind = (port: number, noProxy: string, reached: readonly number[]): Promise<TestDaemon> =>
      lostDaemon({
        OPENAI_API_BASE: mock.base,
        OPENAI_HTTP2_ENABLED: http2,
        OPENAI_CA_FILE: secure ? caFile : "",
        [secure ? "HTTPS_PROXY" : "HTTP_PROXY"]: `http://user:pass@127.0.0.1:${port}`,
        NO_PROXY: noProxy,
        DENO_NO_UPDATE_CHECK: "1", // Deno would ask for a newer version of itself, through the proxy
      }, [
        // Without the provider's own where it is not needed.
        `--allow-net=127.0.0.1:0,${reached.map((each) => `127.0.0.1:${each}`).join()}`,
        `--allow-read=config,/etc/streaming-daemon-ts,src,${caFile}`,
      ]);
    await t.step(secure ? "which makes a tunnel" : "which is asked in the absolute form", async () => {
      await using daemon = await behind(open.port, "", [open.port]);
      assert.equal(await answer(daemon, "plain"), HELLO);
      assert.equal(mock.requests.at(-1)?.httpVersion, protocol === "h2" ? "2.0" : "1.1");
      assert.equal(open.asked.length, mock.counts.connections);
      const authority = `127.0.0.1:${mock.port}`;
      const credentials = `Proxy-Authorization: Basic ${btoa("user:pass")}\r\n`;
      assert.ok(
        open.asked[0]?.startsWith(
          secure
            ? `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials}\r\n`
            : `POST http://${authority}/v1/chat/completions HTTP/1.1\r\nhost: ${authority}\r\n${credentials}`,
        ),
        open.asked[0],
      );
    });
    await t.step("which refuses", async () => {
      await using daemon = await behind(shut.port, "", [shut.port]);
      if (secure) {
        await assertUnavailable(daemon, /through the proxy 127.0.0.1:\d+: the proxy answered HTTP\/1.1 407/);
      } else {
        assert.equal(await answer(daemon, "plain"), UNAVAILABLE);
        await daemon.until(
          "the refusal in the log",
          () => daemon.stderr.some((line) => line.includes("the provider answered 407 without a word")),
        );
      }
    });
    await t.step("which is not there", async () => {
      const port = closedPort();
      await using daemon = await behind(port, "", [port]);
      await assertUnavailable(daemon, /through the proxy 127.0.0.1:\d+: .*refused/);
    });
    await t.step("which NO_PROXY leaves out", async () => {
      await using daemon = await behind(shut.port, "127.0.0.1", [mock.port]);
      assert.equal(await answer(daemon, "plain"), HELLO);
      assert.equal(shut.asked.length, 1);
    });
    await open.stop();
    await shut.stop();
    await Deno.remove(caFile);
  });
}

Deno.test("openai: a server that takes the connection and says nothing", async (t) => {
  const connections: Deno.Conn[] = [];
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const accepting = (async () => {
    for await (const connection of listener) connections.push(connection);
  })();
  for (
    const [scheme, http2] of [["http", "true"], ["http", "false"], ["https", "true"], ["https", "false"]]
  ) {
    await t.step(`${scheme}, http2 = ${http2}`, async () => {
      await using daemon = await lostDaemon({
        OPENAI_API_BASE: `${scheme}://127.0.0.1:${listener.addr.port}/v1`,
        OPENAI_HTTP2_ENABLED: `${http2}`,
        DAEMON_BACKEND_TIMEOUT_SECS: "1",
      }, []);
      assert.equal(await answer(daemon, "plain"), plainResponse(504, "Backend timeout"));
      assert.equal(await daemon.metric("daemon_backend_errors", { backend: "openai", kind: "timeout" }), 1);
      assert.equal(await daemon.metric("daemon_upstream_waiting"), 0);
    });
  }
  listener.close();
  await accepting;
  assert.equal(connections.length, 4);
  for (const connection of connections) connection.close();
});

for (const protocol of PROTOCOLS) {
  Deno.test(`openai over ${protocol}: a provider that dies and comes back`, async () => {
    await using both = await openaiDaemon(protocol, { env: { DAEMON_BACKEND_TIMEOUT_SECS: "30" } });
    const { mock, daemon } = both;
    using cut = daemon.handOff({ prompt: "x", test_pattern: "stall-1" });
    await cut.readUntil("word0 ");
    await mock.close();
    assert.equal(await cut.readAll(), broken(["word0 "]));
    assert.equal(await answer(daemon, "plain"), UNAVAILABLE);
    await using _ = await mockLlm({ protocol, port: mock.port, certificate: await certificate() });
    assert.equal(await answer(daemon, "plain"), HELLO);
  });
}

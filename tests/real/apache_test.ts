/** Real Apache before the real daemon, and the examples as Apache and PHP read them. Needs apache2, curl, php-cli. */
import assert from "node:assert/strict";
import { mockPieces } from "../support/mock_answer.ts";
import { APACHE_GROUP, checkApacheConfig, freePort, startApache } from "../support/apache.ts";
import { ask, certificate, Ears, HELLO, makeOpenAi } from "../support/backend_rig.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { mockLlm } from "../support/mock_llm.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url);
const ROOT = Deno.uid() === 0;

/** The daemon's answer to a handoff without data. */
const ANSWER = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n" +
  "Connection: close\r\nX-Accel-Buffering: no\r\n\r\n" +
  mockPieces("Hello")
    .map((content) => `data: ${JSON.stringify({ content })}\n\n`).join("") +
  "data: [DONE]\n\n";

/** A daemon to whose sockets Apache's workers may connect. */
async function daemonForApache(env: Readonly<Record<string, string>> = {}): Promise<TestDaemon> {
  const daemon = await startDaemon({
    env: { ...ROOT ? { DAEMON_SOCKET_GROUP: APACHE_GROUP } : {}, ...env },
  });
  await Deno.chmod(daemon.folder, 0o711);
  return daemon;
}

/** Below a ServerRoot in /tmp: `fd://` takes no absolute path. */
function fdPath(daemon: TestDaemon): string {
  return `../..${daemon.pathOf("stream")}`;
}

async function run(command: string, ...args: string[]): Promise<{ code: number; text: string }> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args, stdin: "null" }).output();
  const decoder = new TextDecoder("utf-8", { fatal: true });
  return { code, text: decoder.decode(stdout) + decoder.decode(stderr) };
}

Deno.test("mod_proxy_fdpass hands a client of Apache over: the daemon's answer is the body, byte for byte", async () => {
  await using daemon = await daemonForApache();
  await using apache = await startApache({
    modules: ["proxy", "proxy_fdpass"],
    config: `ProxyPass "/x" "fd://${fdPath(daemon)}"`,
  });
  const fds = daemon.openFds();
  const { code, text } = await run("curl", "-sS", "-N", "-i", "--max-time", "20", `${apache.url}/x`);
  assert.equal(code, 0, text);
  const apachesHead = text.slice(0, text.indexOf("\r\n\r\n") + 4);
  assert.match(apachesHead, /^HTTP\/1\.1 200 OK\r\n/);
  assert.match(apachesHead, /\r\nConnection: close\r\n/);
  assert.equal(text.slice(apachesHead.length), ANSWER);
  await daemon.fdsBackTo(fds);
  assert.equal(await daemon.metric("daemon_handoffs_received"), 1);
});

Deno.test("what Apache handed over streams on when Apache has ended", async () => {
  await using daemon = await daemonForApache({ DAEMON_TOKEN_DELAY_MS: "200" });
  const apache = await startApache({
    modules: ["proxy", "proxy_fdpass"],
    config: `ProxyPass "/x" "fd://${fdPath(daemon)}"`,
  });
  let ended = false;
  try {
    const curl = new Deno.Command("curl", {
      args: ["-sS", "-N", "--max-time", "20", `${apache.url}/x`],
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    let text = "";
    for await (const chunk of curl.stdout.pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (ended || !text.includes("data: ")) continue;
      ended = true;
      await apache[Symbol.asyncDispose]();
      assert(text.length < ANSWER.length, "there was nothing left to stream");
    }
    assert(ended);
    assert.equal(text, ANSWER);
    assert.equal((await curl.status).code, 0);
  } finally {
    if (!ended) await apache[Symbol.asyncDispose]();
  }
});

Deno.test("curl goes away: the daemon notices through the socket that Apache handed over", async () => {
  await using daemon = await daemonForApache({ DAEMON_TOKEN_DELAY_MS: "60000" });
  await using apache = await startApache({
    modules: ["proxy", "proxy_fdpass"],
    config: `ProxyPass "/x" "fd://${fdPath(daemon)}"`,
  });
  const curl = new Deno.Command("curl", {
    args: ["-sS", "-N", `${apache.url}/x`],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  await daemon.until("the stream", async () => await daemon.metric("daemon_streams_active") === 1);
  curl.kill("SIGKILL");
  await curl.status;
  await daemon.until("its end", async () => await daemon.metric("daemon_streams_active") === 0);
  const reason = { reason: "client_disconnected" };
  assert.equal(await daemon.metric("daemon_stream_errors_total", reason), 1);
});

Deno.test("examples/apache/fdpass.conf lets nobody through to the daemon who is not known", async () => {
  await using daemon = await daemonForApache();
  const users = `${daemon.folder}/users`;
  // The hash of "secret", as `openssl passwd -apr1` makes it.
  await Deno.writeTextFile(users, "anna:$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0\n");
  const example = await Deno.readTextFile(new URL("apache/fdpass.conf", EXAMPLES));
  const config = example
    .replace(/^Define STREAMING_FD .*$/m, `Define STREAMING_FD ${fdPath(daemon)}`)
    .replace(/^Define STREAMING_USERS .*$/m, `Define STREAMING_USERS ${users}`);
  assert(config.includes(users) && config.includes(daemon.folder));
  await using apache = await startApache({
    modules: ["proxy", "proxy_fdpass", "authn_core", "auth_basic", "authn_file", "authz_user"],
    config,
  });
  const status = async (path: string, ...args: string[]): Promise<string> =>
    (await run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", ...args, apache.url + path)).text;
  assert.equal(await status("/stream-check"), "401");
  assert.equal(await status("/stream-check", "-u", "anna:wrong"), "401");
  assert.equal(await status("/stream-check/..%2fother", "-u", "anna:secret"), "404");
  assert.equal(await status("/stream-check/other", "-u", "anna:secret"), "403");
  assert.equal(await daemon.metric("daemon_connections_total"), 0);
  const { text } = await run("curl", "-sS", "-N", "-u", "anna:secret", `${apache.url}/stream-check`);
  assert.equal(text, ANSWER);
});

Deno.test("examples/apache/streaming.conf: Apache accepts it, the module's own directives aside", async () => {
  const config = await Deno.readTextFile(new URL("apache/streaming.conf", EXAMPLES));
  const modules = ["alias", "headers", "proxy", "proxy_fcgi"];
  const { valid, says } = await checkApacheConfig({ modules, config });
  assert(valid, says);
  // All that Apache was not asked about lies in the guarded sections.
  const outside = config.replace(/^ *<IfModule socket_handoff_module>[^]*?<\/IfModule>/gm, "");
  assert.notEqual(outside, config);
  assert.doesNotMatch(outside, /^\s*SocketHandoff/m);
  const broken = await checkApacheConfig({
    modules,
    config: config.replace("AllowOverride None", "AllowOverride Nothing"),
  });
  assert(!broken.valid);
});

for (const page of ["stream.php", "page.php"]) {
  Deno.test(`examples/php/${page}: php -l accepts it`, async () => {
    const { code, text } = await run("php", "-l", new URL(`php/${page}`, EXAMPLES).pathname);
    assert.equal(code, 0, text);
  });
}

/** PHP's own server with examples/php and a session of user 42; ends with the test. */
async function startPhp(): Promise<{ url: string; cookie: string } & AsyncDisposable> {
  const folder = await Deno.makeTempDir({ prefix: "php-test-" });
  const [session, port] = ["a".repeat(26), freePort()];
  await Deno.writeTextFile(`${folder}/sess_${session}`, 'user_id|i:42;csrf_token|s:5:"token";');
  const php = new Deno.Command("php", {
    args: ["-d", `session.save_path=${folder}`, "-S", `127.0.0.1:${port}`, "-t", `${EXAMPLES.pathname}php`],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  const lines = php.stderr.pipeThrough(new TextDecoderStream()).getReader();
  for (let said = ""; !said.includes("started");) {
    const { done, value } = await lines.read();
    if (done) throw new Error(`php does not start: ${said}`);
    said += value;
  }
  return {
    url: `http://127.0.0.1:${port}`,
    cookie: `PHPSESSID=${session}`,
    async [Symbol.asyncDispose](): Promise<void> {
      php.kill("SIGTERM");
      await lines.cancel();
      await php.status;
      await Deno.remove(folder, { recursive: true });
    },
  };
}

Deno.test("examples/php/stream.php asks for a handoff only for somebody it knows, and for what was asked", async (t) => {
  await using php = await startPhp();
  const known = { "Cookie": php.cookie, "X-CSRF-Token": "token" };
  const ask = async (headers: Readonly<Record<string, string>>, prompt?: string): Promise<Response> => {
    const body = new URLSearchParams(prompt === undefined ? {} : { prompt });
    const response = await fetch(`${php.url}/stream.php`, { method: "POST", headers, body });
    await response.body?.cancel();
    return response;
  };
  const refused: [string, number, Readonly<Record<string, string>>, string | undefined][] = [
    ["no session", 401, {}, "Hi"],
    ["a session that does not exist", 401, { ...known, Cookie: "PHPSESSID=" + "b".repeat(26) }, "Hi"],
    ["no token", 403, { Cookie: php.cookie }, "Hi"],
    ["another token", 403, { ...known, "X-CSRF-Token": "other" }, "Hi"],
    ["no prompt", 400, known, undefined],
    ["a long prompt", 413, known, "x".repeat(4001)],
    ["a prompt that is long when it is encoded", 413, known, "é".repeat(2000)],
  ];
  for (const [name, status, headers, prompt] of refused) {
    await t.step(name, async () => {
      const response = await ask(headers, prompt);
      assert.deepEqual([response.status, response.headers.get("X-Socket-Handoff")], [status, null]);
    });
  }
  await t.step("a prompt of any text", async () => {
    const prompt = 'Grüße,\r\nX-Evil: 1\n\0 "quoted" \u2028 😀';
    const { status, headers } = await ask(known, prompt);
    assert.equal(status, 200);
    assert.equal(headers.get("X-Socket-Handoff"), "/run/streaming-daemon-ts/daemon.sock");
    assert.equal(headers.get("X-Evil"), null);
    const { request_id, ...data } = JSON.parse(headers.get("X-Handoff-Data") ?? "");
    assert.deepEqual(data, { prompt, model: "gpt-4o", max_tokens: 1000, user_id: 42 });
    assert.match(request_id, /^[0-9a-f]{16}$/);
  });
  await t.step("too many in a minute", async () => {
    let response = await ask(known, "Hi");
    for (let count = 0; count < 20 && response.status === 200; count++) response = await ask(known, "Hi");
    assert.deepEqual([response.status, response.headers.get("Retry-After")], [429, "60"]);
  });
});

for (const tls of [false, true]) {
  Deno.test(`a provider behind Apache's HTTP/2${tls ? " over TLS" : ""} answers 250 streams over three connections`, async () => {
    await using provider = await mockLlm({ protocol: "h1", events: 5, delayMs: 300 });
    const folder = await Deno.makeTempDir();
    const [certFile, keyFile] = [`${folder}/cert.pem`, `${folder}/key.pem`];
    const { cert, key } = await certificate();
    await Deno.writeTextFile(certFile, cert);
    await Deno.writeTextFile(keyFile, key);
    await using apache = await startApache({
      modules: ["proxy", "proxy_http", "http2", "ssl"],
      config: [
        "Protocols h2 h2c http/1.1",
        "H2MinWorkers 300",
        "H2MaxWorkers 300",
        `ProxyPass "/" "${provider.base.replace(/\/v1$/, "/")}" flushpackets=on`,
        ...(tls
          ? ["SSLEngine on", `SSLCertificateFile ${certFile}`, `SSLCertificateKeyFile ${keyFile}`]
          : []),
      ].join("\n"),
    });
    const apiBase = `${tls ? apache.url.replace("http://127.0.0.1", "https://localhost") : apache.url}/v1`;
    const backend = await makeOpenAi({ apiBase, caFile: certFile, headTimeoutMs: 60_000 });
    const ears = new Ears(backend);
    const answers = await Promise.all(
      Array.from({ length: 250 }, () => ears.hear(ask("plain"))),
    );
    for (const answer of answers) assert.deepEqual(answer, HELLO);
    assert.equal(provider.requests.length, 250);
    // Apache lets 100 streams run on a connection.
    assert.deepEqual([backend.stats().opened, backend.stats().failedDials], [3, 0]);
    await backend.close();
    await ears.ended;
    await Deno.remove(folder, { recursive: true });
  });
}

/** The development front: what it hands over, and what it refuses. */
import assert from "node:assert/strict";
import { Front } from "../demo/front.ts";
import { openFds } from "../src/native/process.ts";
import { startDaemon } from "./support/daemon.ts";

const NOBODY = "/tmp/no-daemon-listens-here.sock";

/** Speaks HTTP/1.1 by hand, as a browser does, and reads until the end. */
async function exchange(url: string, request: string): Promise<string> {
  const { hostname, port } = new URL(url);
  using connection = await Deno.connect({ hostname, port: Number(port) });
  await connection.write(new TextEncoder().encode(request.replaceAll("\n", "\r\n")));
  return await new Response(connection.readable).text();
}

function get(url: string, path: string, headers = ""): Promise<string> {
  return exchange(url, `GET ${path} HTTP/1.1\nHost: ${new URL(url).host}\n${headers}\n`);
}

function post(url: string, body: string): Promise<string> {
  const head = `POST /stream HTTP/1.1\nHost: ${new URL(url).host}\nContent-Length: ${body.length}\n\n`;
  return exchange(url, head + body);
}

function front(socketPath = NOBODY): Promise<Front> {
  return Front.start({ port: 0, socketPath, lanes: 2 });
}

Deno.test("the daemon answers the front's client: the front adds nothing and ends nothing", async () => {
  await using daemon = await startDaemon();
  await using server = await front(daemon.socketPath);
  const answer = await get(server.url, "/stream?prompt=Gr%C3%BC%C3%9Fe");
  assert(answer.startsWith("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"), answer);
  assert(answer.includes("Grüße"), answer);
  assert(answer.endsWith("data: [DONE]\n\n"), answer);
  assert.equal(answer.split("\n\n").length, 1 + 18 + 1, answer);
});

Deno.test("a stream goes on when the front has stopped", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "100" } });
  const server = await front(daemon.socketPath);
  const answer = get(server.url, "/stream?prompt=Hi");
  await daemon.until("the stream", async () => await daemon.metric("daemon_streams_active") === 1);
  await server.stop();
  assert((await answer).endsWith("data: [DONE]\n\n"));
});

Deno.test("of a client that was handed over the front keeps nothing", async () => {
  await using daemon = await startDaemon({ env: { DAEMON_TOKEN_DELAY_MS: "60000" } });
  await using server = await front(daemon.socketPath);
  const before = openFds();
  const { hostname, port } = new URL(server.url);
  using client = await Deno.connect({ hostname, port: Number(port) });
  await client.write(new TextEncoder().encode(`GET /stream HTTP/1.1\r\nHost: ${hostname}:${port}\r\n\r\n`));
  assert.notEqual(await client.read(new Uint8Array(1)), null);
  await daemon.until("one open fd more, the client's own end", () => openFds() <= before + 1);
});

Deno.test("a body is the handoff's data as it is, so that the daemon's 400 can be seen", async () => {
  await using daemon = await startDaemon();
  await using server = await front(daemon.socketPath);
  assert((await post(server.url, '{"prompt":"By POST"}')).includes("By POST"));
  assert((await post(server.url, '{"prompt":7}')).startsWith("HTTP/1.1 400 Bad Request\r\n"));
});

Deno.test("a lane takes streams like the page's own address", async () => {
  await using daemon = await startDaemon();
  await using server = await front(daemon.socketPath);
  const lanes = JSON.parse((await get(server.url, "/lanes")).split("\r\n\r\n")[1] ?? "");
  assert.deepEqual(lanes, server.laneUrls);
  assert.equal(lanes.length, 2);
  for (const lane of lanes) assert((await get(lane, "/stream?prompt=Hi")).endsWith("data: [DONE]\n\n"));
});

Deno.test("no daemon: 503 and one line that says so", async () => {
  await using server = await front();
  const answer = await get(server.url, "/stream?prompt=Hi");
  assert(answer.startsWith("HTTP/1.1 503 Service Unavailable\r\n"), answer);
  assert.match(
    answer,
    /\r\n\r\nThe daemon does not take handoffs: Cannot connect to \/tmp\/no-daemon-listens-here\.sock: ENOENT.*\n$/,
  );
});

Deno.test("the page and the lane are whole documents that load nothing from elsewhere", async () => {
  await using server = await front();
  for (const path of ["/", "/lane"]) {
    const answer = await get(server.url, path);
    assert(answer.startsWith("HTTP/1.1 200 OK\r\n"), answer);
    assert.match(answer, /\r\nContent-Security-Policy: default-src 'none';/i);
    assert(answer.trimEnd().endsWith("</html>"));
    assert.doesNotMatch(answer, /(src|href)="(?!data:)/);
  }
});

Deno.test("only the page may embed a lane, and nobody the page", async () => {
  await using server = await front();
  const ancestors = async (path: string) =>
    / frame-ancestors ([^;\r]*)/.exec(await get(server.url, path))?.[1];
  assert.equal(await ancestors("/"), "'none'");
  assert.equal(await ancestors("/lane"), `${server.url} ${server.url.replace("127.0.0.1", "localhost")}`);
});

const REFUSED: readonly [string, number, (url: string) => Promise<string>][] = [
  ["another host's name", 421, (url) => exchange(url, "GET /stream HTTP/1.1\nHost: evil.example\n\n")],
  ["another origin", 403, (url) => get(url, "/stream", "Origin: http://evil.example\n")],
  ["an unknown address", 404, (url) => get(url, "/other")],
  ["an unknown method", 405, (url) => exchange(url, `PUT /stream HTTP/1.1\nHost: ${new URL(url).host}\n\n`)],
  ["a body that is too long", 413, (url) => post(url, "x".repeat(131_073))],
];
for (const [name, status, ask] of REFUSED) {
  Deno.test(`the front refuses ${name} with ${status}`, async () => {
    await using server = await front();
    const answer = await ask(server.url);
    assert(answer.startsWith(`HTTP/1.1 ${status} `), answer);
    assert.match(answer, /\r\nContent-Type: text\/plain; charset=utf-8\r\n/i);
  });
}

Deno.test("the front listens on loopback alone, and says it if it cannot", async () => {
  await using server = await front();
  for (const url of [server.url, ...server.laneUrls]) assert.equal(new URL(url).hostname, "127.0.0.1");
  const taken = Front.start({ port: Number(new URL(server.url).port), socketPath: NOBODY, lanes: 0 });
  await assert.rejects(taken, { code: "EADDRINUSE" });
});

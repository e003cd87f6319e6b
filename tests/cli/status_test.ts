/** The status as people read it, and the wait for it. */
import assert from "node:assert/strict";
import { StatusError } from "../../src/errors.ts";
import { askStatus, statusText } from "../../src/cli/status.ts";
import type { Status } from "../../src/ops/status.ts";

const STATUS: Status = {
  version: "1.2.3",
  deno: "2.9.6",
  pid: 42,
  uptime_secs: 119.6,
  state: "draining",
  connections: 3,
  max_connections: 100,
  streams: 2,
  streams_peak: 5,
  oldest_secs: 119,
  workers: [
    { index: 0, answers: true, streams: 1, oldest_secs: 7200 },
    { index: 1, answers: false, streams: 1, oldest_secs: 0 },
  ],
  providers: { openai: { requests: 9, errors: { timeout: 2, auth: 1 } }, mock: { requests: 1, errors: {} } },
  config: "[server]\n",
};

Deno.test("the status in lines: who does not answer stands out, failures have their kinds", () => {
  assert.equal(
    statusText(STATUS),
    `streaming-daemon-ts 1.2.3, Deno 2.9.6, pid 42, up 2 min: draining
clients    3 of 100
streams    2, at most 5; the oldest for 119 s
worker 0   1 streams, the oldest for 2 h 0 min
worker 1   1 streams, the oldest for 0 s; DOES NOT ANSWER
openai     9 requests, 2 × timeout, 1 × auth
mock       1 requests

[server]
`,
  );
});

for (
  const [secs, told] of [
    [0, "0 s"],
    [119.4, "119 s"],
    [120, "2 min"],
    [7199, "119 min"],
    [7200, "2 h 0 min"],
    [11_111, "3 h 5 min"],
    [172_799, "47 h 59 min"],
    [172_800, "2 d 0 h"],
    [1_000_000, "11 d 13 h"],
  ] as const
) {
  Deno.test(`the oldest stream has been running for ${told}`, () => {
    const text = statusText({ ...STATUS, oldest_secs: secs });
    assert(text.includes(`; the oldest for ${told}\n`), text);
  });
}

/** What is said where `serve`, if anything, answers the connection. */
async function failure(serve?: (connection: Deno.Conn) => Promise<void>): Promise<string> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  if (serve === undefined) listener.close();
  const served = serve === undefined ? undefined : listener.accept().then(serve);
  const error = await askStatus({ hostname: "127.0.0.1", port }).catch((error) => error);
  await served;
  assert(error instanceof StatusError, String(error));
  const [, where, why] = /^(.*?metrics\.enabled = false\)): (.*)$/.exec(error.message) ?? [];
  assert.equal(
    where,
    `http://127.0.0.1:${port}/status: no daemon says how it is there ` +
      "(metrics.listen_addr; none does with metrics.enabled = false)",
  );
  return why ?? "";
}

/** Reads the request's beginning and answers with `text`. */
function says(text: string): (connection: Deno.Conn) => Promise<void> {
  return async (connection) => {
    await connection.read(new Uint8Array(1024));
    await connection.write(new TextEncoder().encode(text));
    connection.close();
  };
}

Deno.test("the place of a status is a URL, of IPv6 as well", async () => {
  const message = await askStatus({ hostname: "::1", port: 1 }).catch(({ message }) => message);
  assert(String(message).startsWith("http://[::1]:1/status: "), String(message));
});

Deno.test("what stands in the way of a status is named", async () => {
  assert.match(await failure(), /ECONNREFUSED/);
  assert.equal(
    await failure(says("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnone\n")),
    "status 404: none",
  );
  assert.equal(
    await failure(says("HTTP/1.1 404 Not Found\r\nContent-Length: 18\r\n\r\n<html>\n<p>none</p>")),
    "status 404: <html>",
  );
  assert.match(await failure(says("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n<html")), /JSON/);
});

for (
  const [what, text] of [
    ["says nothing", ""],
    ["stops in the middle of its answer", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{"],
  ] as const
) {
  Deno.test(`a daemon that takes the connection and ${what} is not waited for without end`, async () => {
    const why = await failure(async (connection) => {
      await connection.write(new TextEncoder().encode(text));
      // Until the other side gives up.
      await connection.readable.pipeTo(new WritableStream()).catch(() => {});
    });
    assert.equal(why, "it timed out after 5 s");
  });
}

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

Deno.test("a daemon that takes the connection and says nothing is not waited for without end", async () => {
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const accepted = silent.accept();
  await assert.rejects(
    askStatus({ hostname: "127.0.0.1", port: silent.addr.port }),
    (error) => error instanceof StatusError && /no daemon says how it is there/.test(error.message),
  );
  (await accepted).close();
});

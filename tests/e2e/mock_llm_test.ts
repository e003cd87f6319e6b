/** `deno task mock-llm`: the stand-in provider, tried by hand. */
import assert from "node:assert/strict";
import { TextLineStream } from "../support/lines.ts";

Deno.test("mock-llm answers, tells what it is asked, and ends on SIGTERM", async () => {
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "task",
      "--quiet",
      "mock-llm",
      "--protocol",
      "h1",
      "--port",
      "0",
      "--events",
      "2",
      "--delay-ms",
      "0",
    ],
    cwd: new URL("../..", import.meta.url),
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const lines = process.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
    .getReader();
  const [, base] = /^h1 at (http:\/\/127\.0\.0\.1:\d+\/v1)$/.exec((await lines.read()).value ?? "") ?? [];
  assert(base !== undefined);
  const answer = await fetch(`${base}/chat/completions`, {
    method: "POST",
    headers: { "x-request-id": "seven" },
    body: JSON.stringify({ model: "m", stream: true, messages: [{ role: "user", content: "Hello" }] }),
  });
  assert.match(await answer.text(), /"content":"[^]*data: \[DONE\]\n\n$/);
  assert.match((await lines.read()).value ?? "", /^HTTP\/1\.1 \/v1\/chat\/completions seven/);
  process.kill("SIGTERM");
  assert.equal((await lines.read()).done, true);
  assert.equal((await process.status).code, 0);
});

Deno.test("mock-llm on a port that is in use says so in a line", async () => {
  using other = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "mock-llm", "--port", String(other.addr.port)],
    cwd: new URL("../..", import.meta.url),
    stdin: "null",
  }).output();
  assert.deepEqual([code, new TextDecoder().decode(stderr)], [
    1,
    `mock-llm: port ${other.addr.port} is in use; --port or --socket names another one\n`,
  ]);
});

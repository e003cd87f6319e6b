/** The fronts of examples/ that need no Apache hand real clients over. Needs python3, Ruby's puma, and PHP with its sockets extension. */
import assert from "node:assert/strict";
import { startDaemon } from "../support/daemon.ts";
import { TextLineStream } from "../support/lines.ts";
import { told } from "../support/openai_daemon.ts";
import { mockPieces } from "../support/mock_answer.ts";

/** How each is started on any port. */
const FRONTS: Readonly<Record<string, (file: string, socketPath: string) => readonly string[]>> = {
  "examples/python/front.py": (file, socketPath) => ["python3", file, "0", socketPath],
  "examples/php/front.php": (file, socketPath) => ["php", file, "0", socketPath],
  "examples/ruby/config.ru": (file, socketPath) => [
    "env",
    `STREAMING_DAEMON=${socketPath}`,
    "puma",
    "--bind=tcp://127.0.0.1:0",
    file,
  ],
};

async function startFront(
  file: string,
  socketPath: string,
): Promise<{ readonly url: string } & AsyncDisposable> {
  const path = new URL(`../../${file}`, import.meta.url).pathname;
  const [command = "", ...args] = FRONTS[file]?.(path, socketPath) ?? [];
  const process = new Deno.Command(command, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const lines = process.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
    .getReader();
  let port: string | undefined;
  while (port === undefined) {
    const { value, done } = await lines.read();
    assert(!done, `${file} ended without a word about its port`);
    port = /(?:^|127\.0\.0\.1:)(\d+)$/.exec(value)?.[1];
  }
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      process.kill("SIGTERM");
      await lines.cancel();
      await process.status;
    },
  };
}

/** All that comes for a request which is written byte by byte, and not by fetch. */
async function answerTo(url: string, request: Uint8Array<ArrayBuffer>): Promise<string> {
  using client = await Deno.connect({ port: Number(new URL(url).port) });
  const writer = client.writable.getWriter();
  await writer.write(request);
  return await new Response(client.readable).text();
}

for (const file of Object.keys(FRONTS)) {
  Deno.test(`${file} hands clients over, also one whose path is no UTF-8, and says 503 where no daemon is`, async () => {
    await using daemon = await startDaemon();
    await using front = await startFront(file, daemon.socketPath);
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, count) => (await fetch(`${front.url}/${count}`)).text()),
    );
    for (const [count, answer] of answers.entries()) {
      assert.equal(answer, told(...mockPieces(`/${count}`)).split("\r\n\r\n")[1]);
    }
    assert.equal(await daemon.metric("daemon_handoffs_received"), 20);
    const noText = Uint8Array.from("GET /\xff HTTP/1.1\r\n\r\n", (character) => character.charCodeAt(0));
    assert.match(await answerTo(front.url, noText), /You said: \\"\/\ufffd\\"/);

    await using lonely = await startFront(file, "/tmp/no-daemon-listens-here.sock");
    const response = await fetch(lonely.url);
    await response.body?.cancel();
    assert.equal(response.status, 503);
  });
}

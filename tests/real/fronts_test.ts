/** The fronts of examples/ that need no Apache hand real clients over. Needs python3, and PHP with its sockets extension. */
import assert from "node:assert/strict";
import { startDaemon } from "../support/daemon.ts";
import { TextLineStream } from "../support/lines.ts";
import { told } from "../support/openai_daemon.ts";
import { mockPieces } from "../support/mock_answer.ts";

const FRONTS: Readonly<Record<string, readonly [string, ...string[]]>> = {
  "examples/python/front.py": ["python3"],
  "examples/php/front.php": ["php"],
};

/** Starts one on any port. */
async function startFront(
  file: string,
  socketPath: string,
): Promise<{ readonly url: string } & AsyncDisposable> {
  const [command, ...args] = FRONTS[file] as readonly [string, ...string[]];
  const process = new Deno.Command(command, {
    args: [...args, new URL(`../../${file}`, import.meta.url).pathname, "0", socketPath],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const lines = process.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
    .getReader();
  const { value: port } = await lines.read();
  return {
    url: `http://127.0.0.1:${port}`,
    async [Symbol.asyncDispose]() {
      process.kill("SIGTERM");
      await lines.cancel();
      await process.status;
    },
  };
}

for (const file of Object.keys(FRONTS)) {
  Deno.test(`${file} hands clients over, and says 503 where no daemon is`, async () => {
    await using daemon = await startDaemon();
    await using front = await startFront(file, daemon.socketPath);
    const answers = await Promise.all(
      Array.from({ length: 20 }, async (_, count) => (await fetch(`${front.url}/${count}`)).text()),
    );
    for (const [count, answer] of answers.entries()) {
      assert.equal(answer, told(...mockPieces(`/${count}`)).split("\r\n\r\n")[1]);
    }
    assert.equal(await daemon.metric("daemon_handoffs_received"), 20);

    await using lonely = await startFront(file, "/tmp/no-daemon-listens-here.sock");
    const response = await fetch(lonely.url);
    await response.body?.cancel();
    assert.equal(response.status, 503);
  });
}

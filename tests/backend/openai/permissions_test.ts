import assert from "node:assert/strict";
import { certificate } from "../../support/backend_rig.ts";
import { mockLlm } from "../../support/mock_llm.ts";

const CLIENT = new URL("../../support/narrow_client.ts", import.meta.url).pathname;
const EXPECTED = JSON.stringify(["open", '"word0 "', '"word1 "', "finish stop", "end"]);

/** Runs the client with no permission but the given ones, and an environment that the SDK would like to read. */
async function run(permissions: readonly string[], args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--quiet", "--cached-only", ...permissions, CLIENT, ...args],
    env: { OPENAI_BASE_URL: "http://not.this.invalid", OPENAI_LOG: "debug", NO_COLOR: "1" },
  }).output();
  return new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr);
}

Deno.test("permissions: the network alone is enough for http://", async () => {
  for (const protocol of ["h1", "h2c"] as const) {
    await using mock = await mockLlm({ protocol });
    assert.equal((await run([`--allow-net=127.0.0.1:${mock.port}`], [mock.base])).trim(), EXPECTED);
  }
});

Deno.test("permissions: TLS needs the CA file beside the network, and insecure_ssl nothing", async () => {
  const pem = await certificate();
  const caFile = await Deno.makeTempFile();
  await Deno.writeTextFile(caFile, pem.cert);
  await using mock = await mockLlm({ protocol: "h2", certificate: pem });
  const net = `--allow-net=127.0.0.1:${mock.port}`;
  assert.equal((await run([net, `--allow-read=${caFile}`], [mock.base, caFile])).trim(), EXPECTED);
  assert.match(await run([net], [mock.base, caFile]), /Requires read access/);
  assert.equal((await run([net], [mock.base, "", "insecure"])).trim(), EXPECTED);
  await Deno.remove(caFile);
});

Deno.test("permissions: a Unix socket needs net, read and write for its path", async () => {
  const directory = await Deno.makeTempDir();
  const socketPath = `${directory}/socket`;
  await using _ = await mockLlm({ protocol: "h1", socketPath });
  const path = [
    `--allow-net=unix:${socketPath}`,
    `--allow-read=${socketPath}`,
    `--allow-write=${socketPath}`,
  ];
  const args = ["http://localhost/v1", "", "", socketPath];
  assert.equal((await run(path, args)).trim(), EXPECTED);
  for (const [index, lacks] of ["net", "read", "write"].entries()) {
    assert.match(
      await run(path.toSpliced(index, 1), args),
      new RegExp(`unavailable: cannot connect to the Unix socket .*Requires ${lacks} access`),
    );
  }
  await Deno.remove(directory, { recursive: true });
});

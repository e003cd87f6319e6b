import assert from "node:assert/strict";
import { loadConfig } from "../../src/config/load.ts";
import { unknownVariables } from "../../src/config/unknown_variables.ts";

/** What is said of the variables under a configuration, as pairs of a name and the one it is likened to. */
async function said(toml: string, ...names: string[]): Promise<string[][]> {
  const { config } = await loadConfig({
    path: "x.toml",
    env: () => undefined,
    readTextFile: () => Promise.resolve(toml),
  });
  return unknownVariables(names, config).map((line) =>
    /^environment (\w+): unknown variable, which sets nothing; the nearest known one is (\w+)$/.exec(line)
      ?.slice(1) ?? [line]
  );
}

const OPENAI = '[backend]\nprovider = "openai"\n[backend.openai]\napi_key = "k"\n';

Deno.test("variables: one that is misspelt is told of, with the nearest that there is", async () => {
  assert.deepEqual(await said("", "DAEMON_WORKER", "DAEMON_SOCKETPATH", "DAEMON_WORKERS", "PATH"), [
    ["DAEMON_WORKER", "DAEMON_WORKERS"],
    ["DAEMON_SOCKETPATH", "DAEMON_SOCKET_PATH"],
  ]);
  assert.deepEqual(await said(OPENAI, "OPENAI_BASE_URL"), [["OPENAI_BASE_URL", "OPENAI_API_BASE"]]);
});

Deno.test("variables: those of a backend are known where the file has it", async () => {
  const name = "DAEMON_BACKENDS_LOCAL_OPENAI_API_KEY";
  assert.deepEqual(await said("[backends.local]", name), []);
  assert.deepEqual(await said("", name), [[name, "OPENAI_API_KEY"]]);
});

Deno.test("variables: a provider's are another program's where it is not asked", async () => {
  assert.deepEqual(await said("", "OPENAI_BASE_URL", "DAEMON_SHIM_PATH"), []);
  const responses = OPENAI.replace("openai", "openai-responses").replace(".openai]", ".openai_responses]");
  assert.deepEqual(await said(responses, "OPENAI_ORG"), [["OPENAI_ORG", "OPENAI_ORG_ID"]]);
});

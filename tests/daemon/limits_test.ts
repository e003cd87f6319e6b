/** How many clients the limit of open files has room for. */
import assert from "node:assert/strict";
import { loadConfig } from "../../src/config/load.ts";
import { maxConnections } from "../../src/daemon/limits.ts";

Deno.test("clients are as many as descriptors are for, whichever backend they ask", async () => {
  const most = async (toml: string): Promise<number> => {
    const { config } = await loadConfig({
      path: "d.toml",
      env: () => undefined,
      readTextFile: () => Promise.resolve(toml),
    });
    return maxConnections(config, 1512); // 512 of these are for all else
  };
  const h1 = 'provider = "openai"\nopenai = { api_key = "k", http2 = false }';
  assert.equal(await most(""), 1000);
  assert.equal(await most(`[backend]\n${h1}`), 500);
  assert.equal(await most(`[backends.a]\n${h1}`), 500);
});

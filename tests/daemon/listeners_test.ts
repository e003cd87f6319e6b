/** What is said where a socket cannot be had. */
import assert from "node:assert/strict";
import { listen } from "../../src/daemon/listeners.ts";
import { ShimError } from "../../src/errors.ts";
import type { Acceptor } from "../../src/native/acceptor.ts";
import { testConfig } from "../support/acceptor.ts";
import { listLog } from "../support/connections.ts";

/** The message where bind(2), or a chown(2) after it, gives that. */
async function refusal(status: number, env: Record<string, string>): Promise<string> {
  const refuses = {
    listen(): void {
      throw new ShimError(status, "no");
    },
  } as Partial<Acceptor> as Acceptor;
  const config = await testConfig({ DAEMON_SOCKET_PATH: "/run/d.sock", ...env });
  try {
    listen(refuses, config, [], listLog([]));
  } catch (error) {
    return (error as Error).message;
  }
  return "";
}

Deno.test("EPERM is the group's where there is one, else the path's", async () => {
  assert.match(
    await refusal(-1, { DAEMON_SOCKET_GROUP: "www-data" }),
    /^server\.socket_group = "www-data": cannot listen: .* expected a group of this system/,
  );
  assert.match(
    await refusal(-1, {}),
    /^server\.socket_path = "\/run\/d\.sock": cannot listen: .* expected a path in a folder that exists/,
  );
});

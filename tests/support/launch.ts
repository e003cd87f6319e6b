/**
 * The daemon by way of `tools/launch`, with the permissions that its configuration needs.
 * @module
 */
import { type DaemonSetup, TestDaemon } from "./daemon.ts";

/** Starts the script, which becomes the daemon. It may not come up. */
export function launch(args: readonly string[], env: DaemonSetup["env"] = {}): TestDaemon {
  const folder = Deno.makeTempDirSync({ prefix: "daemon-test-" });
  const process = new Deno.Command("tools/launch", {
    args: [Deno.execPath(), "main.ts", ...args],
    cwd: new URL("../../", import.meta.url),
    env: {
      DAEMON_SOCKET_PATH: `${folder}/d.sock`,
      DAEMON_METRICS_ADDR: "127.0.0.1:0",
      DAEMON_WORKERS: "2",
      DAEMON_TOKEN_DELAY_MS: "5",
      DAEMON_LOG_FORMAT: "json",
      ...env as Record<string, string>,
    },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  return new TestDaemon(process, folder);
}

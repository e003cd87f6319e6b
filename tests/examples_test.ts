/** What in `examples/` a machine can hold true without Apache and PHP. */
import assert from "node:assert/strict";
import { startDaemon } from "./support/daemon.ts";

const EXAMPLES = new URL("../examples/", import.meta.url);

Deno.test("the dashboard asks only for metrics that the daemon has", async () => {
  const dashboard = JSON.parse(await Deno.readTextFile(new URL("grafana/dashboard.json", EXAMPLES)));
  await using daemon = await startDaemon();
  const page = await (await daemon.page("/metrics")).text();
  const known = new Set([...page.matchAll(/^# TYPE (\S+) /gm)].map(([, name]) => name));
  const asked: string[] = dashboard.panels.flatMap((panel: { targets: { expr: string }[] }) =>
    panel.targets.flatMap(({ expr }) => expr.match(/\b(daemon|process)_[a-z_]+/g) ?? [])
  ).map((name: string) => name.replace(/_bucket$/, ""));
  assert(asked.length > 10);
  assert.deepEqual(asked.filter((name) => !known.has(name)), []);
});

Deno.test("Apache and PHP name one socket", async () => {
  const read = (path: string): Promise<string> => Deno.readTextFile(new URL(path, EXAMPLES));
  const path = /DAEMON_SOCKET = '(.*)'/.exec(await read("php/stream.php"))?.[1];
  const config = await read("apache/streaming.conf");
  assert.equal(/socket_path = "(.*)"/.exec(config)?.[1], path);
  const prefix = /^ *SocketHandoffAllowedPrefix (.*)$/m.exec(config)?.[1];
  assert(prefix !== undefined && path?.startsWith(prefix) && prefix.endsWith("/"));
  assert((await read("apache/fdpass.conf")).includes(`${path}.stream`));
});

/** The package on the other release of Debian that it is for, in short: `service_test.ts` has all of it on Debian 12. */
import assert from "node:assert/strict";
import { Machine } from "./machine.ts";

Deno.test("on Debian 13 the package installs, runs, answers, reloads, rolls, and goes", async () => {
  await using machine = await Machine.boot("trixie");
  assert.match(await machine.ok("cat /etc/debian_version"), /^13/);
  await machine.install();
  const units = "streaming-daemon-ts.service streaming-daemon-ts.socket";
  assert.equal(await machine.ok(`systemctl is-active ${units}`), "active\nactive");
  assert.match(await machine.ok("streaming-daemon-ts try Hello"), /You said: "Hello"[^]*HTTP\/1\.1 200 OK/);
  assert.match(await machine.ok("streaming-daemon-ts status"), /: taking handoffs\n/);
  await machine.ok("systemctl reload streaming-daemon-ts");
  const before = await machine.show("MainPID");
  await machine.ok("streaming-daemon-ts-roll");
  await machine.untilGone("streaming-daemon-ts@0.service");
  assert.notEqual(await machine.show("MainPID"), before);
  assert.match(await machine.ok("streaming-daemon-ts try Hello"), /HTTP\/1\.1 200 OK/);
  assert.equal(await machine.ok("systemctl --failed --plain --no-legend"), "");
  await machine.ok("apt-get purge --yes streaming-daemon-ts");
  assert.notEqual(await machine.show("LoadState"), "loaded");
  assert.notEqual((await machine.run("ls /run/streaming-daemon-ts/daemon.sock")).code, 0);
});

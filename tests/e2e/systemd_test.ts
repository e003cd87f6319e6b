/** The daemon under systemd, whose part Perl plays. */
import assert from "node:assert/strict";
import { connect } from "../../src/native/sender.ts";
import { spawnDaemon, startDaemon } from "../support/daemon.ts";
import { TestFolder, uptimeUsec } from "../support/folders.ts";
import { activator, NotifySocket } from "../support/systemd.ts";

Deno.test("systemd hears READY, WATCHDOG, RELOADING with the clock, READY again, STOPPING", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/notify.sock`;
  await using systemd = await NotifySocket.open(path);
  const { states } = systemd;
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: path, WATCHDOG_USEC: "200000" } });
  await daemon.until("READY and WATCHDOG", () => states.includes("WATCHDOG=1"));
  daemon.signal("SIGHUP");
  await daemon.until(
    "READY again",
    () => states.filter((state) => state.startsWith("READY=1")).length === 2,
  );
  const reloading = states.find((state) => state.startsWith("RELOADING=1")) ?? "";
  const usec = Number(/^RELOADING=1 MONOTONIC_USEC=(\d+)$/.exec(reloading)?.[1]);
  const now = uptimeUsec();
  assert(usec > now - 60e6 && usec <= now + 1e5, `${usec} of ${now}`);
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
  await daemon.until("STOPPING", () => states.includes("STOPPING=1 STATUS=Draining"));
  assert.deepEqual(states.filter((state) => state !== "WATCHDOG=1"), [
    "READY=1 STATUS=Taking handoffs",
    reloading,
    "READY=1 STATUS=Taking handoffs",
    "STOPPING=1 STATUS=Draining",
  ]);
});

Deno.test("a systemd that does not listen is said so, and the daemon goes on", async () => {
  await using daemon = await startDaemon({ env: { NOTIFY_SOCKET: "/nonexistent/notify.sock" } });
  assert.match(JSON.stringify((await daemon.logged("Cannot notify systemd")).fields), /ENOENT/);
  using client = daemon.handOff();
  assert.match(await client.readAll(), /\[DONE\]/);
});

Deno.test("sockets from systemd: both kinds are served, and stay for the next daemon", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/passed.sock`;
  await using daemon = await startDaemon({
    wrapper: activator([`seqpacket:${path}`, `stream:${path}.stream`]),
    env: { DAEMON_SOCKET_PATH: path },
  });
  assert.equal((await daemon.logged("Listening on a socket from systemd")).fields["kind"], "seqpacket");
  assert(!daemon.log.some(({ message }) => message === "Listening"));
  daemon.socketPath = path;
  for (const kind of ["seqpacket", "stream"] as const) {
    using client = daemon.handOff({ prompt: kind }, { kind });
    assert.match(await client.readAll(), new RegExp(`You said: ..${kind}[^]*\\[DONE\\]`));
  }
  daemon.signal("SIGSTOP");
  using queued = daemon.handOff({ prompt: "queued" });
  daemon.signal("SIGTERM");
  daemon.signal("SIGCONT");
  assert.match(await queued.readAll(), /queued[^]*\[DONE\]/);
  assert.equal(await daemon.exit(), 0);
  assert.deepEqual(folder.names, [
    "passed.sock",
    "passed.sock.stream",
  ]);
  // In these tests nobody holds them any more.
  assert.throws(() => connect(path, "seqpacket"), /ECONNREFUSED/);
});

Deno.test("a passed descriptor that is no handoff socket ends the daemon with a clear line", async () => {
  await using daemon = spawnDaemon({
    wrapper: ["perl", "-e", "$ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$; exec @ARGV", "--"],
  });
  assert.equal(await daemon.exit(), 1);
  assert.match(daemon.stderr.at(-1) ?? "", /^streaming-daemon-ts: Cannot adopt fd 3 as a handoff socket: /);
});

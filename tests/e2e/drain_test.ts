/** Whoever comes while the daemon is ending has an answer, and the end is an orderly one. */
import assert from "node:assert/strict";
import { connect, type OwnedFd } from "../../src/native/sender.ts";
import { pairEnds, type TestClient } from "../support/clients.ts";
import type { TestDaemon } from "../support/daemon.ts";
import { daemonTest } from "../support/with_daemon.ts";

const utf8 = (text: string): Uint8Array<ArrayBuffer> => new TextEncoder().encode(text);
const UNAVAILABLE = /^HTTP\/1\.1 503 Service Unavailable\r\n[^]*\r\nRetry-After: \d+\r\n[^]*\r\n\r\n[^]+\n$/;

/** A handoff over STREAM of which the client and all but the end of its data has come. */
interface HalfSent {
  readonly sender: OwnedFd;
  readonly client: TestClient;
}

function halfSent(daemon: TestDaemon, count: number): HalfSent[] {
  return Array.from({ length: count }, () => {
    const sender = connect(daemon.pathOf("stream"), "stream");
    const { near, far } = pairEnds();
    sender.send(utf8('{"prompt":'), [far]);
    far.close();
    return { sender, client: near };
  });
}

/** Sends the rest, if the daemon still takes it, and hears what the client is told. */
async function answered({ sender, client }: HalfSent): Promise<string> {
  try {
    sender.send(utf8('"late"}'));
  } catch (error) {
    assert.match(`${error}`, /EPIPE|ECONNRESET/);
  }
  try {
    return await client.readAll();
  } finally {
    sender.close();
    client.close();
  }
}

for (const workers of ["1", "2"]) {
  daemonTest(`${workers} worker(s): handoffs that are complete after the last words are told 503`, {
    env: {
      DAEMON_WORKERS: workers,
      DAEMON_TOKEN_DELAY_MS: "3600000",
      DAEMON_SHUTDOWN_TIMEOUT_SECS: "0.3",
    },
  }, async (daemon) => {
    using client = daemon.handOff();
    await client.readUntil("Hello! ");
    await (await daemon.page("/healthz")).text();
    const fds = daemon.openFds();
    const late = halfSent(daemon, 60);
    await daemon.until("their descriptors", () => daemon.openFds() >= fds + 2 * late.length);
    daemon.signal("SIGTERM");
    await client.readUntil('data: {"error":"Server is shutting down"}\n\n');
    for (const each of late) assert.match(await answered(each), UNAVAILABLE);
    assert.equal(await daemon.exit(), 0);
    assert.deepEqual(daemon.log.filter(({ message }) => message === "Worker died"), []);
    assert(!daemon.stderr.some((line) => /Uncaught|TypeError/.test(line)));
  });
}

// root may write everywhere; without this capability it may not.
const wrapper = Deno.uid() === 0 ? ["setpriv", "--bounding-set=-dac_override", "--"] : [];
daemonTest("SIGTERM where the sockets' folder has become read-only: streams finish, exit 0", {
  wrapper,
  env: { DAEMON_TOKEN_DELAY_MS: "30" },
}, async (daemon) => {
  using client = daemon.handOff();
  await client.readUntil("Hello! ");
  await Deno.chmod(daemon.folder, 0o555);
  try {
    daemon.signal("SIGTERM");
    assert.match(await client.readAll(), /\[DONE\]\n\n$/);
    assert.equal(await daemon.exit(), 0);
  } finally {
    await Deno.chmod(daemon.folder, 0o755);
  }
  const said = daemon.log.filter(({ level }) => level !== "info");
  assert.equal(said.length, 1, "one line that says so");
  assert.match(JSON.stringify(said), /EACCES|[Pp]ermission denied/);
});

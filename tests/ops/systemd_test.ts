import assert from "node:assert/strict";
import { type Env, listenFds, Notifier, watchdogIntervalMs } from "../../src/ops/systemd.ts";

const PID = 4711;

function env(variables: Readonly<Record<string, string>>): Env {
  return (name) => variables[name];
}

/** A notifier and what it sends. */
function notifier(variables: Readonly<Record<string, string>>): {
  readonly notifier: Notifier;
  readonly sent: [address: string, state: string][];
} {
  const sent: [string, string][] = [];
  return {
    sent,
    notifier: new Notifier({
      env: env(variables),
      send: (address, state) => void sent.push([address, state]),
      monotonicUsec: () => 123_456n,
      onError: (error) => assert.fail(String(error)),
    }),
  };
}

Deno.test("systemd: each state is the datagram of sd_notify(3)", () => {
  const { notifier: systemd, sent } = notifier({ NOTIFY_SOCKET: "@/run/notify" });
  systemd.ready("taking handoffs");
  systemd.reloading();
  systemd.stopping("draining 2 streams\nREADY=1");
  assert.deepEqual(sent, [
    ["@/run/notify", "READY=1\nSTATUS=taking handoffs"],
    ["@/run/notify", "RELOADING=1\nMONOTONIC_USEC=123456"],
    ["@/run/notify", "STOPPING=1\nSTATUS=draining 2 streams READY=1"],
  ]);
});

Deno.test("systemd: without a notify socket nothing is sent, and no clock is read", () => {
  for (const variables of [{}, { NOTIFY_SOCKET: "" }]) {
    const systemd = new Notifier({
      env: env(variables),
      send: () => assert.fail("sent"),
      monotonicUsec: () => assert.fail("read"),
      onError: (error) => assert.fail(String(error)),
    });
    systemd.ready("x");
    systemd.reloading();
    systemd.stopping("x");
  }
});

Deno.test("systemd: a failed send is told and does not throw", () => {
  const errors: unknown[] = [];
  const failure = new Error("ECONNREFUSED");
  const systemd = new Notifier({
    env: env({ NOTIFY_SOCKET: "/run/notify" }),
    send: () => {
      throw failure;
    },
    monotonicUsec: () => 0n,
    onError: (error) => errors.push(error),
  });
  systemd.ready("x");
  assert.deepEqual(errors, [failure]);
});

Deno.test("systemd: the watchdog is fed four times within its limit, by the process it watches", () => {
  assert.equal(watchdogIntervalMs(env({ WATCHDOG_USEC: "30000000" }), PID), 7500);
  assert.equal(watchdogIntervalMs(env({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "4711" }), PID), 7500);
  assert.equal(watchdogIntervalMs(env({ WATCHDOG_USEC: "30000000", WATCHDOG_PID: "4712" }), PID), undefined);
  assert.equal(watchdogIntervalMs(env({ WATCHDOG_PID: "4711" }), PID), undefined);
  assert.equal(watchdogIntervalMs(env({ WATCHDOG_USEC: "1" }), PID), 1);
  for (const usec of ["", "0", "-5", "1.5", "x"]) {
    assert.throws(() => watchdogIntervalMs(env({ WATCHDOG_USEC: usec }), PID), {
      name: "ConfigError",
      message: `environment WATCHDOG_USEC = ${JSON.stringify(usec)}: expected a number of microseconds`,
    });
  }
});

const NO_TIMER_LEFT = { sanitizeOps: true, sanitizeResources: true, sanitizeExit: true };

Deno.test("systemd: the watchdog is fed while healthy, until the signal", NO_TIMER_LEFT, async () => {
  const fed = Promise.withResolvers<void>();
  const aborter = new AbortController();
  let asked = 0;
  const sent: string[] = [];
  const systemd = new Notifier({
    env: env({ NOTIFY_SOCKET: "/n", WATCHDOG_USEC: "2000" }),
    send: (_, state) => {
      sent.push(state);
      fed.resolve();
    },
    monotonicUsec: () => 0n,
    onError: (error) => fed.reject(error),
  });
  systemd.keepAlive(PID, () => ++asked > 2, aborter.signal);
  await fed.promise;
  aborter.abort(); // a timer that goes on fails the test
  assert.equal(asked, 3, "unhealthy twice, so not fed twice");
  assert.deepEqual(sent, ["WATCHDOG=1"]);
});

Deno.test(
  "systemd: without watchdog, for another process, or after the end, no timer is left",
  NO_TIMER_LEFT,
  () => {
    const { notifier: without } = notifier({ NOTIFY_SOCKET: "/n" });
    without.keepAlive(PID, () => true, new AbortController().signal);
    const { notifier: other } = notifier({ NOTIFY_SOCKET: "/n", WATCHDOG_USEC: "2000", WATCHDOG_PID: "1" });
    other.keepAlive(PID, () => true, new AbortController().signal);
    const { notifier: ended } = notifier({ NOTIFY_SOCKET: "/n", WATCHDOG_USEC: "2000" });
    ended.keepAlive(PID, () => true, AbortSignal.abort());
  },
);

Deno.test("systemd: passed sockets begin at fd 3 and have their names", () => {
  const passed = { LISTEN_PID: "4711", LISTEN_FDS: "2" };
  assert.deepEqual(listenFds(env({ ...passed, LISTEN_FDNAMES: "a.socket:b" }), PID), [
    { fd: 3, name: "a.socket" },
    { fd: 4, name: "b" },
  ]);
  assert.deepEqual(listenFds(env(passed), PID), [{ fd: 3, name: "unknown" }, { fd: 4, name: "unknown" }]);
});

Deno.test("systemd: sockets for another process are not ours", () => {
  assert.deepEqual(listenFds(env({}), PID), []);
  assert.deepEqual(listenFds(env({ LISTEN_PID: "4712", LISTEN_FDS: "2" }), PID), []);
  assert.deepEqual(listenFds(env({ LISTEN_FDS: "2" }), PID), []);
});

Deno.test("systemd: contradictory variables are refused by name", () => {
  for (const count of ["", "x", "-1", "1.5"]) {
    assert.throws(() => listenFds(env({ LISTEN_PID: "4711", LISTEN_FDS: count }), PID), {
      name: "ConfigError",
      message: `environment LISTEN_FDS = ${JSON.stringify(count)}: expected a number of sockets`,
    });
  }
  assert.throws(() => listenFds(env({ LISTEN_PID: "4711", LISTEN_FDS: "2", LISTEN_FDNAMES: "a" }), PID), {
    name: "ConfigError",
    message: `environment LISTEN_FDNAMES = "a": expected 2 names (LISTEN_FDS)`,
  });
});

Deno.test("systemd: the units fit the daemon's defaults", async () => {
  const read = (name: string): Promise<string> =>
    Deno.readTextFile(new URL(`../../systemd/${name}`, import.meta.url));
  const service = await read("streaming-daemon-ts.service");
  const socket = await read("streaming-daemon-ts.socket");
  assert.match(socket, /^ListenSequentialPacket=\/run\/streaming-daemon-ts\/daemon\.sock$/m);
  assert.match(socket, /^ListenStream=\/run\/streaming-daemon-ts\/daemon\.sock\.stream$/m);
  assert.match(socket, /^SocketMode=0660$/m);
  assert.match(service, /^Type=notify$/m);
  assert.match(service, /^RestartPreventExitStatus=2$/m);
  const stopSecs = Number(/^TimeoutStopSec=(\d+)$/m.exec(service)?.[1]);
  assert(stopSecs > 120, "systemd must not kill what still drains");
});

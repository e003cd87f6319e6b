/**
 * The package on a Debian with real systemd, Apache and PHP: from its installation to its removal. The steps build on
 * one another. What a browser and mod_socket_handoff do is played from outside of the machine, on its sockets.
 */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { handOff } from "../../src/native/sender.ts";
import { pairEnds, type TestClient } from "../support/clients.ts";
import { Machine, PACKAGE } from "./machine.ts";

const SOCKET = "/run/streaming-daemon-ts/daemon.sock";
const CONFIG = "/etc/streaming-daemon-ts/daemon.toml";
const UNIT = "streaming-daemon-ts.service";

/** Hands a client over, as Apache's module does. */
function ask(machine: Machine, data: Readonly<Record<string, unknown>> = {}): TestClient {
  const { near, far } = pairEnds();
  try {
    handOff(machine.path(SOCKET), "seqpacket", new TextEncoder().encode(JSON.stringify(data)), far);
  } finally {
    far.close();
  }
  return near;
}

async function answered(client: TestClient): Promise<void> {
  assert.match(await client.readAll(), /^HTTP\/1\.1 200 OK\r\n[^]*\n\ndata: \[DONE\]\n\n$/);
}

/** Waits for a line of the daemon's unit in the journal that matches. */
async function logged(machine: Machine, pattern: string): Promise<void> {
  await machine.until(`journalctl --sync; journalctl --output=cat --unit=${UNIT} | grep -e '${pattern}'`);
}

/** Writes the daemon's configuration. */
async function configure(machine: Machine, toml: string): Promise<void> {
  await Deno.writeTextFile(machine.path(CONFIG), `[server]\nsocket_path = "${SOCKET}"\n${toml}\n`);
}

/** Stops the daemon (SIGSTOP), every thread of it, and not only in a moment. */
async function stop(machine: Machine): Promise<void> {
  const pid = await machine.show("MainPID");
  await machine.ok(`kill -STOP ${pid}`);
  await machine.until(`! grep -h '^State:' /proc/${pid}/task/*/status | grep -v stopped`);
}

/** Changes a unit by a drop-in for this boot; `undefined` takes the change back. */
async function change(machine: Machine, directives: string | undefined): Promise<void> {
  const folder = `/run/systemd/system/${UNIT}.d`;
  await machine.ok(
    directives === undefined
      ? `rm -r ${folder} && systemctl daemon-reload`
      : `mkdir -p ${folder} && printf '[Service]\\n${directives}\\n' >${folder}/test.conf && systemctl daemon-reload`,
  );
}

Deno.test("the package on a real Debian", async (t) => {
  await using machine = await Machine.boot();
  const step = async (name: string, body: () => Promise<void>): Promise<void> => {
    assert(await t.step(name, body), "the steps build on one another");
  };

  await step("apt installs it: it runs, the sockets are there, and try has an answer", async () => {
    await machine.install();
    assert.equal(
      await machine.ok(`systemctl is-active ${UNIT} streaming-daemon-ts.socket`),
      "active\nactive",
    );
    assert.equal(
      await machine.ok(`systemctl is-enabled ${UNIT} streaming-daemon-ts.socket`),
      "enabled\nenabled",
    );
    assert.equal(await machine.ok(`stat -c '%A %U %G' ${SOCKET}`), "srw-rw---- root www-data");
    assert.match(await machine.ok("streaming-daemon-ts try Hello"), /You said: "Hello"[^]*HTTP\/1\.1 200 OK/);
    assert.match(
      await machine.ok("streaming-daemon-ts status"),
      /: taking handoffs\n[^]*\nmock +1 requests\n/,
    );
    assert.equal(
      await machine.ok("streaming-daemon-ts --version"),
      `streaming-daemon-ts ${denoJson.version}`,
    );
    assert.equal(await machine.ok("dpkg --verify streaming-daemon-ts"), "");
  });

  await step(
    "it runs as nobody special, with the permissions of its configuration and no others",
    async () => {
      const pid = await machine.show("MainPID");
      const status = await machine.ok(`cat /proc/${pid}/status`);
      assert.match(status, /^Uid:\t[1-9]\d*\t/m);
      assert.match(status, /^CapEff:\t0+$/m);
      assert.match(status, /^NoNewPrivs:\t1$/m);
      const flags = (await machine.ok(`tr '\\0' '\\n' </proc/${pid}/cmdline`)).split("\n");
      assert.deepEqual(flags.filter((flag) => /^--allow-(?!env)/.test(flag)), [
        "--allow-ffi=/usr/lib/streaming-daemon-ts/libstreaming_daemon_shim.so",
        `--allow-read=${CONFIG},/usr/lib/streaming-daemon-ts`,
        "--allow-net=127.0.0.1:9090",
      ]);
      const exposure = await machine.ok(`systemd-analyze security ${UNIT} | tail -n 1`);
      assert(Number(/: (\d+\.\d+) /.exec(exposure)?.[1]) < 2, exposure);
    },
  );

  await step("man pages and completion are there", async () => {
    // Debian's smallest variant leaves man pages out when it unpacks.
    const files = (await machine.ok("dpkg --listfiles streaming-daemon-ts")).split("\n");
    for (
      const page of ["man8/streaming-daemon-ts.8", "man8/streaming-daemon-ts-roll.8", "man5/daemon.toml.5"]
    ) {
      assert(files.includes(`/usr/share/man/${page}.gz`), page);
    }
    const complete =
      "COMP_WORDS=(streaming-daemon-ts --ch) COMP_CWORD=1; _streaming_daemon_ts; echo ${COMPREPLY[@]}";
    const script = `. /usr/share/bash-completion/completions/streaming-daemon-ts; ${complete}`;
    assert.equal(await machine.ok(`bash -c '${script}'`), "--check");
  });

  await step("curl through Apache's mod_proxy_fdpass, once it has said who it is", async () => {
    await machine.ok(
      "cp /usr/share/doc/streaming-daemon-ts/examples/apache/fdpass.conf /etc/apache2/conf-available/ && " +
        "htpasswd -bc /etc/apache2/streaming.htpasswd somebody secret && " +
        "a2enmod proxy proxy_fdpass auth_basic authn_file authz_user && a2enconf fdpass && systemctl restart apache2",
    );
    const url = "http://127.0.0.1/stream-check";
    assert.equal(await machine.ok(`curl -s -o /dev/null -w '%{http_code}' ${url}`), "401");
    assert.match(
      await machine.ok(`curl -sN -u somebody:secret ${url}`),
      /data: \{"content":"Hello[^]*data: \[DONE\]$/,
    );
  });

  await step("a reload takes the new configuration; a stream that runs does not notice", async () => {
    const pid = await machine.show("MainPID");
    using client = ask(machine);
    await client.readUntil("Hello");
    await configure(machine, '[backend]\ndefault_model = "another-model"');
    await machine.ok(`systemctl reload ${UNIT}`);
    await answered(client);
    await logged(machine, 'Configuration reloaded changed=."backend.default_model"');
    await answered(ask(machine));
    await logged(machine, "Stream complete .*model=another-model");
    assert.equal(await machine.show("MainPID"), pid);
  });

  await step(
    "a reload of a configuration that does not hold fails, says why, and changes nothing",
    async () => {
      const pid = await machine.show("MainPID");
      await configure(machine, '[backend]\ntimeout_secs = "long"');
      assert.notEqual((await machine.run(`systemctl reload ${UNIT}`)).code, 0);
      await logged(machine, 'backend.timeout_secs = "long": expected a number of seconds');
      assert.equal(await machine.show("MainPID"), pid);
      await answered(ask(machine));
    },
  );

  await step(
    "a reload that names a new host says that it takes a restart, and the restart gives it",
    async () => {
      const provider =
        '[backend]\nprovider = "openai"\n[backend.openai]\napi_base = "http://127.0.0.1:8080/v1"';
      await configure(machine, provider);
      await machine.ok(`systemctl reload ${UNIT}`);
      await logged(machine, "it takes a restart.*--allow-net=127.0.0.1:8080");
      await answered(ask(machine)); // by the mock backend, as before
      await machine.ok(`systemctl restart ${UNIT}`);
      const flags = await machine.ok(`tr '\\0' '\\n' </proc/$(systemctl show -P MainPID ${UNIT})/cmdline`);
      assert.match(flags, /^--allow-net=127\.0\.0\.1:9090,127\.0\.0\.1:8080$/m);
      await configure(machine, "");
      await machine.ok(`systemctl restart ${UNIT}`);
    },
  );

  await step("a handoff while the daemon is away waits in the socket and is answered", async () => {
    await stop(machine);
    using client = ask(machine);
    await machine.ok(`kill -KILL ${await machine.show("MainPID")}`);
    await answered(client);
    assert.equal(await machine.show("NRestarts"), "1");
  });

  await step("a daemon that hangs is found by the watchdog and replaced", async () => {
    await change(machine, "WatchdogSec=2");
    await machine.ok(`systemctl restart ${UNIT}`);
    await stop(machine);
    using client = ask(machine);
    await answered(client);
    await logged(machine, "Watchdog timeout");
    await change(machine, undefined);
    await machine.ok(`systemctl restart ${UNIT}`);
  });

  await step("a daemon that the kernel kills for its memory is replaced", async () => {
    const pid = await machine.show("MainPID");
    await outOfMemory(machine, Number(pid));
    // Its clients are cut off, which they notice; the next one is served.
    await machine.until(`[ "$(systemctl show -P MainPID ${UNIT})" != ${pid} ]`);
    using client = ask(machine);
    await answered(client);
    await logged(machine, "status=9/KILL");
  });

  await step("a full disk stops neither streams nor a restart", async () => {
    for (const folder of ["/var/log", "/var/tmp", "/var/lib/private", "/var/cache"]) {
      await machine.ok(`mkdir -p ${folder} && mount -t tmpfs -o size=64k tmpfs ${folder}`);
      assert.match((await machine.run(`cat /dev/zero >${folder}/full`)).text, /No space left on device/);
    }
    await machine.ok("systemctl restart systemd-journald");
    using before = ask(machine);
    await answered(before);
    await machine.ok(`systemctl restart ${UNIT}`);
    using after = ask(machine);
    await answered(after);
    await machine.ok(
      "umount /var/log /var/tmp /var/lib/private /var/cache && systemctl restart systemd-journald",
    );
  });

  await step("the journal has its lines with level, unit and name", async () => {
    using client = ask(machine, { request_id: "for-the-journal" });
    await answered(client);
    using mistaken = ask(machine, { prompt: 7 });
    assert.match(await mistaken.readAll(), /^HTTP\/1\.1 400 /);
    const entry = async (filter: string): Promise<Record<string, string>> =>
      JSON.parse(await machine.ok(`journalctl --sync; journalctl -o json -n 1 -u ${UNIT} ${filter}`));
    const info = await entry("--grep=for-the-journal");
    assert.deepEqual([info["PRIORITY"], info["SYSLOG_IDENTIFIER"], info["_SYSTEMD_UNIT"]], [
      "6",
      "streaming-daemon-ts",
      UNIT,
    ]);
    assert.match(info["MESSAGE"] ?? "", /^stream: Stream complete request_id=for-the-journal /);
    const warning = await entry("--priority=warning..warning --grep=prompt");
    assert.equal(warning["PRIORITY"], "4");
  });

  await step("as JSON, each line of the journal has its fields as members, and its level still", async () => {
    await configure(machine, '[logging]\nformat = "json"');
    await machine.ok(`systemctl restart ${UNIT}`);
    using client = ask(machine, { request_id: "with-fields" });
    await answered(client);
    using mistaken = ask(machine, { prompt: 8 });
    assert.match(await mistaken.readAll(), /^HTTP\/1\.1 400 /);
    const line = async (filter: string): Promise<Record<string, unknown>> =>
      JSON.parse(await machine.ok(`journalctl --sync; journalctl -o cat -n 1 -u ${UNIT} ${filter}`));
    const { level, fields } = await line("--grep=with-fields");
    const { request_id, events, model } = fields as Record<string, unknown>;
    assert.deepEqual([level, request_id, events, model], ["info", "with-fields", 18, "gpt-4o"]);
    const { fields: why } = await line("--priority=warning..warning --grep=prompt");
    assert.match((why as Record<string, string>)["reason"] ?? "", /"prompt" is 8/);
    await configure(machine, "");
    await machine.ok(`systemctl restart ${UNIT}`);
  });

  await step("after a boot it is there", async () => {
    await machine.reboot();
    assert.match(await machine.ok("streaming-daemon-ts try Hello"), /You said: "Hello"/);
  });

  await step("an upgrade replaces the running daemon; streams that run end as they would", async () => {
    const pid = await machine.show("MainPID");
    const clients = Array.from({ length: 50 }, () => ask(machine));
    await machine.ok(`dpkg --install /root/${PACKAGE}`);
    for (const client of clients) await answered(client);
    assert.notEqual(await machine.show("MainPID"), pid);
    assert.equal(await machine.ok(`systemctl is-active ${UNIT}`), "active");
  });

  await step("a removal lets streams end, and leaves the configuration; a purge leaves nothing", async () => {
    await machine.ok("touch /etc/streaming-daemon-ts/environment");
    const clients = Array.from({ length: 50 }, () => ask(machine));
    await clients[0]?.readUntil("Hello");
    await machine.ok("apt-get remove --yes streaming-daemon-ts");
    for (const client of clients) await answered(client);
    assert.match(await machine.ok("ls /etc/streaming-daemon-ts"), /daemon\.toml/);
    assert.notEqual(await machine.show("LoadState"), "loaded");
    assert.throws(() => ask(machine), /ENOENT|ECONNREFUSED/);
    await machine.ok("apt-get purge --yes streaming-daemon-ts");
    const left = await machine.ok("find / -xdev -path /proc -prune -o -name '*streaming-daemon*' -print");
    assert.deepEqual(
      left.split("\n").filter((path) =>
        !/^(\/var\/log|\/var\/lib\/systemd|\/root|\/etc\/apache2)/.test(path)
      ),
      [],
    );
  });
});

/**
 * Has the kernel kill a process for its memory: by a group with a limit that it is past already. Groups of version 1, to
 * which a machine of nspawn has no access, are made on this side; with version 2 MemoryMax= of the unit does it.
 */
async function outOfMemory(machine: Machine, pid: number): Promise<void> {
  const own = /^\d+:memory:(\/.*)$/m.exec(await Deno.readTextFile("/proc/self/cgroup"))?.[1];
  if (own === undefined) {
    await machine.ok(`systemctl set-property --runtime ${UNIT} MemoryMax=20M`);
    return;
  }
  const group = `/sys/fs/cgroup/memory${own}/system-test-${Deno.pid}`;
  await Deno.mkdir(group);
  try {
    await Deno.writeTextFile(`${group}/memory.limit_in_bytes`, "1048576");
    await Deno.writeTextFile(`${group}/cgroup.procs`, String(outside(pid)));
    // What it takes from now on counts; each client takes some.
    const clients = [];
    while (await machine.show("MainPID") === String(pid)) {
      for (let count = 0; count < 50; count++) clients.push(ask(machine));
    }
    for (const client of clients) client.close();
  } finally {
    await Deno.remove(group);
  }
}

/** The number that a process of the machine has on this side. */
function outside(pid: number): number {
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const status = Deno.readTextFileSync(`/proc/${name}/status`);
      if (/^Name:\tdeno$/m.test(status) && new RegExp(`^NSpid:\t${name}\t${pid}$`, "m").test(status)) {
        return Number(name);
      }
    } catch (error) {
      // It has ended meanwhile.
      if (!(error instanceof Deno.errors.NotFound) && !/ESRCH|No such process/.test(String(error))) {
        throw error;
      }
    }
  }
  throw new Error(`there is no process ${pid} in the machine`);
}

/** The permissions of `deno task start`: enough for the daemon, and for nothing else. */
import assert from "node:assert/strict";
import { spawnDaemon, startFlags } from "../support/daemon.ts";

Deno.test("under exactly the permissions of deno task start the daemon streams an answer", async (t) => {
  for (const workers of ["1", "2"]) {
    await t.step(`${workers} worker(s)`, async () => {
      await using daemon = spawnDaemon({
        // As it is given, in the place of the one that these tests run with.
        permissions: startFlags().filter((flag) => flag.startsWith("--allow-net=")),
        env: { DAEMON_METRICS_ENABLED: "false", DAEMON_METRICS_ADDR: undefined, DAEMON_WORKERS: workers },
      });
      await daemon.logged("Taking handoffs");
      assert.deepEqual(
        (await Deno.readTextFile(`/proc/${daemon.pid}/cmdline`)).split("\0").slice(1, -1),
        ["run", ...startFlags(), "main.ts"],
      );
      using client = daemon.handOff();
      assert.match(await client.readAll(), /\[DONE\]\n\n$/);
      daemon.signal("SIGTERM");
      assert.equal(await daemon.exit(), 0);
    });
  }
});

// Each is a use of the API that the daemon has no business with.
const DENIED: readonly [name: string, code: string][] = [
  ["to read a file of the system", `Deno.readTextFileSync("/etc/passwd")`],
  ["to read a file of the checkout", `Deno.readTextFileSync("deno.json")`],
  ["to list a folder", `[...Deno.readDirSync("/tmp")]`],
  ["to write a file", `Deno.writeTextFileSync("/tmp/streaming-daemon-ts-denied", "x")`],
  ["to write a file of its configuration", `Deno.writeTextFileSync("config/daemon.toml", "x")`],
  ["to run a program", `new Deno.Command("true").outputSync()`],
  ["to connect to another host", `await Deno.connect({ hostname: "127.0.0.1", port: 1 })`],
  ["to listen elsewhere", `Deno.listen({ hostname: "0.0.0.0", port: 9090 })`],
  ["to read another variable", `Deno.env.get("HOME")`],
  ["to read all variables", `Deno.env.toObject()`],
  ["to open another library", `Deno.dlopen("/lib/x86_64-linux-gnu/libc.so.6", {})`],
  ["to ask the system about itself", `Deno.hostname()`],
];

Deno.test("under these permissions it is denied ...", async (t) => {
  const folder = await Deno.makeTempDir();
  for (const [name, code] of DENIED) {
    await t.step(name, async () => {
      const path = `${folder}/denied.ts`;
      await Deno.writeTextFile(
        path,
        `try { ${code}; console.log("allowed"); } catch (error) { console.log(error.name); }`,
      );
      const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "--config", "deno.json", ...startFlags(), path],
        cwd: new URL("../..", import.meta.url),
      }).output();
      assert.equal(new TextDecoder().decode(stdout), "NotCapable\n", new TextDecoder().decode(stderr));
    });
  }
  await Deno.remove(folder, { recursive: true });
});

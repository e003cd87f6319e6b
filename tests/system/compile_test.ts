/**
 * The file that `deno task compile` makes, looked into: its base program comes from a server that a build machine may not
 * reach, so that Deno itself stands in for it here, and what comes out cannot be started.
 */
import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import denoJson from "../../deno.json" with { type: "json" };

const ROOT = new URL("../../", import.meta.url);
const FILE = new URL("dist/streaming-daemon-ts", ROOT);
/** A line of the program, and one of the module that a worker begins with. */
const LINES = ["Deno.exit(await main(Deno.args))", 'Command "${command.type}" before "start"'];

interface Metadata {
  readonly permissions: Readonly<Record<string, unknown>>;
  readonly v8_flags: readonly string[];
}

Deno.test("the compiled file has the program, the workers' module and the shim in it, and its permissions", async () => {
  const modules = new URL("node_modules", ROOT);
  const hadModules = await Deno.stat(modules).then(() => true, () => false);
  const { success, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "compile"],
    cwd: ROOT,
    env: { DENORT_BIN: await Deno.realPath(Deno.execPath()) },
    stdout: "null",
  }).output();
  assert(success, new TextDecoder().decode(stderr));
  if (!hadModules) await Deno.remove(modules, { recursive: true });

  assert(((await Deno.stat(FILE)).mode ?? 0) & 0o111, "it can be executed");
  const file = Buffer.from(await Deno.readFile(FILE));
  const shim = await Deno.readFile(new URL("target/release/libstreaming_daemon_shim.so", ROOT));
  assert(file.includes(Buffer.from(shim)), "the shim is in it");
  for (const line of LINES) assert(file.includes(line), line);

  // What it tells its base program: a length in eight bytes, and JSON.
  const begin = file.indexOf('{"argv":');
  const length = Number(file.readBigUInt64LE(begin - 8));
  const metadata = JSON.parse(file.toString("utf8", begin, begin + length)) as Metadata;
  const { allow_net, allow_env, allow_ffi, allow_read, allow_run, allow_write } = metadata.permissions;
  const { net, env } = denoJson.permissions.daemon;
  assert.deepEqual([allow_net, allow_env, allow_run, allow_write], [net, env, null, null]);
  const flag = (name: string): string[] =>
    new RegExp(` --allow-${name}=(\\S+)`).exec(denoJson.tasks.compile.command)?.[1]?.split(",") ?? [];
  assert.deepEqual([allow_ffi, allow_read], [flag("ffi"), flag("read")]);
  assert(metadata.v8_flags.includes("--max-semi-space-size=4"));
});

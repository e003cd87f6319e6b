import assert from "node:assert/strict";
import {
  checkPermissions,
  daemonPermissions,
  missingPermissions,
  permissionFlags,
  readerPermissions,
  statusPermissions,
  tryPermissions,
} from "../../src/cli/permissions.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { ProxySettings } from "../../src/upstream/proxy.ts";

/** The flag of a name that the daemon gets for a configuration; `undefined` if it gets none. */
async function flag(name: string, toml: string, proxies: ProxySettings = {}): Promise<string | undefined> {
  const { config } = await loadConfig({
    path: "x.toml",
    env: () => undefined,
    readTextFile: () => Promise.resolve(toml),
  });
  const flags = permissionFlags(daemonPermissions({ config, configPath: "/etc/x.toml", proxies }));
  return flags.find((each) => each.startsWith(`--allow-${name}=`));
}

const OPENAI = '[backend]\nprovider = "openai"\n[backend.openai]\napi_key = "k"\n';

Deno.test("permissions: the mock backend needs the address of the metrics and no other", async () => {
  assert.equal(await flag("net", ""), "--allow-net=127.0.0.1:9090");
  assert.equal(await flag("net", '[metrics]\nlisten_addr = ":80"'), "--allow-net=0.0.0.0:80");
  assert.equal(await flag("net", '[metrics]\nlisten_addr = "[::1]:80"'), "--allow-net=[::1]:80");
  assert.equal(await flag("net", "[metrics]\nenabled = false"), undefined);
  assert.equal(await flag("write", ""), undefined);
});

Deno.test("permissions: what the configuration of another backend names is not granted", async () => {
  const toml =
    '[backend.openai]\napi_base = "http://a.example/v1"\napi_socket = "/run/s"\nca_file = "/ca.pem"';
  assert.equal(await flag("net", toml), "--allow-net=127.0.0.1:9090");
  assert.doesNotMatch(await flag("read", toml) ?? "", /\/run\/s|\/ca\.pem/);
  assert.equal(await flag("write", toml), undefined);
});

Deno.test("permissions: a provider's host with its port, the scheme's where the URL has none", async () => {
  const net = (base: string) => flag("net", `[metrics]\nenabled = false\n${OPENAI}api_base = "${base}"`);
  assert.equal(await net("https://a.example/v1"), "--allow-net=a.example:443");
  assert.equal(await net("http://a.example/v1"), "--allow-net=a.example:80");
  assert.equal(await net("http://[::1]:8080/v1"), "--allow-net=[::1]:8080");
});

Deno.test("permissions: the host of whichever provider is configured", async () => {
  const toml = '[backend]\nprovider = "anthropic"\n[backend.anthropic]\napi_key = "k"\nca_file = "/ca.pem"\n';
  assert.equal(await flag("net", toml), "--allow-net=127.0.0.1:9090,api.anthropic.com:443");
  assert.match(await flag("read", toml) ?? "", /,\/ca\.pem$/);
  assert.match(await flag("env", toml) ?? "", /=DAEMON_\*,OPENAI_\*,ANTHROPIC_\*,LANGGRAPH_\*,/);
});

Deno.test("permissions: a provider on a Unix socket needs the socket, and no host", async () => {
  const toml = `[metrics]\nenabled = false\n${OPENAI}api_socket = "/run/llm.sock"`;
  assert.equal(await flag("net", toml), "--allow-net=unix:/run/llm.sock");
  assert.match(await flag("read", toml) ?? "", /,\/run\/llm\.sock$/);
  assert.equal(await flag("write", toml), "--allow-write=/run/llm.sock");
});

Deno.test("permissions: a proxy in place of the provider, unless the provider is exempt", async () => {
  const net = (proxies: ProxySettings) => flag("net", `[metrics]\nenabled = false\n${OPENAI}`, proxies);
  assert.equal(await net({ httpsProxy: "http://u:p@proxy.example:3128" }), "--allow-net=proxy.example:3128");
  assert.equal(await net({ httpsProxy: "proxy.example" }), "--allow-net=proxy.example:80");
  assert.equal(
    await net({ httpsProxy: "proxy.example", noProxy: "openai.com" }),
    "--allow-net=api.openai.com:443",
  );
});

Deno.test("permissions: what all backends name, each once, and no more", async () => {
  const toml = `[metrics]\nenabled = false\n${OPENAI}ca_file = "/ca.pem"\n` +
    '[backends.a]\nprovider = "openai"\n[backends.a.openai]\napi_base = "http://a.example/v1"\nca_file = "/ca.pem"\n' +
    '[backends.b]\nprovider = "openai"\n[backends.b.openai]\napi_base = "http://a.example/v2"\napi_socket = "/run/s"\n' +
    '[backends.c.openai]\napi_base = "http://mock.example/v1"\n';
  assert.equal(await flag("net", toml), "--allow-net=api.openai.com:443,a.example:80,unix:/run/s");
  assert.match(await flag("read", toml) ?? "", /\/src,\/ca\.pem,\/run\/s$/);
  assert.equal(await flag("write", toml), "--allow-write=/run/s");
});

Deno.test("permissions: a backend of one's own gets what is named for it, at the start and for --check", async () => {
  const module = 'module = { path = "/o/m.ts", allow_net = ["h:1"], allow_read = ["/o/lib"] }\n';
  const toml = `[metrics]\nenabled = false\n[backends.a]\nprovider = "module"\n${module}[backends.b]\n${
    module.replaceAll("/o/", "/other/").replace("h:1", "other:1")
  }`;
  assert.equal(await flag("net", toml), "--allow-net=h:1");
  assert.match(await flag("read", toml) ?? "", /\/src,\/o\/m\.ts,\/o\/lib$/);
  const { config } = await loadConfig({
    path: "x.toml",
    env: () => undefined,
    readTextFile: () => Promise.resolve(toml),
  });
  assert.deepEqual(permissionFlags(checkPermissions({ config, configPath: "/x" })).slice(0, 2), [
    "--allow-read=/x,/o/m.ts,/o/lib",
    "--allow-net=h:1",
  ]);
});

Deno.test("permissions: --check may read the files that are named, and reach nobody", async () => {
  const { config } = await loadConfig({
    env: (name) =>
      ({
        DAEMON_BACKEND_PROVIDER: "openai",
        OPENAI_API_KEY: "k",
        OPENAI_CA_FILE: "/a.pem",
        DAEMON_RESUME_STORE: "redis",
        DAEMON_RESUME_REDIS_URL: "rediss://a",
        DAEMON_RESUME_REDIS_CA_FILE: "/b.pem",
      })[name],
    readTextFile: () => Promise.resolve(""),
  });
  const [read, env] = permissionFlags(checkPermissions({ config }));
  assert.equal(read, "--allow-read=/a.pem,/b.pem");
  assert.match(env ?? "", /^--allow-env=/);
});

Deno.test("permissions: the files that are named", async () => {
  const read = await flag("read", `${OPENAI}ca_file = "/etc/a ca.pem"`);
  assert.match(read ?? "", /^--allow-read=\/etc\/x\.toml,\/.*\/src,\/etc\/a ca\.pem$/);
});

Deno.test("permissions: the store of streams, where it is configured", async () => {
  const net = (store: string, url: string) =>
    flag("net", `[metrics]\nenabled = false\n[resume]\nstore = "${store}"\nredis_url = "${url}"`);
  assert.equal(await net("redis", "redis://u:p@cache.internal/2"), "--allow-net=cache.internal:6379");
  assert.equal(await net("redis", "rediss://[::1]:7000"), "--allow-net=[::1]:7000");
  assert.equal(await net("memory", "redis://cache.internal"), undefined);
  const toml = '[resume]\nstore = "redis"\nredis_url = "rediss://a"\nredis_ca_file = "/ca.pem"';
  assert.match(await flag("read", toml) ?? "", /,\/ca\.pem$/);
  assert.doesNotMatch(await flag("read", toml.replace('"redis"', '"memory"')) ?? "", /ca\.pem/);
});

Deno.test("permissions: a path with a comma is refused, since it would grant two others", async () => {
  await assert.rejects(flag("read", `${OPENAI}ca_file = "/etc/ca,/etc"`), {
    name: "ConfigError",
    message: "/etc/ca,/etc: expected a path without a comma, which no permission can be given for",
  });
});

Deno.test("permissions: status needs the address that it asks, which for all addresses is loopback", async () => {
  const net = async (addr: string) => {
    const env = (name: string) => name === "DAEMON_METRICS_ADDR" ? addr : undefined;
    const { config } = await loadConfig({ env, readTextFile: () => Promise.reject(new Error()) });
    return permissionFlags(statusPermissions({ config })).find((each) => each.startsWith("--allow-net="));
  };
  assert.equal(await net("127.0.0.1:9090"), "--allow-net=127.0.0.1:9090");
  assert.equal(await net(":9191"), "--allow-net=127.0.0.1:9191");
  assert.equal(await net("[::1]:9191"), "--allow-net=[::1]:9191");
});

Deno.test("permissions: a command that reads the configuration gets that file; try the library that plays Apache", () => {
  assert.deepEqual(permissionFlags(readerPermissions({ configPath: "/x" })).slice(0, 1), ["--allow-read=/x"]);
  assert.equal(permissionFlags(readerPermissions({})).some((each) => each.startsWith("--allow-read")), false);
  assert.match(
    permissionFlags(tryPermissions({}))[0] ?? "",
    /^--allow-ffi=\/.*\/libstreaming_daemon_tools\.so$/,
  );
});

Deno.test({
  name: "permissions: what a new configuration needs beyond what was granted is named",
  permissions: { net: ["h:1"], read: ["/a", "/b"], write: ["/a"] },
  async fn() {
    const granted = { net: ["h:1"], read: ["/a", "/b"], write: ["/a"], env: [] };
    assert.deepEqual(await missingPermissions(granted), []);
    assert.deepEqual(await missingPermissions({ net: ["h:2"], read: ["/c"], write: ["/b"], env: [] }), [
      "--allow-net=h:2",
      "--allow-read=/c",
      "--allow-write=/b",
    ]);
  },
});

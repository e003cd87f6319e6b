/** What README.md, CONTRIBUTING.md and docs/ say, held to what there is. */
import assert from "node:assert/strict";
import { parse as parseToml } from "smol-toml";
import denoJson from "../deno.json" with { type: "json" };
import { daemonPermissions, permissionFlags } from "../src/cli/permissions.ts";
import { allKeys, describeConfig, loadConfig } from "../src/config/load.ts";
import { BACKEND_FAILURES, HANDOFF_FAILURES, STREAM_FAILURES } from "../src/errors.ts";
import { configurationPage } from "../tools/package/man.ts";
import { spawnDaemon, startDaemon, startFlags } from "./support/daemon.ts";

const ROOT = new URL("../", import.meta.url);
const DOCUMENTS = [
  "README.md",
  "CONTRIBUTING.md",
  ...[...Deno.readDirSync(new URL("docs/", ROOT))].map(({ name }) => `docs/${name}`).sort(),
];
/** All that a document says somewhere; its title is in the first line. */
const slugsOf = (text: string): string[] =>
  [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    (heading as string).toLowerCase().replace(/[^\w -]/g, "").replaceAll(" ", "-")
  );
/** Named as what a reader may add. */
const READERS_OWN_TASKS = ["start:site"];

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

function exists(path: string): boolean {
  try {
    Deno.statSync(new URL(path, ROOT));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** The text below a heading, to the next one of its rank. */
function section(document: string, heading: string): string {
  const [, text] = document.split(`\n## ${heading}\n`);
  assert(text !== undefined, `there is no "## ${heading}"`);
  return text.split("\n## ")[0] as string;
}

/** The rows of the first table in a text, without head. */
function tableRows(text: string): string[][] {
  const lines = text.split("\n");
  const begin = lines.findIndex((line) => line.startsWith("|"));
  const count = lines.slice(begin).findIndex((line) => !line.startsWith("|"));
  return lines.slice(begin + 2, begin + count).map((line) =>
    line.slice(1, -1).split("|").map((cell) => cell.trim())
  );
}

for (const name of DOCUMENTS) {
  const text = read(name);
  const folder = name.replace(/[^/]*$/, "");

  Deno.test(`${name}: each task that is named exists`, () => {
    const named = [...text.matchAll(/\b(?:deno|deno@[\d.]+) task ([\w:-]+)/g)].map(([, task]) =>
      task as string
    );
    assert.deepEqual(
      named.filter((task) => !(task in denoJson.tasks) && !READERS_OWN_TASKS.includes(task)),
      [],
    );
  });

  Deno.test(`${name}: each link inside of the repository leads somewhere`, () => {
    const links = [...text.matchAll(/\]\(([^)]+)\)/g)].map(([, link]) => link as string)
      .filter((link) => !/^\w+:/.test(link));
    const broken = links.filter((link) => {
      const [path, anchor] = link.split("#") as [string, string | undefined];
      if (path !== "" && !exists(folder + path)) return true;
      return anchor !== undefined && !slugsOf(path === "" ? text : read(folder + path)).includes(anchor);
    });
    assert.deepEqual(broken, []);
  });

  Deno.test(`${name}: each file of the repository that is named exists`, () => {
    const rooms = /^(?:\.ci|bench|config|demo|docs|examples|shim|src|systemd|tests|tools)\//;
    const files = [...text.matchAll(/`([\w./-]+)`/g)].map(([, path]) => path as string)
      .filter((path) => rooms.test(path) && !path.includes("NAME"));
    assert.deepEqual(files.filter((path) => !exists(path)), []);
  });
}

Deno.test("the documents are many, and name tasks, links and files", () => {
  const all = DOCUMENTS.map(read).join("\n");
  assert(DOCUMENTS.length >= 10);
  assert((all.match(/deno task/g) ?? []).length > 10);
  assert((all.match(/\]\(/g) ?? []).length > 40);
});

Deno.test("README.md has at most 200 lines, and leads to every page of docs/", () => {
  const text = read("README.md");
  assert(text.split("\n").length <= 200);
  const pages = DOCUMENTS.filter((name) => name.startsWith("docs/"));
  assert.deepEqual(pages.filter((page) => !text.includes(`](${page})`)), []);
});

Deno.test("docs/configuration.md: the table of the keys is that of src/config/keys.ts", async () => {
  const defaults = await loadConfig({
    env: () => undefined,
    readTextFile: () => Promise.reject(new Error()),
  });
  let table = "";
  const tomlOf = new Map<string, string>();
  for (const line of describeConfig(defaults).split("\n")) {
    table = /^\[(.*)\]$/.exec(line)?.[1] ?? table;
    const [, name, toml] = /^(\w+) = (.*) # default$/.exec(line) ?? [];
    if (name !== undefined) tomlOf.set(`${table}.${name}`, toml as string);
  }
  const expected = allKeys().map(({ path, key }) => [
    `\`${path}\``,
    `\`${tomlOf.get(path)}\``,
    `\`${key.env}\``,
    key.restart ? `${key.doc} _(restart)_` : key.doc,
  ]);
  assert.deepEqual(tableRows(read("docs/configuration.md")), expected);
});

Deno.test("daemon.toml(5) has each default as the file would have it, quotes included", async () => {
  const page = await configurationPage(0);
  // As man(7) shows it: a bare quote would part a macro's arguments, and be gone.
  const shown = [...page.matchAll(/^\.B (\w+ = .*)$/gm)].map(([, line = ""]) =>
    line.replaceAll('"', "").replaceAll("\\(dq", '"').replaceAll("\\-", "-")
  );
  const { config } = await loadConfig({ env: () => undefined, readTextFile: () => Promise.resolve("") });
  const defaults = describeConfig({ config, origins: new Map() }).match(/^\w+ = .*$/gm) ?? [];
  assert(defaults.length > 100, `${defaults.length} keys`);
  assert.deepEqual(shown, defaults);
});

Deno.test("the configurations in the documents hold", async () => {
  const blocks = [...DOCUMENTS.map(read).join("\n").matchAll(/^```toml\n([^]*?)^```$/gm)].map(([, toml]) =>
    toml as string
  );
  assert(blocks.length >= 4);
  for (const toml of blocks) {
    await loadConfig({
      path: "README.md",
      env: (name) => name.endsWith("_API_KEY") ? "sk-test" : undefined,
      readTextFile: () => Promise.resolve(toml),
    });
  }
});

Deno.test("docs/metrics.md: the metrics are those of the page, and the labels those of src/errors.ts", async () => {
  const text = read("docs/metrics.md");
  await using daemon = await startDaemon();
  const page = await (await daemon.page("/metrics")).text();
  const known = [...page.matchAll(/^# TYPE (daemon_\w+) /gm)].map(([, name]) => name as string).sort();
  const named = [...text.matchAll(/\bdaemon_\w+/g)].map(([name]) => name.replace(/_bucket$/, ""));
  assert.deepEqual([...new Set(named)].sort(), known);
  for (const label of [...HANDOFF_FAILURES, ...STREAM_FAILURES, ...BACKEND_FAILURES]) {
    assert(text.includes(`\`${label}\``), `${label} is not in docs/metrics.md`);
  }
});

Deno.test("docs/security.md: denials read as they are quoted", async () => {
  const denials = [
    { env: { DAEMON_METRICS_ADDR: "127.0.0.1:9191" } },
    { args: ["/srv/daemon.toml"] },
    { env: { DAEMON_SHIM_PATH: "/usr/lib/other.so", DAEMON_METRICS_ENABLED: "false" } },
  ];
  const permissions = startFlags().filter((flag) => flag.startsWith("--allow-net="));
  const text = section(read("docs/security.md"), "The sandbox");
  for (const denial of denials) {
    await using daemon = spawnDaemon({ ...denial, permissions });
    assert.notEqual(await daemon.exit(), 0);
    const last = daemon.stderr.at(-1) ?? "";
    assert(last.includes("sandbox"), last);
    assert(text.includes(`  ${last}\n`), `docs/security.md does not quote: ${last}`);
  }
});

Deno.test("docs/security.md: its table has all permissions that a configuration can need", async () => {
  const { config } = await loadConfig({
    path: "README.md",
    env: () => undefined,
    readTextFile: () =>
      Promise.resolve('backend = { provider = "openai", openai = { api_socket = "/s", api_key = "k" } }'),
  });
  const flags = permissionFlags(daemonPermissions({ config, proxies: {} }));
  assert.deepEqual(
    tableRows(section(read("docs/security.md"), "The sandbox")).map(([cell]) =>
      (cell as string).replaceAll("`", "")
    ),
    flags.map((flag) => flag.split("=")[0]),
  );
});

Deno.test("the compiled file has the permissions of the default configuration and of OpenAI itself", async () => {
  const { config } = await loadConfig({
    path: "README.md",
    env: () => undefined,
    readTextFile: () => Promise.resolve('backend = { provider = "openai", openai = { api_key = "k" } }'),
  });
  const { net, env } = daemonPermissions({ config, proxies: {} });
  assert.deepEqual(denoJson.permissions.daemon, { net, env });
  // Of its own files a compiled program needs no permission, and the shim is elsewhere.
  const { command } = denoJson.tasks.compile;
  assert.deepEqual(command.match(/(?<= )(?:-P|--allow-)\S+/g), [
    "-P=daemon",
    "--allow-ffi=/tmp/deno-compile-streaming-daemon-ts/target/release/libstreaming_daemon_shim.so," +
    "/usr/local/lib/streaming-daemon-ts/libstreaming_daemon_shim.so",
    "--allow-read=/etc/streaming-daemon-ts",
  ]);
});

Deno.test("the tasks and the drop-in start the daemon by one script", () => {
  const exec = /^ExecStart=(\/.*)$/m.exec(read("systemd/checkout.conf"))?.[1];
  const config = "/etc/streaming-daemon-ts/daemon.toml";
  assert.equal(exec, `/opt/streaming-daemon-ts/tools/launch /usr/local/bin/deno main.ts ${config}`);
  const start = `sh tools/launch "$(deno eval 'console.log(Deno.execPath())')" main.ts`;
  assert.equal(denoJson.tasks.start.command, start);
  assert.equal(denoJson.tasks.try.command, `${start} try`);
  // The compiled file cannot have a script; docs/security.md explains the flag.
  const [v8Flag] = startFlags().filter((flag) => flag.startsWith("--v8-flags="));
  assert(denoJson.tasks.compile.command.includes(` ${v8Flag} `));
  assert(read("docs/security.md").includes(`\`${v8Flag}\``));
});

Deno.test("deno task compile leaves out the file that it would overflow on", () => {
  const [, excluded] = /--exclude=node_modules\/\.deno\/([^/]+)\//.exec(denoJson.tasks.compile.command) ?? [];
  assert(Object.hasOwn(JSON.parse(read("deno.lock")).npm, excluded ?? ""), `deno.lock has no ${excluded}`);
});

Deno.test("the versions of deno.json and Cargo.toml are one", () => {
  const { workspace } = parseToml(read("Cargo.toml")) as { workspace: { package: { version: string } } };
  assert.equal(workspace.package.version, denoJson.version);
});

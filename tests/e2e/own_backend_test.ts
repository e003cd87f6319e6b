/** A backend of one's own in the running daemon, in its sandbox: `examples/backend/ollama.ts`. */
import assert from "node:assert/strict";
import { launch } from "../support/launch.ts";
import { TestFolder } from "../support/folders.ts";
import { broken, told, UNAVAILABLE } from "../support/openai_daemon.ts";
import { ask } from "../support/several_backends.ts";
import { STREAM_HEAD } from "../support/wire.ts";

const EXAMPLE = new URL("../../examples/backend/ollama.ts", import.meta.url);

/** A server that answers as Ollama does, by the model. */
function ollama():
  & { readonly url: string; readonly host: string; readonly asked: unknown[] }
  & AsyncDisposable {
  const asked: unknown[] = [];
  const line = (value: unknown): string => JSON.stringify(value) + "\n";
  const word = (content: string): string =>
    line({ model: "m", message: { role: "assistant", content }, done: false });
  const end = line({
    message: { content: "" },
    done: true,
    done_reason: "stop",
    prompt_eval_count: 3,
    eval_count: 4,
  });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const body = await request.json();
    asked.push([new URL(request.url).pathname, body]);
    if (body.model === "none") return Response.json({ error: "model 'none' not found" }, { status: 404 });
    if (body.model === "busy") return Response.json({ error: "server busy" }, { status: 503 });
    if (body.model === "breaks") return new Response(word("Grüße, ") + line({ error: "out of memory" }));
    if (body.model === "cut") return new Response(word("Grüße, "));
    // In the middle of a character and of a line.
    const bytes = new TextEncoder().encode(word("Grüße, ") + word("Welt") + end);
    return new Response(
      ReadableStream.from([bytes.subarray(0, 58), bytes.subarray(58, 100), bytes.subarray(100)]),
    );
  });
  const host = `127.0.0.1:${server.addr.port}`;
  return { url: `http://${host}`, host, asked, [Symbol.asyncDispose]: () => server.shutdown() };
}

/** A configuration with the example, copied to where nothing else of the repository is. */
function configuration(folder: TestFolder, url: string, host: string): string {
  Deno.copyFileSync(EXAMPLE, `${folder.path}/my backend.ts`);
  const path = `${folder.path}/daemon.toml`;
  Deno.writeTextFileSync(
    path,
    `[backend]\nprovider = "module"\n[backend.module]\npath = "${folder.path}/my backend.ts"\n` +
      `options = { url = "${url}" }\nallow_net = ["${host}"]\n`,
  );
  return path;
}

Deno.test("the example streams, with the permissions that the configuration names", async () => {
  await using server = ollama();
  using folder = new TestFolder();
  await using daemon = launch([configuration(folder, server.url, server.host)]);
  await daemon.logged("Taking handoffs");
  assert.equal(await ask({ daemon }, { prompt: "Hi", model: "m" }), told("Grüße, ", "Welt"));
  assert.deepEqual(server.asked, [["/api/chat", {
    model: "m",
    messages: [{ role: "user", content: "Hi" }],
  }]]);
  const { fields } = await daemon.logged("Stream complete");
  assert.deepEqual(
    [fields["backend"], fields["finish_reason"], fields["input_tokens"], fields["output_tokens"]],
    ["module", "stop", 3, 4],
  );
  const flags = (await Deno.readTextFile(`/proc/${daemon.pid}/cmdline`)).split("\0");
  assert(flags.includes(`--allow-net=127.0.0.1:0,${server.host}`), flags.join(" "));
  assert.match(flags.find((each) => each.startsWith("--allow-read=")) ?? "", /\/src,[^,]*\/my backend\.ts$/);
  for (
    const [model, answer, kind] of [
      ["none", UNAVAILABLE, "not_found"],
      ["busy", UNAVAILABLE, "server_error"],
      ["breaks", broken(["Grüße, "]), "stream_error"],
      ["cut", broken(["Grüße, "]), "truncated"],
    ] as const
  ) {
    assert.equal(await ask({ daemon }, { model }), answer);
    assert.equal(await daemon.metric("daemon_backend_errors", { backend: "module", kind }), 1);
  }
  daemon.signal("SIGTERM");
  assert.equal(await daemon.exit(), 0);
});

Deno.test("a host that the configuration does not name stays refused to it", async () => {
  await using server = ollama();
  using folder = new TestFolder();
  await using daemon = launch([configuration(folder, server.url, "127.0.0.1:1")]);
  await daemon.logged("Taking handoffs");
  assert.equal(await ask({ daemon }), UNAVAILABLE);
  const { fields } = await daemon.logged("Backend failed");
  assert.match(JSON.stringify(fields["error"]), new RegExp(`Requires net access to \\\\?"${server.host}`));
  assert.deepEqual(server.asked, []);
});

Deno.test("a module that cannot be a backend: start and --check end with a line that says why", async (t) => {
  using folder = new TestFolder();
  const modules: Readonly<Record<string, readonly [source: string | undefined, message: RegExp]>> = {
    "none.ts": [undefined, /: the module cannot be loaded: Module not found/],
    "throws.ts": [`throw new Error("no luck");`, /: the module cannot be loaded: no luck$/],
    "empty.ts": [
      "export {};",
      /: the module's default export is undefined, expected a function that makes a backend$/,
    ],
    "fails.ts": [
      `export default () => { throw new Error("no url"); };`,
      /: the module's function failed: no url$/,
    ],
  };
  for (const [name, [source, message]] of Object.entries(modules)) {
    await t.step(name, async () => {
      const path = `${folder.path}/${name}`;
      if (source !== undefined) Deno.writeTextFileSync(path, source);
      const toml = `${folder.path}/daemon.toml`;
      Deno.writeTextFileSync(
        toml,
        `[backends.own]\nprovider = "module"\n[backends.own.module]\npath = "${path}"\n`,
      );
      for (const args of [[toml], ["--check", toml]]) {
        await using daemon = launch(args);
        assert.equal(await daemon.exit(), 2);
        const [line] = daemon.stderr;
        assert.equal(
          line?.startsWith(`streaming-daemon-ts: backends.own.module.path = "${path}": `),
          true,
          line,
        );
        assert.match(line ?? "", message);
      }
    });
  }
});

Deno.test("one stream of a bad backend costs no other, and a fallback takes over", async () => {
  using folder = new TestFolder();
  const path = `${folder.path}/own.ts`;
  Deno.writeTextFileSync(
    path,
    `export default () => ({ stream({ model }, signal) {
      if (model === "throw") throw new Error("at once");
      if (model === "nothing") return undefined;
      return new ReadableStream({ pull: (c) => model === "junk" ? c.enqueue({}) : (c.enqueue("a "), new Promise(() => {})) });
    } });`,
  );
  const toml = `${folder.path}/daemon.toml`;
  Deno.writeTextFileSync(
    toml,
    `[backend]\nprovider = "module"\nselectable = ["safe"]\nmodule = { path = "${path}" }\n` +
      `[backends.safe]\nprovider = "module"\nfallback = ["mock"]\nmodule = { path = "${path}" }\n` +
      "[backends.mock.mock]\ntoken_delay_ms = 0\n",
  );
  await using daemon = launch([toml], { DAEMON_WORKERS: "1" });
  await daemon.logged("Taking handoffs");
  using running = daemon.handOff();
  assert.equal(await running.readUntil('"a "}\n\n'), STREAM_HEAD + 'data: {"content":"a "}\n\n');
  for (const model of ["throw", "nothing", "junk"]) {
    assert.equal(await ask({ daemon }, { model }), UNAVAILABLE);
    assert.match(await ask({ daemon }, { model, backend: "safe" }), /DONE-CONTENT/);
  }
  assert.equal(await daemon.metric("daemon_streams_active"), 1);
  assert.equal(await daemon.metric("daemon_worker_restarts_total"), 0);
});

/** Several backends in one daemon: who is asked. */
import assert from "node:assert/strict";
import { mockLlm } from "../support/mock_llm.ts";
import { HELLO } from "../support/openai_daemon.ts";
import { ask, openaiBackend, startSite } from "../support/several_backends.ts";
import { plainResponse } from "../support/wire.ts";

Deno.test("a handoff names its backend or a model that is one's own, or gets the default one", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  await using b = await mockLlm({ protocol: "h1" });
  await using site = await startSite(
    'backend.selectable = ["a"]\n' +
      openaiBackend("a", a, 'default_model = "model-a"') + openaiBackend("b", b, 'models = ["b-"]'),
    { DAEMON_BACKENDS_B_OPENAI_API_KEY: "geheim" },
  );
  const { daemon } = site;
  assert.deepEqual((await daemon.logged("Taking handoffs")).fields["backends"], ["a", "b"]);
  assert.match(await ask(site), /DONE-CONTENT/);
  assert.match(await ask(site, { model: "c" }), /DONE-CONTENT/);
  assert.equal(await ask(site, { backend: "a" }), HELLO);
  assert.equal(await ask(site, { model: "b-1" }), HELLO);
  assert.equal(
    await ask(site, { backend: "b" }),
    plainResponse(400, 'Field "backend" is not one of a'),
  );
  assert.deepEqual([a, b].map(({ requests }) => requests.map(({ body }) => body["model"])), [["model-a"], [
    "b-1",
  ]]);
  assert.deepEqual([a, b].map(({ requests }) => requests[0]?.headers["authorization"]), [
    undefined,
    "Bearer geheim",
  ]);
  for (const [backend, requests] of [["mock", 2], ["a", 1], ["b", 1]] as const) {
    assert.equal(await daemon.metric("daemon_backend_requests", { backend }), requests);
  }
  assert.equal(await daemon.metric("daemon_upstream_connections_opened_total"), 2);
  const lines = daemon.log.filter(({ message }) => message === "Stream complete");
  assert.deepEqual(lines.map(({ fields }) => [fields["backend"], fields["model"]]), [
    ["mock", "gpt-4o"],
    ["mock", "c"],
    ["a", "model-a"],
    ["b", "b-1"],
  ]);
  const tokens = { model: "model-a", direction: "input" };
  assert.equal(await daemon.metric("daemon_backend_tokens_total", tokens), 7);
  const status = await (await daemon.page("/status")).text();
  assert.match(status, /\[backends\.b\.openai\]/);
  assert(![status, ...daemon.stderr].some((text) => text.includes("geheim")));
});

Deno.test("a reload makes anew the backend that has changed; connections of the others and answers go on", async () => {
  const gate = Promise.withResolvers<void>();
  await using a = await mockLlm({ protocol: "h1", gate: gate.promise });
  await using b = await mockLlm({ protocol: "h1" });
  const configuration = (more: string) =>
    'backend.selectable = ["a", "b"]\n' + openaiBackend("a", a, more) + openaiBackend("b", b);
  await using site = await startSite(configuration(""));
  const { daemon } = site;
  for (const backend of ["a", "b"]) assert.equal(await ask(site, { backend }), HELLO);
  using running = daemon.handOff({ backend: "a", test_pattern: "gate" });
  await running.readUntil("first ");
  const changed = await site.reload(configuration('default_model = "other"'));
  assert.deepEqual(changed["changed"], ["backends.a.default_model"]);
  for (const backend of ["a", "b"]) assert.equal(await ask(site, { backend }), HELLO);
  gate.resolve();
  assert.match(await running.readAll(), /\[DONE\]\n\n$/);
  assert.deepEqual([a.counts.connections, b.counts.connections], [2, 1]);
  assert.deepEqual(a.requests.map(({ body }) => body["model"]), ["gpt-4o", "gpt-4o", "other"]);
  // One that is gone is not asked any more, and one that is new is.
  await site.reload('backend.selectable = ["c"]\n' + openaiBackend("c", b));
  assert.match(await ask(site, { backend: "a" }), /^HTTP\/1\.1 400 /);
  assert.equal(await ask(site, { backend: "c" }), HELLO);
});

Deno.test("a reload that names a backend's new host is refused by the sandbox, and the rest stays", async () => {
  await using a = await mockLlm({ protocol: "h1" });
  const allowed = `--allow-net=127.0.0.1:0,127.0.0.1:${a.port}`;
  const configuration = (port: number) =>
    'backend.selectable = ["a"]\n' + openaiBackend("a", { base: `http://127.0.0.1:${port}/v1` });
  await using site = await startSite(configuration(a.port), { DAEMON_METRICS_ENABLED: "false" }, [allowed]);
  const { error } = await site.reload(configuration(1));
  assert.match(JSON.stringify(error), /it takes a restart: .* lacks --allow-net=127\.0\.0\.1:1/);
  assert.equal(await ask(site, { backend: "a" }), HELLO);
});

Deno.test("a backend that cannot be made ends the start, and the message has its name", async () => {
  const toml =
    '[backends.a]\nprovider = "openai"\n[backends.a.openai]\napi_key = "k"\nca_file = "/none.pem"\n';
  await assert.rejects(
    startSite(toml).then((site) => site[Symbol.asyncDispose]()),
    /backends\.a\.openai\.ca_file \/none\.pem cannot be read/,
  );
});

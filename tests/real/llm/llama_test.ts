/** llama.cpp's server as the provider: `deno task test:llm`. */
import assert from "node:assert/strict";
import { startDaemon } from "../../support/daemon.ts";
import { startLlama } from "../../support/llm_servers.ts";
import { broken, HELLO, told, UNAVAILABLE } from "../../support/openai_daemon.ts";
import { answers, askMany } from "../../support/many_clients.ts";

const STREAMS = 500;
const SLOTS = 8;
/** How often `again ` may come before the context is full: longer than anything here takes. */
const ENDLESS = 40_000;

Deno.test(`llama.cpp: limits, and its end with ${STREAMS} streams, of which it answers ${SLOTS} at a time`, async (t) => {
  await using server = await startLlama({ slots: SLOTS, contextLength: ENDLESS });
  await using daemon = await startDaemon({
    env: {
      DAEMON_BACKEND_PROVIDER: "openai",
      OPENAI_API_BASE: server.base,
      OPENAI_HTTP2_ENABLED: "false",
    },
  });
  const fds = daemon.openFds();
  const one = async (data: Readonly<Record<string, unknown>>): Promise<string> =>
    Object.keys(await answers(await askMany(daemon, 1, data)))[0] ?? "";

  await t.step("the limit of an answer has either name, and its end a reason and counts", async () => {
    const ends = (reason: string, counts: string) =>
      `event: finish\ndata: {"finish":"${reason}"}\n\nevent: usage\ndata: {"usage":{${counts}}}\n\ndata: [DONE]\n\n`;
    for (const name of ["max_tokens", "max_completion_tokens"]) {
      const said = await one({ prompt: "on and on", [name]: 3, include: ["finish", "usage"] });
      assert.equal(said.match(/again /g)?.length, 3);
      assert.ok(said.endsWith(ends("length", '"input_tokens":18,"output_tokens":3')), said);
    }
    const said = await one({ prompt: "Hi", include: ["finish", "usage"] });
    assert.ok(said.endsWith(ends("stop", '"input_tokens":7,"output_tokens":6')), said);
  });

  await t.step("a conversation that is too long for the model is refused by name", async () => {
    assert.equal(await one({ prompt: "x".repeat(ENDLESS + 1) }), UNAVAILABLE);
    const { fields } = await daemon.logged("Backend failed");
    assert.match(
      String((fields["error"] as { readonly message: string }).message),
      /^the provider answered 400 request \(\d+ tokens\) exceeds the available context size \(40000 tokens\)/,
    );
  });

  // It closes a connection right after an answer that says it is kept, as long as others wait for its threads.
  await t.step("all at once: whoever waits for a slot is answered in the end", async () => {
    for (let wave = 0; wave < 3; wave++) {
      assert.deepEqual(await answers(await askMany(daemon, STREAMS, {})), { [HELLO]: STREAMS });
    }
  });

  await t.step("when it is killed, what has begun is told so, and what waited is asked again", async () => {
    const begun = await askMany(daemon, SLOTS, { prompt: "on and on" });
    for (const client of begun) await client.readUntil("again ");
    const waiting = await askMany(daemon, STREAMS - SLOTS, {});
    await server.stop("SIGKILL");
    await server.start();
    const { [HELLO]: whole = 0, [UNAVAILABLE]: refused = 0, ...others } = await answers(waiting);
    assert.deepEqual(others, {});
    assert.equal(whole + refused, STREAMS - SLOTS);
    for (const client of begun) {
      const said = await client.readAll();
      client.close();
      assert.equal(
        said.replace(/"(again )+"/g, '"again "').replace(/(data: {"content":"again "}\n\n)+/, "$1"),
        broken(["again "]),
      );
    }
    assert.deepEqual(await answers(await askMany(daemon, STREAMS, {})), { [HELLO]: STREAMS });
  });

  await t.step("a client that goes gives its slot back", async () => {
    const endless = await askMany(daemon, SLOTS, { prompt: "on and on" });
    for (const client of endless) await client.readUntil("again ");
    for (const client of endless) client.close();
    assert.equal(await one({}), told("word0 ", "word1 ", "word2 ", "word3 ", "word4 "));
  });

  await t.step("no descriptor is left over", async () => {
    await daemon.until(
      "the server to close what idles",
      async () => await daemon.metric("daemon_upstream_connections") === 0,
    );
    await daemon.fdsBackTo(fds + 1); // and one of the tests' own client for its metrics
  });
});

/** The provider langgraph over the real daemon and the stand-in. */
import assert from "node:assert/strict";
import { answer, HELLO, openaiDaemon } from "../support/openai_daemon.ts";
import { type ProviderCase, providerTests } from "../support/provider_tests.ts";

const LANGGRAPH: ProviderCase = {
  name: "langgraph",
  variables: "LANGGRAPH",
  path: "/",
  reasons: {
    stop: "stop",
    length: "length",
    tool_calls: "tool_calls",
    end_turn: "stop",
    max_tokens: "length",
    content_filter: "content_filter",
    another: "another",
  },
  missing: null,
  wholeWithoutMark: true,
  kinds: { error: "stream_error", overloaded: "stream_error", "rate-limit": "stream_error" },
};

providerTests(LANGGRAPH);

Deno.test("langgraph: runs without a thread, on a thread, and ones that are joined", async (t) => {
  await using both = await openaiDaemon("h1", {
    provider: LANGGRAPH,
    env: {
      LANGGRAPH_ASSISTANT_ID: "researcher",
      LANGGRAPH_BODY: '{"multitask_strategy":"enqueue"}',
      DAEMON_REQUEST_MEMBERS: "assistant_id,config,command,input",
    },
  });
  const { daemon, mock } = both;
  const asked = {
    assistant_id: "researcher",
    on_disconnect: "cancel",
    multitask_strategy: "enqueue",
    input: { messages: [{ role: "user", content: "Hello" }] },
    stream_mode: ["messages-tuple"],
  };
  const last = () => mock.requests.at(-1);
  await t.step("without one", async () => {
    assert.equal(await answer(daemon, "plain"), HELLO);
    assert.deepEqual([last()?.method, last()?.path, last()?.body], ["POST", "/runs/stream", asked]);
  });
  await t.step("on one, of another assistant, with its configuration and more input", async () => {
    const config = { configurable: { tone: "dry" } };
    const request = { assistant_id: "writer", config, input: { topic: "x", messages: [] } };
    assert.equal(await answer(daemon, "plain", { thread_id: "a b/../c", request }), HELLO);
    assert.equal(last()?.path, "/threads/a%20b%2F..%2Fc/runs/stream");
    assert.deepEqual(last()?.body, {
      ...asked,
      assistant_id: "writer",
      config,
      input: { topic: "x", messages: asked.input.messages },
    });
  });
  await t.step("a command in place of input", async () => {
    const command = { resume: "yes" };
    assert.equal(await answer(daemon, "plain", { thread_id: "t", request: { command } }), HELLO);
    const { input: _, ...rest } = asked;
    assert.deepEqual(last()?.body, { ...rest, command });
  });
  await t.step("one that is under way", async () => {
    assert.equal(await answer(daemon, "plain", { thread_id: "t", run_id: "r" }), HELLO);
    assert.deepEqual([last()?.method, last()?.path, last()?.body], [
      "GET",
      "/threads/t/runs/r/stream?stream_mode=messages-tuple&cancel_on_disconnect=0",
      {},
    ]);
    assert.equal(last()?.headers["last-event-id"], "-1");
    assert.equal(last()?.headers["content-type"], undefined);
  });
  await t.step("a run without its thread is a 400", async () => {
    assert.match(
      await answer(daemon, "plain", { run_id: "r" }),
      /400 [^]*Field "run_id" needs a "thread_id"/,
    );
  });
});

for (const protocol of ["h2c", "h2"] as const) {
  Deno.test(`langgraph over ${protocol}: a run that is joined has no body`, async () => {
    await using both = await openaiDaemon(protocol, { provider: LANGGRAPH });
    assert.equal(await answer(both.daemon, "plain", { thread_id: "t", run_id: "r" }), HELLO);
    assert.equal(both.mock.requests[0]?.method, "GET");
  });
}

/** Where a run is asked for, and when once more. */
import assert from "node:assert/strict";
import { HttpBackend } from "../../../src/backend/http/http.ts";
import { LangGraph } from "../../../src/backend/langgraph/langgraph.ts";
import { requestFor } from "../../support/answers.ts";
import { ask, Ears, IDLE_HOOKS } from "../../support/backend_rig.ts";
import { mockLlm } from "../../support/mock_llm.ts";
import { openaiOptions } from "../../support/openai_options.ts";

const langGraph = new LangGraph({
  apiBase: "http://a.example/base",
  apiKey: "",
  assistantId: "agent",
  body: {},
  headers: {},
});

Deno.test("langgraph: the ids of thread and run stay one segment of the path, whatever they are", () => {
  const pathOf = (threadId: string, runId?: string): string =>
    langGraph.draft({ ...requestFor("x"), threadId, ...(runId === undefined ? {} : { runId }) }).head.url
      .pathname;
  assert.equal(pathOf("a/../b?c#d"), "/base/threads/a%2F..%2Fb%3Fc%23d/runs/stream");
  assert.equal(pathOf("%2e%2e", "..."), "/base/threads/%252e%252e/runs/.../stream");
});

Deno.test("langgraph: an id that would lead out of its place in the path is not asked for", () => {
  for (const ids of [{ threadId: ".." }, { threadId: "." }, { threadId: "t", runId: ".." }]) {
    const draft = langGraph.draft({ ...requestFor("x"), ...ids });
    assert.throws(() => draft.body(), {
      kind: "bad_request",
      message: /_id is \.+, which is the id of nothing/,
    });
  }
});

/** What comes of a request, and how often it is tried. */
async function triesOf(base: string, pattern: string, ids: object): Promise<[last: string, tries: number]> {
  const options = openaiOptions({ apiBase: base, http2: false, maxRetries: 1 });
  const dialect = new LangGraph({ ...options, assistantId: "agent" });
  const backend = new HttpBackend(dialect, options, [], IDLE_HOOKS);
  const heard = await new Ears(backend).hear(ask(pattern, ids));
  await backend.close();
  return [heard.at(-1)?.split(":")[0] ?? "", 1 + backend.stats().retries];
}
const THREAD = { threadId: "t" };

Deno.test("langgraph: a message that its thread may have taken is not sent again", async (t) => {
  await using mock = await mockLlm({ protocol: "h1" });
  const base = new URL("/", mock.base).href;
  for (
    const [pattern, ids, last, tries] of [
      ["status-502-times-1", THREAD, "server_error", 1],
      ["status-504-times-1", THREAD, "server_error", 1],
      ["reset-head", THREAD, "unavailable", 1],
      ["status-503-times-1", THREAD, "end", 2],
      ["retry-after-0-times-1", THREAD, "end", 2],
      ["status-502-times-1", {}, "end", 2],
      ["reset-head", {}, "unavailable", 2],
      ["status-502-times-1", { ...THREAD, runId: "r" }, "end", 2],
      ["reset-head", { ...THREAD, runId: "r" }, "unavailable", 2],
    ] as const
  ) {
    await t.step(`${pattern} ${JSON.stringify(ids)}`, async () => {
      assert.deepEqual(await triesOf(base, pattern, ids), [last, tries]);
    });
  }
});

Deno.test("langgraph: a message that did not reach its thread is sent again", async () => {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const { port } = listener.addr;
  listener.close();
  assert.deepEqual(await triesOf(`http://127.0.0.1:${port}`, "plain", THREAD), ["unavailable", 2]);
});

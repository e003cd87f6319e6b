/** Where a run is asked for. */
import assert from "node:assert/strict";
import { LangGraph } from "../../../src/backend/langgraph/langgraph.ts";
import { requestFor } from "../../support/answers.ts";

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

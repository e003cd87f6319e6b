/** What is kept of a request once its answer has begun: a conversation may be large, and an answer long. */
import assert from "node:assert/strict";
import { turn } from "../support/answers.ts";
import { collected } from "../support/collected.ts";
import { fakeWorker, type ScriptedAnswer, ScriptedBackend } from "../support/connections.ts";

Deno.test("a client's request is let go of while its answer goes on", async () => {
  const { ask } = fakeWorker();
  const [, answer] = await ask();
  answer.emit("a");
  await turn();
  assert.ok(await collected(answer.letGo()));
  answer.end();
  await turn();
});

Deno.test("fallback: the request is let go of with the first event, and where nobody else is left to ask", async () => {
  const b = new ScriptedBackend("b");
  const { ask } = fakeWorker({
    config: { fallback: ["b"], fallbackAfterMs: 1000 },
    others: [{ backend: b }],
  });
  const [, first] = await ask();
  first.emit("a");
  await turn();
  assert.ok(await collected(first.letGo()), "one that answers");
  const [, second] = await ask();
  second.fail("unavailable");
  await turn();
  const last = b.answers.at(-1) as ScriptedAnswer;
  second.letGo();
  assert.ok(await collected(last.letGo()), "one that comes last");
  first.end();
  last.end();
  await turn();
});

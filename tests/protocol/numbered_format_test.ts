/** Events with ids. */
import assert from "node:assert/strict";
import { AiSdkFormat } from "../../src/protocol/formats/ai_sdk.ts";
import { ContentFormat } from "../../src/protocol/formats/content.ts";
import { NumberedFormat } from "../../src/protocol/formats/numbered.ts";

Deno.test("each event has the next number, the first one says when to connect anew", () => {
  const format = new NumberedFormat(null);
  assert.equal(format.headers, "");
  assert.equal(format.text("a\n\nb"), 'retry: 1000\nid: 1\ndata: {"content":"a\\n\\nb"}\n\n');
  assert.equal(format.text("c"), 'id: 2\ndata: {"content":"c"}\n\n');
  assert.equal(format.end(), "id: 3\ndata: [DONE]\n\n");
});

Deno.test("what has no bytes has no number", () => {
  const format = new NumberedFormat(new ContentFormat(["finish"]));
  assert.equal(format.further({ kind: "usage", inputTokens: 1, outputTokens: 1 }), "");
  assert.equal(
    format.further({ kind: "finish", reason: "stop" }),
    'retry: 1000\nid: 1\nevent: finish\ndata: {"finish":"stop"}\n\n',
  );
  assert.equal(
    format.failure("shutdown", "Server is shutting down"),
    'id: 2\ndata: {"error":"Server is shutting down"}\n\n',
  );
});

Deno.test("of several events that come together each has its own", () => {
  const format = new NumberedFormat(new AiSdkFormat([]));
  assert.equal(format.headers, "x-vercel-ai-ui-message-stream: v1\r\n");
  const events = (format.text("a") + format.text("b")).split("\n\n");
  assert.deepEqual(events.map((event) => event.split("\n").slice(0, -1).join("|")), [
    "retry: 1000|id: 1",
    "id: 2",
    "id: 3",
    "id: 4",
    "id: 5",
    "",
  ]);
  assert.match(events[2] as string, /^id: 3\ndata: {"type":"text-start"/);
});

Deno.test("a stop is an abort and no error in ai-sdk", () => {
  const format = new AiSdkFormat([]);
  format.text("a");
  assert.equal(format.failure("stopped", "Stopped"), 'data: {"type":"abort"}\n\n');
});

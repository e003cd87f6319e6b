import assert from "node:assert/strict";
import { DONE_EVENT, errorEvent, textEvent } from "../../src/protocol/formats/content.ts";

Deno.test("the event of a text", () => assert.equal(textEvent("Hi"), 'data: {"content":"Hi"}\n\n'));

Deno.test("no text can break the framing", () => {
  const event = textEvent('a\r\nb\n\ndata: x\0"\\\u2028');
  assert.equal(event, 'data: {"content":"a\\r\\nb\\n\\ndata: x\\u0000\\"\\\\\u2028"}\n\n');
  assert.equal(event.indexOf("\n"), event.length - 2);
});

Deno.test("half of a surrogate pair is escaped, so that the bytes stay UTF-8", () => {
  assert.equal(textEvent("\ud83d"), 'data: {"content":"\\ud83d"}\n\n');
});

Deno.test("the event of a failure", () => assert.equal(errorEvent("no"), 'data: {"error":"no"}\n\n'));

Deno.test("the last event", () => assert.equal(DONE_EVENT, "data: [DONE]\n\n"));

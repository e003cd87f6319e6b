/** The fields of a handoff about a stream with an id. */
import assert from "node:assert/strict";
import { HandoffRequestError } from "../../src/errors.ts";
import { streamChoice } from "../../src/protocol/stream_choice.ts";

Deno.test("without stream_id and action the other fields say nothing, whatever they are", () => {
  for (const fields of [{}, { last_event_id: {}, on_disconnect: 7 }, { stream_id: null, action: null }]) {
    assert.equal(streamChoice(fields), undefined);
  }
});

Deno.test("an id alone: cancelled as today, no event to go on after", () => {
  const expected = { id: "a-Z_0.~:", continues: false, stops: false };
  assert.deepEqual(streamChoice({ stream_id: "a-Z_0.~:" }), expected);
  assert.deepEqual(streamChoice({ stream_id: "a-Z_0.~:", last_event_id: "", on_disconnect: null }), expected);
});

Deno.test("the last event's id is a number, as text or not", () => {
  for (const [value, number] of [["0", 0], ["17", 17], [17, 17], ["999999999999999", 999999999999999]]) {
    assert.equal(streamChoice({ stream_id: "s", last_event_id: value })?.lastEventId, number);
  }
});

Deno.test("on_disconnect and action", () => {
  assert.equal(streamChoice({ stream_id: "s", on_disconnect: "continue" })?.continues, true);
  assert.equal(streamChoice({ stream_id: "s", on_disconnect: "cancel" })?.continues, false);
  assert.equal(streamChoice({ stream_id: "s", action: "stop" })?.stops, true);
});

Deno.test("what is not as it should be is named, with what is expected", () => {
  const id = { stream_id: "s" };
  const cases: readonly (readonly [Record<string, unknown>, RegExp])[] = [
    [{ stream_id: "" }, /^Field "stream_id" is not 1 to 128 /],
    [{ stream_id: "x".repeat(129) }, /^Field "stream_id"/],
    [{ stream_id: "a b" }, /^Field "stream_id"/],
    [{ stream_id: "a\n" }, /^Field "stream_id"/],
    [{ stream_id: 7 }, /^Field "stream_id"/],
    [{ action: "stop" }, /^Field "stream_id"/],
    [{ ...id, action: "go" }, /^Field "action" is not "stop"/],
    [{ ...id, on_disconnect: "stay" }, /^Field "on_disconnect" is not "cancel" or "continue"/],
    [{ ...id, last_event_id: "-1" }, /^Field "last_event_id" is not the id of an event/],
    [{ ...id, last_event_id: "1\n" }, /^Field "last_event_id"/],
    [{ ...id, last_event_id: 1.5 }, /^Field "last_event_id"/],
    [{ ...id, last_event_id: ["1"] }, /^Field "last_event_id"/],
    [{ ...id, last_event_id: "1".repeat(16) }, /^Field "last_event_id"/],
  ];
  for (const [fields, message] of cases) {
    assert.throws(() => streamChoice(fields), (error) => {
      assert(error instanceof HandoffRequestError);
      assert.match(error.message, message);
      return true;
    });
  }
});

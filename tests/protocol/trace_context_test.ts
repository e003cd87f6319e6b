import assert from "node:assert/strict";
import { parseTraceparent } from "../../src/protocol/trace_context.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const SPAN = "b7ad6b7169203331";

Deno.test("traceparent: the trace, the span, and whether it is sampled", () => {
  assert.deepEqual(parseTraceparent(`00-${TRACE}-${SPAN}-01`), {
    traceId: TRACE,
    spanId: SPAN,
    sampled: true,
  });
  assert.equal(parseTraceparent(`00-${TRACE}-${SPAN}-00`)?.sampled, false);
  assert.equal(parseTraceparent(`00-${TRACE}-${SPAN}-fe`)?.sampled, false); // other bits are to be ignored
  assert.equal(parseTraceparent(`00-${TRACE}-${SPAN}-03`)?.sampled, true);
});

Deno.test("traceparent: a later version is read as far as it is known", () => {
  assert.equal(parseTraceparent(`01-${TRACE}-${SPAN}-01`)?.traceId, TRACE);
  assert.equal(parseTraceparent(`cc-${TRACE}-${SPAN}-01-what-the-future-will-be`)?.spanId, SPAN);
});

Deno.test("traceparent: what does not hold is nothing", () => {
  for (
    const value of [
      "",
      "x",
      `ff-${TRACE}-${SPAN}-01`, // no version may be ff
      `00-${TRACE}-${SPAN}-01-more`, // version 00 has no more
      `01-${TRACE}-${SPAN}-01more`,
      `01-${TRACE}-${SPAN}-011`,
      `00-${"0".repeat(32)}-${SPAN}-01`,
      `00-${TRACE}-${"0".repeat(16)}-01`,
      `00-${TRACE.toUpperCase()}-${SPAN}-01`,
      `00-${TRACE.slice(1)}-${SPAN}-01`,
      `00-${TRACE}-${SPAN}0-01`,
      `00-${TRACE}-${SPAN}-1`,
      `00-${TRACE}-${SPAN}`,
      `0-${TRACE}-${SPAN}-01`,
      ` 00-${TRACE}-${SPAN}-01`,
      `00-${TRACE}-${SPAN}-01\n`,
    ]
  ) assert.equal(parseTraceparent(value), undefined, value);
});

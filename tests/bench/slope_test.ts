import assert from "node:assert/strict";
import { slope } from "../../bench/slope.ts";

Deno.test("a line's slope has no error", () => {
  const { value, error } = slope([[0, 1], [1, 3], [2, 5], [3, 7]]);
  assert(Math.abs(value - 2) < 1e-12 && error < 1e-12, `${value} ± ${error}`);
});

Deno.test("what scatters about a level has a slope within its error", () => {
  // Worked out by hand: means 1.5 and 1, sums of squares 5 and of products 2, the rest 3.2.
  const { value, error } = slope([[0, 0], [1, 2], [2, 0], [3, 2]]);
  assert(Math.abs(value - 0.4) < 1e-12, `${value}`);
  assert(Math.abs(error - Math.sqrt(3.2 / 2 / 5)) < 1e-12, `${error}`);
});

Deno.test("two points are no series", () => {
  assert.throws(() => slope([[0, 0], [1, 1]]), /2 points: expected three or more/);
});

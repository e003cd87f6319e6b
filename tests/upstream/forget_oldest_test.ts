import assert from "node:assert/strict";
import { forgetOldest } from "../../src/upstream/forget_oldest.ts";

Deno.test("what came first is forgotten, and no more than that, of a map as of a set", () => {
  const map = new Map<string, number>();
  const set = new Set<string>();
  for (const name of ["a", "b", "a", "c", "d"]) {
    map.set(name, 1);
    set.add(name);
    forgetOldest(map, 3);
    forgetOldest(set, 3);
  }
  assert.deepEqual([...map.keys()], ["b", "c", "d"]);
  assert.deepEqual([...set], ["b", "c", "d"]);
});

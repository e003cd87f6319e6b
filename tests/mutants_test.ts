/** The list of faults of `deno task mutants` fits the code that it is about. */
import assert from "node:assert/strict";
import { type Fault, withFault } from "../tools/mutants/fault.ts";
import { FAULTS } from "../tools/mutants/faults/mod.ts";

const ROOT = new URL("../", import.meta.url);
const faults = FAULTS.flatMap(({ faults }) => faults);

Deno.test("each fault's text is in its file once, and replaced by another", () => {
  for (const { file, faults } of FAULTS) {
    const source = Deno.readTextFileSync(new URL(file, ROOT));
    for (const fault of faults) assert.notEqual(withFault(source, fault, file), source, fault.id);
  }
});

Deno.test("a text that is gone, or is there twice, is an error that says what to do", () => {
  const fault: Fault = { id: "it", text: "a", instead: "b" };
  assert.equal(withFault("cad", fault, "x.ts"), "cbd");
  for (const [source, count] of [["", 0], ["aa", 2]] as const) {
    assert.throws(
      () => withFault(source, fault, "x.ts"),
      new RegExp(
        `^Error: fault it: its text occurs ${count} times in x\\.ts; expected once\\. .*tools/mutants/`,
      ),
    );
  }
});

Deno.test("each fault has an id of its own, and tests that exist", () => {
  assert(faults.length >= 130, `${faults.length} faults`);
  const ids = faults.map(({ id }) => id);
  assert.deepEqual(ids.filter((id, index) => ids.indexOf(id) !== index), []);
  for (const { id, tests = [], cargo = [] } of faults) {
    assert(tests.length + cargo.length > 0, id);
    for (const name of tests) assert(Deno.statSync(new URL(`tests/${name}`, ROOT)).isFile);
    for (const name of cargo) {
      if (name !== "lib") assert(Deno.statSync(new URL(`shim/tests/${name}.rs`, ROOT)).isFile);
    }
  }
});

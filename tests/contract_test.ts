/** The table of tests/README.md: who holds what others rely on. */
import assert from "node:assert/strict";

const ROOT = new URL("../", import.meta.url);
const ROW = /^\| .+ \| +`([^`]+)` +\| +`(.+)` +\|$/;

const rows = Deno.readTextFileSync(new URL("tests/README.md", ROOT)).split("\n")
  .filter((line) => line.startsWith("| ") && !/^\| (clause|-)/.test(line));

Deno.test("tests/README.md: each row names a file and a test", () => {
  assert.deepEqual(rows.filter((row) => !ROW.test(row)), []);
  assert(rows.length > 70, `${rows.length} rows`);
});

Deno.test("tests/README.md: each test that is named exists", () => {
  const missing = rows.filter((row) => {
    const [, file = "", name = ""] = ROW.exec(row) ?? [];
    const source = Deno.readTextFileSync(new URL(file, ROOT));
    const names = file.endsWith(".rs") ? [`fn ${name}(`] : [`"${name}"`, `\`${name}\``];
    return !names.some((each) => source.includes(each));
  });
  assert.deepEqual(missing, []);
});

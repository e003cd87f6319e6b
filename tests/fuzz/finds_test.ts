/** A short run of the fuzzer, and what longer runs have found. */
import { fuzz } from "./fuzz.ts";
import { TARGETS } from "./targets.ts";

const SHORT = 500;

for (const name of Object.keys(TARGETS)) {
  Deno.test(`fuzz: ${name}, ${SHORT} inputs`, async () => await fuzz(name, SHORT, 1));
}

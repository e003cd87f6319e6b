import assert from "node:assert/strict";
import { TextTemplate } from "../../../src/backend/http/text_template.ts";
import { randomInts } from "../../support/random.ts";

const contentOf = (chunk: unknown): unknown => (chunk as { c?: unknown }).c;

function learned(data: string, content: string): TextTemplate {
  const template = new TextTemplate();
  template.learn(data, content, contentOf);
  return template;
}

Deno.test("text template: another plain text in the same chunk needs no parsing", () => {
  const template = learned('{"id": 1, "c": "one", "f":null}', "one");
  assert.equal(template.match('{"id": 1, "c": "Grüße 🌍", "f":null}'), "Grüße 🌍");
  assert.equal(template.match('{"id": 1, "c": "", "f":null}'), "");
});

Deno.test("text template: whatever is not the same, or not plain, is parsed", () => {
  const template = learned('{"id":1,"c":"one","f":null}', "one");
  for (
    const data of [
      '{"id":2,"c":"two","f":null}',
      '{"id":1,"c":"two","f":"stop"}',
      '{"id":1,"c":"a\\n","f":null}',
      '{"id":1,"c":"a","c":"b","f":null}',
      '{"id":1,"c":"a\u0001","f":null}',
      '{"id":1,"c":"',
      "",
    ]
  ) assert.equal(template.match(data), null, data);
  assert.equal(new TextTemplate().match(""), null);
});

Deno.test("text template: the same words elsewhere in the chunk are not taken for the text", () => {
  assert.equal(learned('{"c":"one","model":"one"}', "one").match('{"c":"one","model":"two"}'), null);
  assert.equal(learned('{"c":"c","x":{"c":1}}', "c").match('{"c":"c","x":{"d":1}}'), null);
  assert.equal(learned('{"c":"a\\u0062"}', "ab").match('{"c":"x"}'), null);
  assert.equal(learned('{"c":"a\\u0062","m":"ab"}', "ab").match('{"c":"a\\u0062","m":"x"}'), null);
});

Deno.test("text template: it says what JSON.parse says, or nothing", () => {
  const random = randomInts(3);
  const parts = ["a", '\\"', "\\\\", '"', ",", ":", "c", "{", "}", "é", "\\u00e9", "\\n", " "];
  const template = learned('{"a":[1],"c":"x","b":"c"}', "x");
  let matched = 0;
  for (let round = 0; round < 20_000; round++) {
    const data = `{"a":[1],"c":"${
      Array.from({ length: random(5) }, () => parts[random(parts.length)]).join("")
    }","b":"c"}`;
    const text = template.match(data);
    if (text === null) continue;
    matched++;
    assert.deepEqual(JSON.parse(data), { a: [1], c: text, b: "c" });
  }
  assert.ok(matched > 1_000);
});

import assert from "node:assert/strict";
import { BackendError } from "../../src/errors.ts";
import { decodeHead, encodeHead, type Field } from "../../src/upstream/h2/hpack.ts";
import { randomInts } from "../support/random.ts";

const bytes = (hex: string): Uint8Array =>
  Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));

Deno.test("hpack: the examples of RFC 7541 that use no dynamic table", () => {
  assert.deepEqual(decodeHead(bytes("400a637573746f6d2d6b65790d637573746f6d2d686561646572"), 1_000), [
    ["custom-key", "custom-header"],
  ]);
  assert.deepEqual(decodeHead(bytes("040c2f73616d706c652f70617468"), 1_000), [[":path", "/sample/path"]]);
  assert.deepEqual(decodeHead(bytes("100870617373776f726406736563726574"), 1_000), [["password", "secret"]]);
  assert.deepEqual(decodeHead(bytes("82"), 1_000), [[":method", "GET"]]);
  // C.4.1
  assert.deepEqual(decodeHead(bytes("828684418cf1e3c2e5f23a6ba0ab90f4ff"), 1_000), [
    [":method", "GET"],
    [":scheme", "http"],
    [":path", "/"],
    [":authority", "www.example.com"],
  ]);
  // The first response of C.6, its status by index 8's name.
  const date = "6196d07abe941054d444a8200595040b8166e082a62d1bff";
  assert.deepEqual(decodeHead(bytes(`48826402${"5885aec3771a4b"}${date}`), 1_000), [
    [":status", "302"],
    ["cache-control", "private"],
    ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
  ]);
});

Deno.test("hpack: what is encoded is decoded", () => {
  const all = String.fromCharCode(...Array.from({ length: 256 }, (_, i) => i));
  const fields: Field[] = [
    [":method", "POST"],
    [":scheme", "https"],
    [":path", "/v1/chat/completions"],
    ["authorization", "Bearer x"],
    ["x-long", "y".repeat(20_000)],
    ["x-all", all],
    ["", ""],
  ];
  assert.deepEqual(decodeHead(encodeHead(fields), 100_000), fields);
});

Deno.test("hpack: keys are never indexed", () => {
  assert.equal(encodeHead([["authorization", "Bearer x"]])[0], 0x1f);
  assert.equal(encodeHead([["accept", "x"]])[0], 0x0f);
});

const BROKEN: readonly [name: string, hex: string][] = [
  ["index 0", "80"],
  ["an index of the dynamic table, which is not there", "be"],
  ["a table that grows", "3fe11f"],
  ["an integer without an end", "ffffffffffffffffff"],
  ["an integer that is cut off", "7f"],
  ["a string that is cut off", "0003"],
  ["a string longer than the block", "000561"],
  ["padding of eight bits", "000161" + "82" + "1fff"],
  ["padding of zeros", "000161" + "81" + "18"],
  ["EOS", "000161" + "84" + "ffffffff"],
];
for (const [name, hex] of BROKEN) {
  Deno.test(`hpack: refuses ${name}`, () => {
    assert.throws(
      () => decodeHead(bytes(hex), 1_000),
      (error) => error instanceof BackendError && error.kind === "malformed",
    );
  });
}

Deno.test("hpack: a head is bounded, however short its block", () => {
  assert.throws(() => decodeHead(new Uint8Array(100).fill(0x90), 1_000), /longer than 1000 bytes/);
});

Deno.test("hpack: no bytes do more than be refused", () => {
  const random = randomInts(7);
  for (let round = 0; round < 20_000; round++) {
    const block = Uint8Array.from({ length: random(40) }, () => random(256));
    try {
      decodeHead(block, 10_000);
    } catch (error) {
      assert.ok(error instanceof BackendError, String(error));
    }
  }
});

import assert from "node:assert/strict";
import { ConnectionViolation } from "../../src/upstream/h2/frames.ts";
import { BlockReader, encodeHead } from "../../src/upstream/h2/hpack.ts";
import { decodeFields } from "../support/decode_fields.ts";
import { readResponseHead } from "../../src/upstream/h2/response_head.ts";
import type { Field } from "../../src/upstream/h2/static_table.ts";
import cases from "../support/h2_server/cases.json" with { type: "json" };
import { unhex } from "../support/h2_server/server.ts";

const bytes = (hex: string): Uint8Array => unhex(hex.replaceAll(" ", ""));

const REQUEST: Field[] = [
  [":method", "GET"],
  [":scheme", "http"],
  [":path", "/"],
  [":authority", "www.example.com"],
];
const REDIRECT: Field[] = [
  [":status", "302"],
  ["cache-control", "private"],
  ["date", "Mon, 21 Oct 2013 20:13:21 GMT"],
  ["location", "https://www.example.com"],
];

/** RFC 7541, appendix C.1; the bits before the prefix are whatever they are. */
const INTEGERS: readonly [name: string, hex: string, prefixBits: number, value: number][] = [
  ["C.1.1", "0a", 5, 10],
  ["C.1.1, bits before it set", "ea", 5, 10],
  ["C.1.2", "1f9a0a", 5, 1337],
  ["C.1.2, bits before it set", "ff9a0a", 5, 1337],
  ["C.1.3", "2a", 8, 42],
];
for (const [name, hex, prefixBits, value] of INTEGERS) {
  Deno.test(`hpack: ${name} is read`, () => {
    const reader = new BlockReader(bytes(hex));
    assert.deepEqual([reader.integer(prefixBits), reader.atEnd], [value, true]);
  });
}

/** RFC 7541, appendix C, what needs no dynamic table. */
const EXAMPLES: readonly [name: string, hex: string, fields: Field[]][] = [
  ["C.2.1", "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", [[
    "custom-key",
    "custom-header",
  ]]],
  ["C.2.2", "040c 2f73 616d 706c 652f 7061 7468", [[":path", "/sample/path"]]],
  ["C.2.3", "1008 7061 7373 776f 7264 0673 6563 7265 74", [["password", "secret"]]],
  ["C.2.4", "82", [[":method", "GET"]]],
  ["C.3.1", "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", REQUEST],
  ["C.4.1", "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", REQUEST],
  [
    "C.5.1",
    "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d " +
    "546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
    REDIRECT,
  ],
  [
    "C.6.1",
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 " +
    "8f0b 97c8 e9ae 82ae 43d3",
    REDIRECT,
  ],
  // The public story vectors' first: nghttp2's of story_00.
  ["story 00", "8286 4188 f439 ce75 c875 fa57 84", [
    [":method", "GET"],
    [":scheme", "http"],
    [":authority", "yahoo.co.jp"],
    [":path", "/"],
  ]],
];
for (const [name, hex, fields] of EXAMPLES) {
  Deno.test(`hpack: ${name} is decoded`, () => assert.deepEqual(decodeFields(bytes(hex)), fields));
}

Deno.test("hpack: the table's last entry is one, the next is none", () => {
  assert.deepEqual(decodeFields(bytes("bd")), [["www-authenticate", ""]]);
  assert.throws(() => decodeFields(bytes("be")), /index 62 is not in the table/);
});

/** The rest of it, which refers to a dynamic table: none was announced. */
const DYNAMIC: readonly [name: string, hex: string, message: string][] = [
  ["C.3.2", "8286 84be 5808 6e6f 2d63 6163 6865", "index 62 is not in the table"],
  [
    "C.3.3",
    "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    "index 63 is not in the table",
  ],
  ["C.4.2", "8286 84be 5886 a8eb 1064 9cbf", "index 62 is not in the table"],
  ["C.4.3", "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", "index 63 is not in the table"],
  ["C.5.2", "4803 3330 37c1 c0bf", "index 65 is not in the table"],
  [
    "C.5.3",
    "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0",
    "index 65 is not in the table",
  ],
  ["C.6.2", "4883 640e ffc1 c0bf", "index 65 is not in the table"],
  [
    "C.6.3",
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c0",
    "index 65 is not in the table",
  ],
];
const BROKEN: readonly [name: string, hex: string, message: string][] = [
  ...DYNAMIC,
  ["index 0", "80", "index 0 is not in the table"],
  ["an index of the dynamic table, which is not there", "be", "index 62 is not in the table"],
  ["a table that grows", "3fe11f", "a table larger than the one announced"],
  ["a change of the table's size within a block", "8820", "a change of the table's size within a block"],
  ["an integer without an end", "ffffffffffffffffff", "an integer is too large"],
  ["an integer that is cut off", "7f", "an integer is cut off"],
  ["a string that is cut off", "0003", "a string is cut off"],
  ["a string longer than the block", "000561", "a string is cut off"],
  ["a value longer than the block", "040561", "a string is cut off"],
  ["a value longer than the block, in the Huffman code", "048561", "a string is cut off"],
  ["padding of eight bits", "000161 82 1fff", "a string that is not in the Huffman code"],
  ["padding of zeros", "000161 81 18", "a string that is not in the Huffman code"],
  ["EOS", "000161 84 ffffffff", "a string that is not in the Huffman code"],
];
for (const [name, hex, message] of BROKEN) {
  Deno.test(`hpack: refuses ${name}`, () => {
    assert.throws(
      () => decodeFields(bytes(hex)),
      (error) =>
        error instanceof ConnectionViolation && error.code === 9 &&
        error.message === `a head with ${message}`,
    );
  });
}

Deno.test("hpack: the heads of another encoder, with and without Huffman code", () => {
  for (const { block, fields } of cases.heads) assert.deepEqual(decodeFields(bytes(block)), fields);
  assert.equal(cases.heads.length, 6);
});

Deno.test("hpack: of a real provider's head only what is read is decoded", () => {
  const [real] = cases.heads;
  assert.deepEqual(readResponseHead(bytes(real?.block ?? "")), {
    status: 200,
    contentLength: -1,
    fields: [
      ["content-type", "text/event-stream; charset=utf-8"],
    ],
  });
});

Deno.test("hpack: of a head, what says when to try again and what is wrong is read", () => {
  const fields: Field[] = [
    ["content-type", "text/html"],
    ["content-length", "0"],
    ["content-encoding", "br"],
    ["location", "/other"],
    ["retry-after", "1"],
    ["retry-after-ms", "500"],
    ["x-should-retry", "false"],
  ];
  const block = encodeHead([[":status", "429"], ["server", "x"], ...fields]);
  assert.deepEqual(readResponseHead(block), { status: 429, contentLength: 0, fields });
});

Deno.test("hpack: a value that nobody reads is not decoded: only one that is read has to be in the Huffman code", () => {
  const broken = "81 18"; // padding of zeros
  assert.deepEqual(readResponseHead(bytes(`88 0003 782d61 ${broken}`)), {
    status: 200,
    contentLength: -1,
    fields: [],
  });
  assert.throws(
    () => readResponseHead(bytes(`88 0008 6c6f 6361 7469 6f6e ${broken}`)), // location
    /a string that is not in the Huffman code/,
  );
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
  assert.deepEqual(decodeFields(encodeHead(fields)), fields);
});

Deno.test("hpack: keys are never indexed", () => {
  assert.equal(encodeHead([["authorization", "Bearer x"]])[0], 0x1f);
  assert.equal(encodeHead([["accept", "x"]])[0], 0x0f);
});

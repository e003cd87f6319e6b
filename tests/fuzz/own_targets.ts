/**
 * What is fuzzed besides a provider's bytes: what the site says in a handoff and in its configuration, and what the
 * daemon writes to browsers.
 */

import assert from "node:assert/strict";
import { allKeys, describeConfig, loadConfig } from "../../src/config/load.ts";
import { ConfigError, HandoffRequestError } from "../../src/errors.ts";
import { formatFor } from "../../src/protocol/formats/choose.ts";
import { parseHandoffRequest } from "../../src/protocol/handoff_request.ts";
import { RESPONSE_FORMATS } from "../../src/protocol/response_choice.ts";
import { SseEncoder } from "../../src/protocol/sse.ts";
import { SseParser } from "../../src/upstream/sse_parser.ts";
import { FakeRecipient } from "../support/fake_clients.ts";
import type { Target } from "./targets.ts";

const decoder = new TextDecoder();
const text = (each: string): Uint8Array => new TextEncoder().encode(each);

const HANDOFFS = [
  '{"prompt":"Hi","system":"Be kind","model":"gpt-4o","user_id":7,"max_tokens":5,"temperature":0.5,"request_id":"r-1"}',
  '{"messages":[{"role":"user","content":[{"type":"text","text":"你🌍"}]},{"role":"assistant","content":null,"tool_calls":[]}]}',
  '{"format":"openai","include":["usage","finish"],"request":{"seed":1,"tools":[]},"max_completion_tokens":9,"traceparent":"00-a"}',
  '{"response_headers":{"X-A":"b","Set-Cookie":["a=b","c=d"],"Link":"</x>; rel=preload"},"backend":"other"}',
  '{"stream_id":"a.b:c~1","last_event_id":"17","on_disconnect":"continue","thread_id":"t","run_id":"u","test_pattern":"x"}',
  '{"action":"stop","stream_id":"s"}',
].map(text);
const RULES = {
  model: "default",
  members: ["seed", "tools"],
  format: "content",
  include: [],
  backends: [
    { name: "default", model: "default", members: ["seed"], models: [], selectable: true },
    { name: "other", model: "o", members: ["tools"], models: ["gpt-"], selectable: true },
  ],
  makeRequestId: () => "made",
} as const;
const PRINTABLE = /^[\x20-\x7e]{1,128}$/;

/** Nothing but its error comes out, and nothing that would break a line where it becomes a header. */
function handoff(input: Uint8Array): void {
  let request;
  try {
    request = parseHandoffRequest(input, RULES);
  } catch (error) {
    assert.ok(error instanceof HandoffRequestError, String(error));
    assert.match(error.message, /^\P{Cc}{1,400}$/u);
    return;
  }
  assert.ok(request.messages.length > 0 && request.model !== "");
  const { requestId, threadId = "t", runId = "u", testPattern = "x", responseHeaders = "" } = request;
  for (const each of [requestId, threadId, runId, testPattern]) assert.match(each, PRINTABLE);
  assert.match(responseHeaders, /^([\w-]+: [\t\x20-\x7e]*\r\n)*$/);
}

/** Every key with its default. */
const CONFIGS = await Promise.all(
  ["", '[backends.other]\nprovider = "openai"\nopenai.api_base = "http://h/v1"\n'].map(async (toml) => (
    text(describeConfig(await loaded(toml)))
  )),
);

function loaded(toml: string): ReturnType<typeof loadConfig> {
  return loadConfig({ path: "f", env: () => undefined, readTextFile: () => Promise.resolve(toml) });
}

/** Nothing but its error comes out; and what it shows of itself (`--check`) means the same, read again. */
async function config(input: Uint8Array): Promise<void> {
  let all;
  try {
    all = await loaded(decoder.decode(input));
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    return;
  }
  if (
    allKeys(Object.keys(all.config.backends)).some(({ path, key }) =>
      key.secret && all.origins.get(path) !== "default"
    )
  ) {
    return; // is not shown
  }
  const shown = describeConfig(all);
  assert.equal(describeConfig({ ...await loaded(shown), origins: all.origins }), shown);
}

/** Whatever a model says, the browser's parser has it back, in as many events as there were pieces. */
function written(input: Uint8Array, random: (below: number) => number): void {
  const encoder = new SseEncoder();
  const said = decoder.decode(input);
  const middle = random(said.length + 1);
  const pieces = [said.slice(0, middle).toWellFormed(), said.slice(middle).toWellFormed()].filter((each) =>
    each !== ""
  );
  for (const format of RESPONSE_FORMATS) {
    const request = { requestId: "r", model: "m", format, include: [] };
    const recipient = Object.assign(new FakeRecipient(1), { format: formatFor(request, 0), headSent: true });
    const events: string[] = [];
    const parser = new SseParser({
      sse: (data) => void events.push(data),
      sseTooLong: () => assert.fail("too long"),
    }, 1_000_000);
    for (const piece of pieces) {
      const { data, dataBytes } = encoder.encode({
        recipients: [recipient],
        events: [{ kind: "text", text: piece }],
      });
      parser.push(data.slice(0, dataBytes));
    }
    const back = events.map((data) => contentOf(JSON.parse(data))).filter((each) =>
      each !== undefined && each !== ""
    );
    assert.deepEqual(back, pieces);
  }
}

/** A piece of the answer, in whichever format. */
// deno-lint-ignore no-explicit-any -- it is what JSON.parse gives
function contentOf(event: any): unknown {
  if (event.choices !== undefined) return event.choices[0].delta.content;
  return event.type === undefined ? event.content : event.type === "text-delta" ? event.delta : undefined;
}

const SAID = ["Hello\nworld\r\n\r\n", 'data: {"a":"b"}\n\nevent: x', "你🌍é\u2028\u0000", "[DONE]"].map(text);

/** By name. */
export const OWN_TARGETS: Readonly<Record<string, Target>> = {
  handoff: { corpus: HANDOFFS, share: 30_000, run: handoff },
  config: { corpus: CONFIGS, share: 1_000, run: config },
  written: { corpus: SAID, share: 19_000, run: written },
};

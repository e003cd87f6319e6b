/**
 * What is fuzzed: the readers of all that a provider sends, and {@linkcode OWN_TARGETS}. Each target throws if an input breaks a property:
 *
 * - nothing but the errors that a reader documents comes out of it;
 * - it tells the same whatever pieces the bytes come in;
 * - over a connection, each exchange hears one end and nothing after it.
 */

import assert from "node:assert/strict";
import { MessageReader } from "../../src/backend/anthropic/message_reader.ts";
import { RunReader } from "../../src/backend/langgraph/run_reader.ts";
import { AnswerReader } from "../../src/backend/openai/answer_reader.ts";
import { ResponseReader } from "../../src/backend/openai_responses/response_reader.ts";
import { BackendError } from "../../src/errors.ts";
import { Exchange } from "../../src/upstream/exchange.ts";
import { H1Parser } from "../../src/upstream/h1/parser.ts";
import { H2Connection } from "../../src/upstream/h2/connection.ts";
import { FrameReader } from "../../src/upstream/h2/frame_reader.ts";
import { ConnectionViolation } from "../../src/upstream/h2/frames.ts";
import { encodeHead } from "../../src/upstream/h2/hpack.ts";
import { decodeFields } from "../support/decode_fields.ts";
import { readResponseHead, readTrailers } from "../../src/upstream/h2/response_head.ts";
import { SseParser } from "../../src/upstream/sse_parser.ts";
import { FakeStream, settle } from "../support/fake_stream.ts";
import cases from "../support/h2_server/cases.json" with { type: "json" };
import { unhex } from "../support/h2_server/server.ts";
import { EVERYTHING, type ReaderClass } from "../support/heard_events.ts";
import { randomCuts } from "../support/random.ts";
import { OWN_TARGETS } from "./own_targets.ts";

type Random = (below: number) => number;

/** See the module. */
export interface Target {
  readonly corpus: readonly Uint8Array[];
  /** How many of a million inputs it gets. */
  readonly share: number;
  run(input: Uint8Array, random: Random): void | Promise<void>;
}

const text = (each: string): Uint8Array => new TextEncoder().encode(each);
const MAX_EVENT_BYTES = 300;

const FRAMES = cases.cases.filter(({ says }) => says.length === 1)
  .map(({ says }) => unhex(String(says[0]?.[0])).subarray(0, 2_048));
const OPENING = unhex(cases.opening);

const BLOCKS = [
  ...cases.heads.map(({ block }) => unhex(block)),
  encodeHead([[":status", "503"], ["retry-after", "5"], ["content-length", "12"], [
    "location",
    "https://x/y",
  ]]),
];

const H1 = [
  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nKeep-Alive: timeout=5, max=3\r\n\r\nhello",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n5;a=b\r\nhello\r\nA \r\n, world!!!\r\n0\r\nT: 1\r\n\r\n",
  "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\nHTTP/1.1 204 No\r\n\r\n",
  "HTTP/1.0 200 OK\r\nA: b\r\n c\r\nConnection: close\r\n\r\nuntil the end",
  "\r\nHTTP/1.1 429 Slow\r\nRetry-After: 5\r\ncontent-length: 0, 0\r\n\r\n",
].map(text);

const SSE = [
  'data: {"choices":[{"index":0,"delta":{"content":"Hello"},"finish_reason":null}]}\n\ndata: [DONE]\n\n',
  '\ufeffevent: error\r\ndata: {"error":{"message":"x"}}\r\n\r\n: comment\r\rdata\ndata: a\n\n',
  'data:{"choices":[{"delta":{"content":"\\ud83c"}}]}\n\ndata:{"choices":[{"delta":{"content":"\\udf0d"}}]}\n\n',
  'id: 1\nretry: 5\nevent\ndata: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n',
  'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: 你🌍é\n\n',
].map(text);

/** Of each kind of event one, which the mutations take apart. */
const ANTHROPIC = [
  'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":5,"output_tokens":1}}}\n\n',
  'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hel"}}\n\n' +
  'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83c"}}\n\n',
  'event: content_block_start\ndata: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"a","name":"f"}}\n\n' +
  'event: content_block_delta\ndata: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}\n\n',
  'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"citations_delta","citation":{"url":"https://a/"}}}\n\n',
  'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":3}}\n\nevent: message_stop\ndata: {"type":"message_stop"}\n\n',
  'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"x"}}\n\n',
].map(text);

const RESPONSES = [
  'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"Hel"}\n\n' +
  'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"\\ud83c"}\n\n',
  'event: response.output_item.added\ndata: {"type":"response.output_item.added","output_index":1,"item":{"type":"function_call","call_id":"a","name":"f"}}\n\n' +
  'event: response.function_call_arguments.delta\ndata: {"type":"response.function_call_arguments.delta","output_index":1,"delta":"{}"}\n\n',
  'event: response.output_text.annotation.added\ndata: {"type":"response.output_text.annotation.added","annotation":{"url":"https://a/"}}\n\n',
  'event: response.completed\ndata: {"type":"response.completed","response":{"usage":{"input_tokens":5,"output_tokens":3}}}\n\n',
  'event: response.incomplete\ndata: {"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}\n\n',
  'event: response.failed\ndata: {"type":"response.failed","response":{"error":{"code":"server_error","message":"x"}}}\n\n',
].map(text);

const LANGGRAPH = [
  'event: messages\ndata: [{"type":"AIMessageChunk","id":"a","content":"Hel"},{}]\n\n' +
  'event: messages\ndata: [{"type":"AIMessageChunk","id":"a","content":"\\ud83c"},{}]\n\n',
  'event: messages\ndata: [{"type":"AIMessageChunk","id":"b","tool_call_chunks":[{"id":"c","name":"f","args":"{}","index":0}]},{}]\n\n',
  'event: messages\ndata: [{"type":"ai","id":"c","content":[{"type":"text","text":"x"}],"usage_metadata":{"input_tokens":1}},{}]\n\n',
  'event: messages\ndata: [{"type":"AIMessageChunk","id":"a","response_metadata":{"finish_reason":"stop"}},{}]\n\nevent: end\ndata: null\n\n',
  'event: error\ndata: {"error":"E","message":"x"}\n\n',
].map(text);

/** What a run tells: its words, and the error that it ends with. */
function transcript(run: (say: (word: string) => void) => void, errors: (error: unknown) => boolean): string {
  const words: string[] = [];
  try {
    run((word) => words.push(word));
  } catch (error) {
    if (!errors(error)) throw error;
    words.push(String(error));
  }
  return words.join("\n");
}

const isViolation = (error: unknown): boolean => error instanceof ConnectionViolation;
const isMalformed = (error: unknown): boolean => error instanceof BackendError && error.kind === "malformed";

function frames(pieces: readonly Uint8Array[]): string {
  return transcript((say) => {
    const reader = new FrameReader({
      onData: (...[id, payload, flowBytes, end]) => say(`data ${id} ${payload.join()} ${flowBytes} ${end}`),
      onHead: (id, block, end) => say(`head ${id} ${block?.join()} ${end}`),
      onReset: (id, code) => say(`reset ${id} ${code}`),
      onSetting: (setting, value) => say(`setting ${setting} ${value}`),
      onSettingsEnd: () => say("settings"),
      onPing: (payload, ack) => say(`ping ${payload.join()} ${ack}`),
      onGoaway: (id, code, words) => say(`goaway ${id} ${code} ${words.join()}`),
      onWindow: (id, increment) => say(`window ${id} ${increment}`),
      onStreamViolation: (id, code, what) => say(`violation ${id} ${code} ${what}`),
    });
    let have = new Uint8Array(0);
    for (const piece of [OPENING, ...pieces]) {
      const all = new Uint8Array(have.length + piece.length);
      all.set(have);
      all.set(piece, have.length);
      have = all.slice(reader.read(all));
    }
    say(`${have.length} left`);
  }, isViolation);
}

function h1(pieces: readonly Uint8Array[]): string {
  let body = "";
  const words = transcript((say) => {
    const parser = new H1Parser({
      h1Head: (head) => say(JSON.stringify(head)),
      h1Data: (bytes) => body += `${bytes.join()},`,
      h1End: () => say("end"),
    });
    for (const piece of pieces) if (parser.push(piece) < piece.length) break;
    say(`closes ${parser.close()}`);
  }, isMalformed);
  return `${words}\n${body.replace(/,+/g, ",")}`;
}

function sse(pieces: readonly Uint8Array[]): string {
  return transcript((say) => {
    const parser = new SseParser({
      sse: (data, event) => say(`${event}: ${data}`),
      sseTooLong: () => say("too long"),
    }, MAX_EVENT_BYTES);
    for (const piece of pieces) parser.push(piece);
    say(`left ${parser.unfinished()}`);
  }, () => false);
}

function answerBy(Reader: ReaderClass): (pieces: readonly Uint8Array[]) => string {
  return (pieces) =>
    transcript((say) => {
      const reader = new Reader({
        event: (event) => {
          if (event.kind === "text") assert.ok(event.text !== "" && event.text.isWellFormed());
          say(JSON.stringify(event));
        },
        done: () => say("done"),
        failed: (error) => say(`${error.kind}: ${error.message}`),
      }, EVERYTHING);
      for (const piece of pieces) reader.push(piece);
      reader.end();
    }, () => false);
}

/** Plays the input to a connection with three requests under way. */
async function connection(input: Uint8Array, random: Random): Promise<void> {
  const peer = new FakeStream();
  const exchanges: { over: number; after: number }[] = [];
  const made = new H2Connection(peer, {
    changed: () => {},
    returned: (exchange, why) => exchange.fail(why),
    gone: () => {},
  }, 0);
  made.ready.catch(() => {});
  peer.feed(OPENING);
  await made.ready;
  for (let i = 0; i < 3; i++) {
    const seen = { over: 0, after: 0 };
    exchanges.push(seen);
    const hear = (): void => void (seen.after += seen.over);
    const request = {
      head: { method: "POST", url: new URL("http://h/"), headers: [] },
      headers: [],
      body: new Uint8Array(random(70_000)),
    };
    made.start(
      new Exchange(request, { head: hear, data: hear, end: () => seen.over++, fail: () => seen.over++ }),
    );
  }
  peer.feed(...randomCuts(input, random).filter(({ length }) => length > 0), null);
  await made.closed;
  await settle();
  assert.ok(peer.closed);
  assert.deepEqual(exchanges, Array(3).fill({ over: 1, after: 0 }));
}

/** A target whose reader takes pieces: it has to tell the same of any. */
function inPieces(read: (pieces: readonly Uint8Array[]) => string): Target["run"] {
  return (input, random) => assert.equal(read(randomCuts(input, random)), read([input]));
}

/** By name. */
export const TARGETS: Readonly<Record<string, Target>> = {
  frames: { corpus: FRAMES, share: 200_000, run: inPieces(frames) },
  hpack: {
    corpus: BLOCKS,
    share: 300_000,
    run(input) {
      const all = transcript((say) => say(JSON.stringify(decodeFields(input))), isViolation);
      const head = transcript((say) => say(JSON.stringify(readResponseHead(input))), isViolation);
      transcript((say) => say(`${readTrailers(input)}`), isViolation);
      // What reads less may miss an error in what it does not read, but invents none.
      if (head.startsWith("ConnectionViolation")) {
        assert.match(all, /^ConnectionViolation|\nConnectionViolation/);
      }
    },
  },
  h1: { corpus: H1, share: 200_000, run: inPieces(h1) },
  sse: { corpus: SSE, share: 150_000, run: inPieces(sse) },
  answer: { corpus: SSE, share: 25_000, run: inPieces(answerBy(AnswerReader)) },
  anthropic: { corpus: ANTHROPIC, share: 20_000, run: inPieces(answerBy(MessageReader)) },
  responses: { corpus: RESPONSES, share: 25_000, run: inPieces(answerBy(ResponseReader)) },
  langgraph: { corpus: LANGGRAPH, share: 20_000, run: inPieces(answerBy(RunReader)) },
  connection: { corpus: FRAMES, share: 10_000, run: connection },
  ...OWN_TARGETS,
};

/** What a reader of a provider's stream tells, in a short form. */
import assert from "node:assert/strict";
import type { AnswerListener, BodyReader, Wanted } from "../../src/backend/http/dialect.ts";
import { randomCuts, randomInts } from "./random.ts";

const encoder = new TextEncoder();

/** All that can be wanted of an answer whose chunks are not chat completions. */
export const EVERYTHING: Wanted = {
  reasoning: true,
  toolCalls: true,
  sources: true,
  chunks: false,
  counts: true,
};

/** A reader of some provider. */
export type ReaderClass = new (listener: AnswerListener, wanted: Wanted) => BodyReader;

/** The events, with how it ended: `done` or the error's kind and message. */
export function heardOf(
  Reader: ReaderClass,
  pieces: readonly (string | Uint8Array)[],
  wanted: Wanted = EVERYTHING,
): string[] {
  const heard: string[] = [];
  const reader = new Reader({
    event: (event) => {
      if (event.kind === "text") {
        assert(event.text !== "" && event.text.isWellFormed());
        heard.push(event.text);
      } else if (event.kind === "usage") heard.push(`<usage ${event.inputTokens} ${event.outputTokens}>`);
      else if (event.kind === "finish") heard.push(`<finish ${event.reason}>`);
      else if (event.kind === "reasoning") heard.push(`<reasoning ${event.text}>`);
      else if (event.kind === "source") heard.push(`<source ${event.url} ${event.title}>`);
      else if (event.kind === "chunk") heard.push(event.data);
      else if (event.kind === "tool_call") {
        const { index, id = "-", name = "-", arguments: piece, custom } = event;
        heard.push(`<${custom ? "custom " : ""}call ${index} ${id} ${name} ${piece}>`);
      } else heard.push(`<${event.kind}>`);
    },
    done: () => heard.push("<done>"),
    failed: (error) => heard.push(`<${error.kind}: ${error.message}>`),
  }, wanted);
  for (const piece of pieces) reader.push(typeof piece === "string" ? encoder.encode(piece) : piece);
  reader.end();
  return heard;
}

/** Asserts that a stream tells the same when it is cut in two at each byte, and at some of them. */
export function sameWhereverCut(Reader: ReaderClass, stream: string): void {
  const whole = heardOf(Reader, [stream]);
  const bytes = encoder.encode(stream);
  for (let at = 0; at <= bytes.length; at++) {
    assert.deepEqual(heardOf(Reader, [bytes.subarray(0, at), bytes.subarray(at)]), whole, `cut at ${at}`);
  }
  assert.deepEqual(heardOf(Reader, [...bytes].map((byte) => new Uint8Array([byte]))), whole, "byte by byte");
  const random = randomInts(1);
  for (let time = 0; time < 200; time++) {
    assert.deepEqual(heardOf(Reader, randomCuts(bytes, random)), whole, `cut at random, ${time}`);
  }
}

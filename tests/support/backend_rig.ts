/** The OpenAI backend in front of the stand-in provider. */

import { type OpenAiBackend, openaiBackend, type OpenAiOptions } from "../../src/backend/openai/openai.ts";
import type { BackendRequest, StreamEvent } from "../../src/backend/backend.ts";
import { BackendError } from "../../src/errors.ts";
import {
  type Certificate,
  makeCertificate,
  type MockLlm,
  mockLlm,
  type MockLlmOptions,
  type MockProtocol,
} from "./mock_llm.ts";
import { openaiOptions } from "./openai_options.ts";

let made: Promise<Certificate> | null = null;
/** One certificate for all tests of a run. */
export const certificate = (): Promise<Certificate> => made ??= makeCertificate();

let ids = 0;

/** @returns a request whose id no other has */
export function ask(testPattern: string, set: Partial<BackendRequest> = {}): BackendRequest {
  const requestId = `request-${++ids}`;
  return { requestId, messages: [{ role: "user", content: "Hello" }], model: "gpt-4o", testPattern, ...set };
}

/** Never aborts. */
export const noAbort = (): AbortSignal => new AbortController().signal;

/** The stand-in and a backend that asks it. */
export interface BackendRig extends AsyncDisposable {
  readonly mock: MockLlm;
  readonly backend: OpenAiBackend;
}

/** Starts both; both are closed, and everything is given back, when the rig is disposed of. */
export async function backendRig(
  mockOptions: MockLlmOptions,
  set: Partial<OpenAiOptions> = {},
): Promise<BackendRig> {
  const secure = mockOptions.protocol === "h2" || mockOptions.protocol === "h1s";
  const pem = secure ? await certificate() : null;
  const mock = await mockLlm(pem === null ? mockOptions : { certificate: pem, ...mockOptions });
  const caFile = pem === null ? "" : await Deno.makeTempFile();
  if (pem !== null) await Deno.writeTextFile(caFile, pem.cert);
  let backend: OpenAiBackend;
  try {
    backend = openaiBackend(openaiOptions({ apiBase: mock.base, caFile, ...set }));
  } finally {
    if (caFile !== "") await Deno.remove(caFile);
  }
  return {
    mock,
    backend,
    async [Symbol.asyncDispose](): Promise<void> {
      await backend.close();
      await mock.close();
    },
  };
}

/** The protocols over which each behaviour is to be the same. */
export const PROTOCOLS: readonly MockProtocol[] = ["h1", "h2c", "h2"];

/** Reads to the end. @returns the events in a short form; an error as its kind and message */
export async function heard(stream: ReadableStream<StreamEvent>): Promise<string[]> {
  const all: string[] = [];
  try {
    for await (const event of stream) all.push(brief(event));
    all.push("end");
  } catch (error) {
    if (!(error instanceof BackendError)) throw error;
    all.push(`${error.kind}: ${error.message}`);
  }
  return all;
}

/** What {@linkcode heard} makes of the answer to the pattern `plain`. */
export const HELLO = [
  "open",
  '"word0 "',
  '"word1 "',
  '"word2 "',
  '"word3 "',
  '"word4 "',
  "finish stop",
  "usage 7 5",
  "end",
];

/** @returns an event in a short form */
export function brief(event: StreamEvent): string {
  if (event.kind === "text") return `"${event.text}"`;
  if (event.kind === "finish") return `finish ${event.reason}`;
  return event.kind === "usage" ? `usage ${event.inputTokens} ${event.outputTokens}` : "open";
}

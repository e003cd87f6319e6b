/** The OpenAI backend in front of the stand-in provider. */

import type { Answer, BackendRequest, Recipient } from "../../src/backend/backend.ts";
import { HttpBackend } from "../../src/backend/http/http.ts";
import { OpenAi } from "../../src/backend/openai/openai.ts";
import { readCaCerts } from "../../src/backend/http/options.ts";
import type { OpenAiOptions } from "../../src/backend/openai/options.ts";
import { requestTemplate } from "../../src/backend/openai/template.ts";
import type { ClientEvent } from "../../src/protocol/stream_event.ts";
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
  return {
    requestId,
    messages: [{ role: "user", content: "Hello" }],
    model: "gpt-4o",
    format: "content",
    include: [],
    testPattern,
    ...set,
  };
}

/** A backend made of these options. */
export async function makeOpenAi(set: Partial<OpenAiOptions>): Promise<HttpBackend> {
  const options = openaiOptions(set);
  const openAi = new OpenAi(options, await requestTemplate(options));
  const caCerts = readCaCerts(options.caFile, "backend.openai");
  return new HttpBackend(openAi, options, caCerts, IDLE_HOOKS);
}

/** Of a worker that does not listen. */
export const IDLE_HOOKS = { arrivals: { received() {} }, log: { debug() {} } };

/** One answer, and what is heard of it. */
export class Asked {
  answer!: Answer;
  /** The events so far in a short form, without `alive`; an error as its kind and message. */
  readonly heard: string[] = [];
  /** How many said nothing but that the provider is there. */
  alive = 0;
  #news = Promise.withResolvers<void>();

  /** Settles when so many events have been heard. */
  async until(count: number): Promise<void> {
    while (this.heard.length < count) await this.#news.promise;
  }

  /** All events, once the last has come. */
  async all(): Promise<string[]> {
    while (!/^(end$|\w+: )/.test(this.heard.at(-1) ?? "")) await this.#news.promise;
    return this.heard;
  }

  /** For {@linkcode Ears}. */
  hear(event: ClientEvent): void {
    if (event.kind === "alive") this.alive++;
    else this.heard.push(brief(event));
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }
}

/** Whoever listens to a backend's one stream. */
export class Ears {
  readonly #backend: HttpBackend;
  readonly #asked = new Map<Recipient, Asked>();
  /** Settles when the backend's stream has ended. */
  readonly ended: Promise<void>;

  constructor(backend: HttpBackend) {
    this.#backend = backend;
    this.ended = this.#listen();
  }

  /** Asks for an answer. */
  ask(request: BackendRequest): Asked {
    const asked = new Asked();
    const recipient = {} as Recipient; // only carried along
    this.#asked.set(recipient, asked);
    asked.answer = this.#backend.ask(request, recipient);
    return asked;
  }

  /** Asks, and hears all of the answer. */
  hear(request: BackendRequest): Promise<string[]> {
    return this.ask(request).all();
  }

  async #listen(): Promise<void> {
    for await (const { recipients, events } of this.#backend.events) {
      for (const [at, event] of events.entries()) this.#asked.get(recipients[at] as Recipient)?.hear(event);
    }
  }
}

/** The stand-in and a backend that asks it. */
export interface BackendRig extends AsyncDisposable {
  readonly mock: MockLlm;
  readonly backend: HttpBackend;
  readonly ears: Ears;
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
  let backend: HttpBackend;
  try {
    backend = await makeOpenAi({ apiBase: mock.base, caFile, ...set });
  } finally {
    if (caFile !== "") await Deno.remove(caFile);
  }
  const ears = new Ears(backend);
  return {
    mock,
    backend,
    ears,
    async [Symbol.asyncDispose](): Promise<void> {
      await backend.close();
      await ears.ended;
      await mock.close();
    },
  };
}

/** The protocols over which each behaviour is to be the same. */
export const PROTOCOLS: readonly MockProtocol[] = ["h1", "h2c", "h2"];

/** What is heard of the answer to the pattern `plain`. */
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
function brief(event: ClientEvent): string {
  switch (event.kind) {
    case "text":
      return `"${event.text}"`;
    case "finish":
      return `finish ${event.reason}`;
    case "usage":
      return `usage ${event.inputTokens} ${event.outputTokens}`;
    case "error":
      return `${event.error.kind}: ${event.error.message}`;
    default:
      return event.kind;
  }
}

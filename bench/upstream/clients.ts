/**
 * The ways to speak HTTP/2 to a provider from Deno, each reduced to what it costs: N requests at once, every event
 * counted, at most 100 streams on a connection.
 * @module
 */
import http2 from "node:http2";
import type { Readable, Writable } from "node:stream";
import type { Recipient } from "../../src/backend/backend.ts";
import { Pool } from "../../src/upstream/pool.ts";
import { makeOpenAi } from "../../tests/support/backend_rig.ts";

/** The provider, and how many requests. */
export interface Load {
  /** `https://localhost:<port>` or `http://127.0.0.1:<port>`. */
  readonly base: string;
  /** PEM, and the file it is in; empty without TLS. */
  readonly ca: string;
  readonly caFile: string;
  readonly streams: number;
  /** Called with each answer's head, */
  readonly onFirst: () => void;
  /** each of its pieces, */
  readonly onPiece: (events: number) => void;
  /** and its end. */
  readonly onLast: () => void;
}

const PATH = "/v1/chat/completions";
const MESSAGES = [{ role: "user", content: "hello" }];
const BODY = JSON.stringify({ model: "m", messages: MESSAGES, stream: true });
const HEADERS = {
  "content-type": "application/json",
  "authorization": "Bearer bench",
  "x-request-id": "bench",
};

function countLines(bytes: Uint8Array): number {
  let lines = 0;
  for (let at = bytes.indexOf(10); at >= 0; at = bytes.indexOf(10, at + 1)) lines++;
  return lines / 2;
}

async function nodeHttp2({ base, ca, streams, onPiece, onFirst, onLast }: Load): Promise<void> {
  const sessions: http2.ClientHttp2Session[] = [];
  const answers: Promise<void>[] = [];
  for (let i = 0; i < streams; i++) {
    if (i % 100 === 0) {
      const session = http2.connect(base, { ca });
      await new Promise((resolve) => session.once("connect", resolve));
      sessions.push(session);
    }
    const stream = (sessions.at(-1) as http2.ClientHttp2Session)
      .request({ ":method": "POST", ":path": PATH, ...HEADERS });
    answers.push(
      new Promise<void>((resolve, reject) => {
        stream.once("response", onFirst);
        stream.on("data", (bytes: Uint8Array) => onPiece(countLines(bytes)));
        stream.once("end", resolve);
        stream.once("error", reject);
      }).then(onLast),
    );
    stream.end(BODY);
  }
  await Promise.all(answers);
  for (const session of sessions) session.destroy();
}

/** One connection only. */
async function fetchByob({ base, ca, streams, onPiece, onFirst, onLast }: Load): Promise<void> {
  const client = Deno.createHttpClient({ http1: false, caCerts: ca === "" ? [] : [ca] });
  await Promise.all(Array.from({ length: streams }, async () => {
    const response = await fetch(base + PATH, { method: "POST", headers: HEADERS, body: BODY, client });
    onFirst();
    const reader = response.body?.getReader({ mode: "byob" });
    if (reader === undefined) throw new Error("no body");
    let view = new Uint8Array(2_048);
    for (;;) {
      const { value, done } = await reader.read(view);
      if (done) return onLast();
      onPiece(countLines(value));
      view = new Uint8Array(value.buffer);
    }
  }));
  client.close();
}

async function ownPool({ base, ca, streams, onPiece, onFirst, onLast }: Load): Promise<void> {
  const pool = new Pool({
    http2: true,
    socketPath: null,
    insecure: false,
    caCerts: ca === "" ? [] : [ca],
    maxIdlePerHost: 100,
    idleTimeoutMs: 90_000,
    pingIntervalMs: 30_000,
    connectTimeoutMs: 10_000,
    proxy: {},
  });
  const body = new TextEncoder().encode(BODY);
  const head = { method: "POST", url: new URL(base + PATH), headers: Object.entries(HEADERS) };
  await Promise.all(Array.from({ length: streams }, () =>
    new Promise<void>((resolve, reject) => {
      pool.request({ head, headers: [], body }, {
        head: onFirst,
        data: (bytes) => onPiece(countLines(bytes)),
        end: resolve,
        fail: reject,
      });
    }).then(onLast)));
  await pool.close();
}

async function backend({ base, caFile, streams, onPiece, onFirst, onLast }: Load): Promise<void> {
  const openai = await makeOpenAi({ apiKey: "bench", apiBase: `${base}/v1`, caFile, maxRetries: 0 });
  const left = Promise.withResolvers<void>();
  let running = streams;
  const request = {
    requestId: "bench",
    messages: MESSAGES,
    model: "m",
    format: "content" as const,
    include: [],
  };
  for (let i = 0; i < streams; i++) openai.ask(request, {} as Recipient); // which are only carried along
  for await (const { events } of openai.events) {
    for (const { kind } of events) {
      if (kind === "open") onFirst();
      else if (kind === "text") onPiece(1);
      else if (kind === "end" && (onLast(), --running === 0)) left.resolve(openai.close());
    }
  }
  await left.promise;
}

/**
 * Packages that the daemon does without. They are in no import that can be seen before it is their turn: `npm:openai`
 * would take `npm:undici` for its optional peer, and both would be in the daemon's lock file.
 */
const PACKAGES = { undici: "npm:undici@8.12.4", http2Wrapper: "npm:http2-wrapper@2.2.4" } as const;

/** What is used of them. */
interface Undici {
  readonly Agent: new (options: object) => { destroy(): Promise<void> };
  request(url: string, options: object): Promise<{ readonly body: AsyncIterable<Uint8Array> }>;
}
interface Http2Wrapper {
  readonly Agent: new () => { destroy(): void };
  request(url: string, options: object, onResponse: (response: Readable) => void): Writable;
}

/** `npm:undici`, whose agent opens further connections at a server's limit. */
async function undici({ base, ca, streams, onPiece, onFirst, onLast }: Load): Promise<void> {
  const { Agent, request }: Undici = await import(PACKAGES.undici);
  const dispatcher = new Agent({
    allowH2: true,
    headersTimeout: 0,
    bodyTimeout: 0,
    // Among `h2Options`, where its types have it, the agent does not see it, and speaks HTTP/1.1.
    ...(ca === "" ? { useH2c: true } : { connect: { ca } }),
  });
  await Promise.all(Array.from({ length: streams }, async () => {
    const { body } = await request(base + PATH, { method: "POST", headers: HEADERS, body: BODY, dispatcher });
    onFirst();
    for await (const bytes of body) onPiece(countLines(bytes));
    onLast();
  }));
  await dispatcher.destroy();
}

/** `npm:http2-wrapper`, whose agent does so too, but over TLS only. */
async function http2Wrapper({ base, ca, streams, onPiece, onFirst, onLast }: Load): Promise<void> {
  const wrapper: Http2Wrapper = (await import(PACKAGES.http2Wrapper)).default;
  const agent = new wrapper.Agent();
  await Promise.all(Array.from({ length: streams }, () =>
    new Promise<void>((resolve, reject) => {
      const options = { method: "POST", headers: HEADERS, agent, ca };
      const request = wrapper.request(base + PATH, options, (response) => {
        onFirst();
        response.on("data", (bytes: Uint8Array) => onPiece(countLines(bytes)));
        response.once("end", resolve);
        response.once("error", reject);
      });
      request.once("error", reject);
      request.end(BODY);
    }).then(onLast)));
  agent.destroy();
}

/** One way. */
export interface Client {
  run(load: Load): Promise<void>;
  /** The provider's streams per connection if it is not to be 100. */
  readonly maxStreams?: number;
  /** It imports a package that the lock file does not have. */
  readonly unlocked?: boolean;
}

/** By name. */
export const CLIENTS: Readonly<Record<string, Client>> = {
  "fetch": { run: fetchByob },
  "fetch, no limit": { run: fetchByob, maxStreams: 100_000 },
  "npm:undici": { run: undici, unlocked: true },
  "npm:http2-wrapper": { run: http2Wrapper, unlocked: true },
  "node:http2": { run: nodeHttp2 },
  "pool": { run: ownPool },
  "backend": { run: backend },
};

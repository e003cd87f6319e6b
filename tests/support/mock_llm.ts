/**
 * A stand-in for providers: HTTP/1.1, h2c, either over TLS with a certificate made for the run, or over a Unix socket.
 * The path says whose API it is; what it answers is in `mock_llm_patterns.ts`. For load, `bench/provider` is the better
 * one.
 * @module
 */

import http from "node:http";
import https from "node:https";
import net, { type AddressInfo, type Socket } from "node:net";
import process from "node:process";
import tls from "node:tls";
import { H2Request, H2Response, H2Session } from "./h2_stand_in.ts";
import { ANTHROPIC } from "./mock_anthropic.ts";
import { LANGGRAPH } from "./mock_langgraph.ts";
import { type Pace, scriptFor, type Step } from "./mock_llm_patterns.ts";
import { type Voice, voiceScript } from "./mock_llm_voices.ts";
import { RESPONSES } from "./mock_responses.ts";

/** How it is reached: `h1s` and `h2` are over TLS. */
export type MockProtocol = "h1" | "h1s" | "h2c" | "h2";

/** How it behaves. */
export interface MockLlmOptions extends Partial<Pace> {
  readonly protocol: MockProtocol;
  /** 0 lets the system choose. */
  readonly port?: number;
  /** A Unix socket in place of TCP. */
  readonly socketPath?: string;
  /** HTTP/2: SETTINGS_MAX_CONCURRENT_STREAMS. */
  readonly maxStreams?: number;
  /** For TLS: PEM. */
  readonly certificate?: Certificate;
  /** What answers of the pattern `gate` wait for; without it, for nothing. */
  readonly gate?: Promise<void>;
}

/** A certificate for `localhost` and `127.0.0.1`, and its key, in PEM. */
export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

/** A request as it came. */
export interface MockRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: Readonly<Record<string, unknown>>;
  readonly httpVersion: string;
}

/** The running stand-in. */
export interface MockLlm extends AsyncDisposable {
  /** For `api_base`. */
  readonly base: string;
  readonly port: number;
  readonly requests: readonly MockRequest[];
  /** Connections accepted since the start, requests under way, and the most there were at once. */
  readonly counts: { connections: number; streams: number; peakStreams: number; resets: number };
  /** Settles when clients have gone away from so many requests in all. */
  resets(count: number): Promise<void>;
  /** Settles when so many requests have come in all. */
  received(count: number): Promise<void>;
  close(): Promise<void>;
}

/** Makes a certificate with openssl(1). */
export async function makeCertificate(): Promise<Certificate> {
  const directory = await Deno.makeTempDir();
  try {
    const [cert, key] = [`${directory}/cert.pem`, `${directory}/key.pem`];
    const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    const key256 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    const about = [
      "-subj",
      "/CN=localhost",
      "-addext",
      names,
      "-addext",
      "basicConstraints=critical,CA:FALSE",
    ];
    await openssl(["req", "-x509", ...key256, ...about, "-keyout", key, "-out", cert]);
    return { cert: await Deno.readTextFile(cert), key: await Deno.readTextFile(key) };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

/** Makes a certificate that a private authority signs, and that authority's, in PEM. */
export async function makeAuthority(): Promise<{ readonly leaf: Certificate; readonly authority: string }> {
  const directory = await Deno.makeTempDir();
  try {
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    const ca = [...key, "-x509", "-subj", "/CN=Private", "-addext", "basicConstraints=critical,CA:TRUE"];
    await openssl(["req", ...ca, "-keyout", `${directory}/ca.key`, "-out", `${directory}/ca.pem`]);
    const names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    const asked = [...key, "-subj", "/CN=localhost", "-addext", names];
    await openssl(["req", ...asked, "-keyout", `${directory}/key.pem`, "-out", `${directory}/asked.pem`]);
    const signed = [
      "-CA",
      `${directory}/ca.pem`,
      "-CAkey",
      `${directory}/ca.key`,
      "-copy_extensions",
      "copy",
    ];
    const files = ["-in", `${directory}/asked.pem`, "-out", `${directory}/cert.pem`];
    await openssl(["x509", "-req", "-CAcreateserial", ...signed, ...files]);
    const [cert, privateKey, authority] = await Promise.all(
      ["cert.pem", "key.pem", "ca.pem"].map((name) => Deno.readTextFile(`${directory}/${name}`)),
    ) as [string, string, string];
    return { leaf: { cert, key: privateKey }, authority };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

async function openssl(args: readonly string[]): Promise<void> {
  const { success, stderr } = await new Deno.Command("openssl", { args: [...args] }).output();
  if (!success) throw new Error(`openssl: ${new TextDecoder().decode(stderr)}`);
}

/** Null: chat completions. */
function voiceOf(path: string): Voice | null {
  if (/\/messages$/.test(path)) return ANTHROPIC;
  if (/\/runs\/([^/]+\/)?stream(\?|$)/.test(path)) return LANGGRAPH;
  if (/\/responses$/.test(path)) return RESPONSES;
  return null;
}

type Request = http.IncomingMessage | H2Request;
type Response = http.ServerResponse | H2Response;

/** INTERNAL_ERROR of RFC 9113, section 7. */
const INTERNAL_ERROR = 2;

/** Starts it. */
export async function mockLlm(options: MockLlmOptions): Promise<MockLlm> {
  const pace: Pace = { events: options.events ?? 5, delayMs: options.delayMs ?? 0 };
  const requests: MockRequest[] = [];
  const counts = { connections: 0, streams: 0, peakStreams: 0, resets: 0 };
  const waiters: { until: () => boolean; resolve: () => void }[] = [];
  const tell = (): void => {
    for (const waiter of waiters.splice(0)) waiter.until() ? waiter.resolve() : waiters.push(waiter);
  };
  const when = (until: () => boolean): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    waiters.push({ until, resolve });
    tell();
    return promise;
  };
  const stop = new AbortController();
  const answered = new Set<Promise<void>>();

  const onRequest = (request: Request, response: Response): void => {
    counts.streams++;
    counts.peakStreams = Math.max(counts.peakStreams, counts.streams);
    const gone = new AbortController();
    let finished = false;
    const over = (how: "reset" | "whole"): void => {
      if (finished) return;
      finished = true;
      counts.streams--;
      if (how === "reset") counts.resets++;
      gone.abort();
      tell();
    };
    response.on("close", () => over(response.writableFinished ? "whole" : "reset"));
    response.on("finish", () => over("whole"));
    response.on("error", () => over("reset"));
    if (!(request instanceof H2Request)) request.on("error", () => over("reset"));
    const signal = AbortSignal.any([gone.signal, stop.signal]);
    const task = respond(request, response, signal, () => over("whole")).catch((error: unknown) => {
      if (!signal.aborted) throw error;
    }).finally(() => answered.delete(task));
    answered.add(task);
  };

  const respond = async (
    request: Request,
    response: Response,
    signal: AbortSignal,
    over: () => void,
  ): Promise<void> => {
    const json = await bodyOf(request);
    const body = JSON.parse(json === "" ? "{}" : json);
    requests.push({
      method: request.method ?? "",
      path: request.url ?? "",
      headers: request.headers,
      body,
      httpVersion: request.httpVersion,
    });
    tell();
    const id = request.headers["x-request-id"];
    const tries = requests.filter(({ headers }) => headers["x-request-id"] === id).length;
    const pattern = String(request.headers["x-test-pattern"] ?? "plain");
    const path = request.url ?? "";
    const { authorization, "x-api-key": apiKey } = request.headers;
    const key = String(apiKey ?? authorization ?? "").replace("Bearer ", "");
    const voice = voiceOf(path);
    const script = voice === null
      ? scriptFor(pattern, pace, tries, body, key)
      : voiceScript(voice, pattern, pace, tries, { body, path, key });
    const reset = (): void => {
      over();
      if (response instanceof H2Response) response.reset(INTERNAL_ERROR);
      else response.socket?.destroy();
    };
    if (script.noHead === "reset") return reset();
    if (script.noHead === "stall") return await forever(signal);
    response.writeHead(script.status, script.headers);
    for (const step of script.steps) {
      signal.throwIfAborted();
      if ("reset" in step) {
        // What was sent before is to arrive before.
        await pause(20, signal);
        return reset();
      }
      if ("gate" in step) await Promise.race([options.gate, forever(signal)]);
      else await play(step, response, signal);
    }
    response.end();
  };

  const server = createServer(options, onRequest);
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    counts.connections++;
    socket.setNoDelay(true);
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
    socket.on("error", () => {/* the client went away */});
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    if (options.socketPath !== undefined) server.listen(options.socketPath, resolve);
    else server.listen(options.port ?? 0, "127.0.0.1", resolve);
  });
  const port = options.socketPath === undefined ? (server.address() as AddressInfo).port : 0;
  const scheme = options.protocol === "h2" || options.protocol === "h1s" ? "https" : "http";
  const close = async (): Promise<void> => {
    stop.abort();
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    // The sockets first: what is under way then ends without a GOAWAY, as when a server dies.
    for (const socket of sockets) socket.destroy();
    await Promise.all([closed, ...answered]);
  };
  return {
    base: `${scheme}://localhost:${port}/v1`.replace("localhost:0", "localhost").replace(
      "//localhost:",
      "//127.0.0.1:",
    ),
    port,
    requests,
    counts,
    resets: (count) => when(() => counts.resets >= count),
    received: (count) => when(() => requests.length >= count),
    close,
    [Symbol.asyncDispose]: close,
  };
}

function createServer(
  { protocol, certificate, maxStreams = 100 }: MockLlmOptions,
  onRequest: (request: Request, response: Response) => void,
): net.Server {
  switch (protocol) {
    case "h1":
      return http.createServer(onRequest);
    case "h1s":
      return https.createServer({ ...certificate }, onRequest);
    case "h2c":
      return net.createServer((socket) => void new H2Session(socket, maxStreams, onRequest));
    case "h2": {
      const older = http.createServer(onRequest);
      return tls.createServer({ ...certificate, ALPNProtocols: ["h2", "http/1.1"] }, (socket) => {
        if (socket.alpnProtocol === "h2") new H2Session(socket, maxStreams, onRequest);
        else older.emit("connection", socket);
      });
    }
  }
}

async function bodyOf(request: Request): Promise<string> {
  if (request instanceof H2Request) return await request.body();
  let text = "";
  request.setEncoding("utf8");
  for await (const piece of request) text += piece;
  return text;
}

async function play(
  step: Exclude<Step, { reset: true } | { gate: true }>,
  response: Response,
  signal: AbortSignal,
): Promise<void> {
  if ("waitMs" in step) return await pause(step.waitMs, signal);
  if ("stall" in step) return await forever(signal);
  // Each piece is handed over on its own, so that the client can see it on its own.
  const { promise, resolve } = Promise.withResolvers<void>();
  const onAbort = (): void => resolve();
  signal.addEventListener("abort", onAbort, { once: true });
  (response as http.ServerResponse).write(step.send, () => resolve());
  await promise;
  signal.removeEventListener("abort", onAbort);
  await new Promise<void>((next) => process.nextTick(next));
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (ms === 0) return Promise.resolve();
  return new Promise((resolve) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      resolve();
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    }, ms);
    signal.addEventListener("abort", onAbort, { once: true });
  });
}

function forever(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/**
 * The development front: what Apache, PHP and mod_socket_handoff do together, without the authentication. It
 * takes an HTTP request, hands the client's socket to the daemon over SCM_RIGHTS, and forgets it. It listens on
 * loopback only.
 * @module
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { ShimError } from "../src/errors.ts";
import { openTools } from "../src/native/library.ts";
import { handOff } from "../src/native/sender.ts";
import { clientFd } from "./client_fd.ts";

/** Where the front listens, and to whom it hands over. */
export interface FrontOptions {
  /** The port on 127.0.0.1; 0: any free one. */
  readonly port: number;
  /** The daemon's SEQPACKET socket. */
  readonly socketPath: string;
  /** How many lanes to open; the page has six streams in each. */
  readonly lanes: number;
}

const HOST = "127.0.0.1";
/** The longest handoff data that the daemon takes by default (`server.handoff_buffer_bytes`). */
const MAX_BODY_BYTES = 131_072;
/** How long a request may take to arrive. */
const REQUEST_TIMEOUT_MS = 10_000;

const ASSETS: Readonly<Record<string, URL>> = {
  "/": new URL("./page.html", import.meta.url),
  "/lane": new URL("./lane.html", import.meta.url),
};

/** A request that is answered with a status and one plain line. */
class Refusal extends Error {
  override readonly name = "Refusal";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** A running front. */
export class Front {
  /** Where the page is. */
  readonly url: string;
  /**
   * Further origins of the same front. A browser opens six HTTP/1.1 connections to one origin and lets the rest
   * wait, so a page that wants a hundred streams at once needs more than one.
   */
  readonly laneUrls: readonly string[];
  readonly #servers: readonly Server[];
  readonly #socketPath: string;

  private constructor(servers: readonly Server[], socketPath: string) {
    this.#servers = servers;
    this.#socketPath = socketPath;
    const [url, ...laneUrls] = servers.map((server) => `http://${HOST}:${portOf(server)}`);
    this.url = url as string;
    this.laneUrls = laneUrls;
    for (const server of servers) {
      server.on("request", (request, response) => void this.#serve(request, response));
    }
  }

  /**
   * Listens.
   *
   * @throws {ShimError} if there is no shim, which is better known now than at the first handoff
   * @throws {Error} if the port is taken or may not be used; `code` says which
   */
  static async start({ port, socketPath, lanes }: FrontOptions): Promise<Front> {
    openTools();
    const servers: Server[] = [];
    try {
      servers.push(await listen(port));
      while (servers.length <= lanes) servers.push(await listen(0));
    } catch (error) {
      await Promise.all(servers.map(close));
      throw error;
    }
    return new Front(servers, socketPath);
  }

  /** Stops listening and ends the connections that are still the front's. */
  async stop(): Promise<void> {
    await Promise.all(this.#servers.map(close));
  }

  /** For `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    try {
      const url = new URL(request.url ?? "/", `http://${HOST}`);
      this.#checkOrigin(request);
      if (url.pathname === "/stream") this.#handOver(request, await handoffData(request, url));
      else if (request.method !== "GET") throw new Refusal(405, "Only GET is known here.");
      else if (url.pathname === "/lanes") {
        send(response, 200, "application/json", JSON.stringify(this.laneUrls));
      } else {
        const asset = ASSETS[url.pathname];
        if (asset === undefined) throw new Refusal(404, "There is nothing at this address.");
        response.setHeader("Content-Security-Policy", this.#policy(url.pathname));
        send(response, 200, "text/html; charset=utf-8", await Deno.readFile(asset));
      }
    } catch (error) {
      const status = error instanceof Refusal ? error.status : 500;
      const reason = error instanceof Error ? error.message : String(error);
      send(response, status, "text/plain; charset=utf-8", `${reason}\n`);
    }
  }

  /** A page of another site, or one whose name was made to point here, must not reach the daemon. */
  #checkOrigin(request: IncomingMessage): void {
    const { host = "", origin } = request.headers;
    const port = request.socket.localPort;
    if (host !== `${HOST}:${port}` && host !== `localhost:${port}`) {
      throw new Refusal(421, `The front answers for ${HOST}:${port} only, not for "${host}".`);
    }
    if (origin !== undefined && origin !== `http://${host}`) {
      throw new Refusal(403, `The front takes no request from the origin ${origin}.`);
    }
  }

  /** Here Apache's module steps in: from now on the client is the daemon's. */
  #handOver(request: IncomingMessage, data: Uint8Array<ArrayBuffer>): void {
    using client = clientFd(request.socket);
    try {
      handOff(this.#socketPath, "seqpacket", data, client);
    } catch (error) {
      if (!(error instanceof ShimError)) throw error;
      throw new Refusal(503, `The daemon does not take handoffs: ${error.message}.`);
    }
    request.socket.destroy();
  }

  #policy(pathname: string): string {
    const ancestors = pathname === "/lane" ? `${this.url} ${this.url.replace(HOST, "localhost")}` : "'none'";
    return [
      "default-src 'none'",
      "style-src 'unsafe-inline'",
      "script-src 'unsafe-inline'",
      "img-src data:",
      "connect-src 'self'",
      `frame-src ${this.laneUrls.join(" ")}`,
      "base-uri 'none'",
      "form-action 'none'",
      `frame-ancestors ${ancestors}`,
    ].join("; ");
  }
}

/**
 * What PHP would put into X-Handoff-Data: the body as it is, or the query's prompt, and its stream's id with the event
 * that the browser has had last.
 */
async function handoffData(request: IncomingMessage, url: URL): Promise<Uint8Array<ArrayBuffer>> {
  if (request.method === "GET") {
    const prompt = url.searchParams.get("prompt") ?? "";
    const id = url.searchParams.get("stream");
    const stream = id === null ? {} : {
      stream_id: id,
      last_event_id: request.headers["last-event-id"] ?? "",
      on_disconnect: "continue",
    };
    return new TextEncoder().encode(JSON.stringify({ prompt, ...stream }));
  }
  if (request.method !== "POST") throw new Refusal(405, "Only GET and POST are known here.");
  const body = new Uint8Array(MAX_BODY_BYTES);
  let bytes = 0;
  for await (const piece of request as AsyncIterable<Uint8Array>) {
    if (bytes + piece.byteLength > MAX_BODY_BYTES) {
      throw new Refusal(413, `The body is longer than ${MAX_BODY_BYTES} bytes.`);
    }
    body.set(piece, bytes);
    bytes += piece.byteLength;
  }
  return body.subarray(0, bytes);
}

function send(response: ServerResponse, status: number, type: string, body: string | Uint8Array): void {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  response.writeHead(status, {
    "Content-Type": type,
    "Content-Length": bytes.byteLength,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Connection": "close",
  });
  response.end(bytes);
}

async function listen(port: number): Promise<Server> {
  const server = createServer({ requestTimeout: REQUEST_TIMEOUT_MS, headersTimeout: REQUEST_TIMEOUT_MS });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.once("error", reject);
  server.listen(port, HOST, resolve);
  await promise;
  server.off("error", reject);
  return server;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

async function close(server: Server): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  server.close((error) => error ? reject(error) : resolve());
  server.closeAllConnections();
  await promise;
}

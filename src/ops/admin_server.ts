/**
 * The admin pages over HTTP: `/metrics` for Prometheus, `/status` for people, `/healthz` (the process lives), `/readyz` (it takes handoffs).
 * @module
 */
import type { ListenAddr } from "../config/load.ts";
import { ListenError } from "../errors.ts";
import type { Status } from "./status.ts";

/** What the pages show. */
export interface AdminPages {
  /** The metrics in the text format of Prometheus, version 0.0.4. */
  metrics(): Promise<string>;
  /** What `/status` says. */
  status(): Promise<Status>;
  /** Whether handoffs are taken. */
  ready(): boolean;
  /** Is told why a page could not be made, whose reader gets a 500 without the reason, or why nobody can connect. */
  onError(error: unknown): void;
}

type Server = Deno.HttpServer<Deno.NetAddr>;

const REOPEN_AFTER_MS = 1000;

/** A running server. */
export interface AdminServer {
  /** Where it listens; the real port if 0 was asked for. */
  readonly addr: ListenAddr;
  /** Stops listening and ends every connection, whatever it is doing. */
  close(): Promise<void>;
}

/**
 * Serves the pages.
 *
 * @throws {ListenError} if it cannot listen there
 */
export function openAdminServer(listenAddr: ListenAddr, pages: AdminPages): AdminServer {
  const aborter = new AbortController();
  const { signal } = aborter;
  const serve = ({ hostname, port }: ListenAddr): Server =>
    Deno.serve({
      hostname,
      port,
      signal,
      onListen: () => {}, // else Deno prints a line of its own
    }, (request) => respond(request, pages));
  const first = listen(() => serve(listenAddr), listenAddr);
  const addr = { hostname: first.addr.hostname, port: first.addr.port };
  // An accept(2) that fails, for which being out of descriptors is enough, ends Deno's server for good.
  const keepServing = async (): Promise<void> => {
    let server: Server | undefined = first;
    while (!signal.aborted) {
      try {
        server ??= serve(addr);
        await server.finished;
      } catch (error) {
        pages.onError(error);
      }
      server = undefined;
      await pause(REOPEN_AFTER_MS, signal);
    }
  };
  const ended = keepServing();
  return {
    addr,
    close: async (): Promise<void> => {
      aborter.abort();
      await ended;
    },
  };
}

function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, delayMs);
    if (signal.aborted) end();
    else signal.addEventListener("abort", end);
  });
}

function listen(
  serve: () => Server,
  { hostname, port }: ListenAddr,
): Server {
  try {
    return serve();
  } catch (cause) {
    const addr = `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
    const why = cause instanceof Deno.errors.AddrInUse
      ? "somebody listens there already; expected a free port"
      : cause instanceof Deno.errors.NotCapable
      ? `the sandbox denies it; start with --allow-net=${addr} besides the other permissions`
      : cause instanceof Deno.errors.PermissionDenied
      ? "permission denied; expected a port that the daemon's user may use (1024 and above)"
      : `${cause instanceof Error ? cause.message : cause}; expected an address of this machine`;
    throw new ListenError(`metrics.listen_addr = "${addr}": cannot listen: ${why}`, { cause });
  }
}

async function respond(request: Request, pages: AdminPages): Promise<Response> {
  const { pathname } = new URL(request.url);
  const page = PAGES[pathname]; // begins with "/", as no name of Object's prototype does
  if (page === undefined) return text(404, "not found: there are /metrics, /status, /healthz and /readyz\n");
  // The server sends the head alone where HEAD was asked.
  if (request.method !== "GET" && request.method !== "HEAD") {
    const response = text(405, "only GET and HEAD\n");
    response.headers.set("Allow", "GET, HEAD");
    return response;
  }
  try {
    return await page(pages);
  } catch (error) {
    pages.onError(error);
    return text(500, "this page failed; the log says why\n");
  }
}

const PAGES: Readonly<Record<string, (pages: AdminPages) => Response | Promise<Response>>> = {
  "/metrics": async (pages) => text(200, await pages.metrics(), "text/plain; version=0.0.4; charset=utf-8"),
  "/status": async (pages) =>
    text(200, `${JSON.stringify(await pages.status(), null, 2)}\n`, "application/json"),
  "/healthz": () => text(200, "ok\n"),
  "/readyz": (pages) => pages.ready() ? text(200, "ready\n") : text(503, "not ready\n"),
};

function text(status: number, body: string, contentType = "text/plain; charset=utf-8"): Response {
  return new Response(body, {
    status,
    headers: { "Content-Type": contentType, "Cache-Control": "no-store" },
  });
}

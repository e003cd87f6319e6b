/**
 * The admin pages over HTTP: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (it takes handoffs).
 * @module
 */
import type { ListenAddr } from "./config.ts";
import { ListenError } from "./errors.ts";

/** What the pages show. */
export interface AdminPages {
  /** The metrics in the text format of Prometheus, version 0.0.4. */
  metrics(): Promise<string>;
  /** Whether handoffs are taken. */
  ready(): boolean;
  /** Is told why a page could not be made; its reader gets a 500 without the reason. */
  onError(error: unknown): void;
}

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
  const server = listen(() =>
    Deno.serve({
      hostname: listenAddr.hostname,
      port: listenAddr.port,
      signal: aborter.signal,
      onListen: () => {}, // else Deno prints a line of its own
    }, (request) => respond(request, pages)), listenAddr);
  return {
    addr: { hostname: server.addr.hostname, port: server.addr.port },
    close: async (): Promise<void> => {
      aborter.abort();
      await server.finished;
    },
  };
}

function listen(
  serve: () => Deno.HttpServer<Deno.NetAddr>,
  { hostname, port }: ListenAddr,
): Deno.HttpServer<Deno.NetAddr> {
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
  if (page === undefined) return text(404, "not found: there are /metrics, /healthz and /readyz\n");
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
  "/healthz": () => text(200, "ok\n"),
  "/readyz": (pages) => pages.ready() ? text(200, "ready\n") : text(503, "not ready\n"),
};

function text(status: number, body: string, contentType = "text/plain; charset=utf-8"): Response {
  return new Response(body, {
    status,
    headers: { "Content-Type": contentType, "Cache-Control": "no-store" },
  });
}

/**
 * How many clients the limit of open files has room for, and with it what the acceptor goes by.
 * @module
 */
import { allBackends, type BackendConfig, type Config, httpTable } from "../config/load.ts";
import type { AcceptorPolicy } from "../native/acceptor.ts";
import type { Log } from "../ops/log/log.ts";

// Fds for all that is not a client: the runtime, listeners, the admin server, and what comes beyond the limit.
const RESERVED_FDS = 256;
// Handoff connections that have not said all yet.
const MAX_PENDING = 256;
// HTTP/2 carries about a hundred requests over one connection; HTTP/1.1 needs one for each.
const STREAMS_PER_UPSTREAM_FD = 20;

/** As many clients as are configured and the limit of open files allows. @param fdLimit that limit */
export function maxConnections(config: Config, fdLimit: number): number {
  const room = fdLimit - RESERVED_FDS - MAX_PENDING;
  // Whichever backend they ask.
  const perClient = Math.max(...allBackends(config).map(([, backend]) => fdsPerClient(backend)));
  return Math.min(config.server.maxConnections, Math.max(1, Math.floor(room / perClient)));
}

function fdsPerClient(backend: BackendConfig): number {
  const settings = httpTable(backend)?.settings;
  if (settings === undefined) return backend.provider === "mock" ? 1 : 2;
  return settings.http2 ? 1 + 1 / STREAMS_PER_UPSTREAM_FD : 2;
}

/** The acceptor's part of the configuration. */
export function acceptorPolicy(config: Config, fdLimit: number, log: Log): AcceptorPolicy {
  const { server } = config;
  const most = maxConnections(config, fdLimit);
  if (server.maxConnections > most) {
    log.info("max_connections is capped to what the limit of open files allows", {
      max_connections: server.maxConnections,
      capped_to: most,
      open_files: fdLimit,
    });
  }
  return {
    maxConnections: most,
    handoffTimeoutMs: server.handoffTimeoutMs,
    handoffBufferBytes: server.handoffBufferBytes,
    clientTimeoutMs: server.writeTimeoutMs,
    maxPending: MAX_PENDING,
    allowedUids: server.allowedUids,
  };
}

/**
 * Where handoffs are taken: the paths of the configuration, or the sockets that systemd has passed.
 * @module
 */
import type { Config } from "../config/load.ts";
import { ListenError, ShimError } from "../errors.ts";
import type { Acceptor, SocketKind } from "../native/acceptor.ts";
import { STATUS, statusText } from "../native/library.ts";
import type { Log } from "../ops/log/log.ts";

const EPERM = -1;

/**
 * Listens at each of `inheritedFds` or, where there is none, at the configured paths.
 *
 * @throws {ListenError} which names the key, its value and what is expected
 */
export function listen(acceptor: Acceptor, config: Config, inheritedFds: readonly number[], log: Log): void {
  for (const fd of inheritedFds) {
    log.info("Listening on a socket from systemd", { fd, kind: acceptor.adopt(fd) });
  }
  if (inheritedFds.length > 0) return;
  const { socketPath, streamSocketPath } = config.server;
  listenAt(acceptor, "seqpacket", "server.socket_path", socketPath, config);
  log.info("Listening", { kind: "seqpacket", path: socketPath });
  if (streamSocketPath === "") return;
  listenAt(acceptor, "stream", "server.stream_socket_path", streamSocketPath, config);
  log.info("Listening", { kind: "stream", path: streamSocketPath });
}

/** @throws {ListenError} which names the key, its value and what is expected */
function listenAt(acceptor: Acceptor, kind: SocketKind, key: string, path: string, { server }: Config): void {
  const { socketMode: mode, socketGroup: group } = server;
  try {
    acceptor.listen(kind, { path, mode, group });
  } catch (cause) {
    if (!(cause instanceof ShimError)) throw cause;
    const { status } = cause;
    const isGroup = status === STATUS.noSuchGroup || (status === EPERM && group !== "");
    const expected = isGroup
      ? "a group of this system that the daemon's user belongs to"
      : status === STATUS.socketLive || status === STATUS.notASocket
      ? "a path that is free, or a socket that nobody listens on any more"
      : "a path in a folder that exists and that the daemon's user may write to";
    const setting = isGroup ? `server.socket_group = "${group}"` : `${key} = "${path}"`;
    throw new ListenError(`${setting}: cannot listen: ${statusText(status)}; expected ${expected}`, {
      cause,
    });
  }
}

/**
 * The one thing Deno's API does not give: a connection's file descriptor.
 * @module
 */
import type { Socket } from "node:net";
import { OwnedFd } from "../src/native/sender.ts";

/**
 * A second descriptor (dup(2), close-on-exec) of a connection that `node:net` or `node:http` accepted. Ending
 * the socket afterwards is a close(2) of its own descriptor alone, so the connection lives on in the second.
 *
 * A `Deno.TcpConn` would not do: Deno ends it with shutdown(2), which ends the connection for every holder.
 *
 * @throws {Error} if this version of Deno does not offer it, or the connection is gone
 */
export function clientFd(socket: Socket): OwnedFd {
  const handle = (socket as Socket & { _handle?: { fdForIpc?(): number } | null })._handle;
  if (!handle) throw new Error("The client's connection has no descriptor: it is closed");
  if (handle.fdForIpc === undefined) {
    throw new Error(`Deno ${Deno.version.deno} does not tell a connection's descriptor (TCPWrap.fdForIpc)`);
  }
  const fd = handle.fdForIpc();
  if (fd < 0) throw new Error("The client's connection has no descriptor: it is closed");
  return new OwnedFd(fd);
}

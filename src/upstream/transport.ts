/**
 * How a connection to a provider comes about: TCP or a Unix socket, through a proxy or not, TLS or not.
 *
 * `Deno.Conn` costs half of a `node:net` socket per event (bench/upstream); only `insecure`, which Deno's own TLS
 * does not offer, goes through `node:tls`.
 * @module
 */

import tls from "node:tls";
import { BackendError } from "../errors.ts";
import { shutDown } from "../native/process.ts";
import type { ByteStream } from "./byte_stream.ts";
import { NodeByteStream } from "./node_byte_stream.ts";

/** Where to, and how. */
export interface Target {
  readonly secure: boolean;
  /** Without the brackets of an IPv6 address. */
  readonly hostname: string;
  readonly port: number;
  /** A Unix socket to connect to instead; what goes over it is not encrypted. */
  readonly socketPath: string | null;
  /** HTTP proxy: asked for a tunnel (RFC 9110, section 9.3.6) to a TLS server, else for each request itself. */
  readonly proxy: URL | null;
  /** TLS without verification of the certificate. */
  readonly insecure: boolean;
  /** PEM certificates that are trusted besides the system's. */
  readonly caCerts: readonly string[];
}

/** A connection. */
export interface Dialed {
  readonly stream: ByteStream;
  /** What ALPN agreed on: null without TLS, or if the server took no part. A proxy speaks HTTP/1.1. */
  readonly protocol: string | null;
  /** For a proxy that is asked for each request: what else stands in a request's head, or "". */
  readonly proxyHead: string | null;
}

const MAX_PROXY_HEAD_BYTES = 8_192;

/** A short name of the target for messages, without any secret. */
export function describeTarget(target: Target): string {
  if (target.socketPath !== null) return `the Unix socket ${target.socketPath}`;
  const host = target.hostname.includes(":") ? `[${target.hostname}]` : target.hostname;
  const through = target.proxy === null ? "" : ` through the proxy ${target.proxy.host}`;
  return `${host}:${target.port}${through}`;
}

/**
 * Connects.
 *
 * @param protocols ALPN names in order of preference (RFC 7301)
 * @throws BackendError `unavailable`: refused, DNS, TLS, proxy, abort
 */
export async function dial(
  target: Target,
  protocols: readonly string[],
  signal: AbortSignal,
): Promise<Dialed> {
  try {
    return await connect(target, protocols, signal);
  } catch (cause) {
    const why = signal.aborted
      ? String(signal.reason)
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw new BackendError("unavailable", `cannot connect to ${describeTarget(target)}: ${why}`, { cause });
  }
}

async function connect(
  target: Target,
  protocols: readonly string[],
  signal: AbortSignal,
): Promise<Dialed> {
  const { socketPath, hostname, port, proxy } = target;
  if (socketPath !== null) {
    const stream = new DenoByteStream(await connectUnix(socketPath, signal));
    return { stream, protocol: null, proxyHead: null };
  }
  if (target.secure && target.insecure) return await connectInsecure(target, protocols, signal);
  const via = proxy === null ? { hostname, port } : { hostname: proxyHost(proxy), port: proxyPort(proxy) };
  const tcp = await Deno.connect({ ...via, signal });
  const { localAddr, remoteAddr } = tcp;
  let owned: Deno.Conn = tcp;
  let end: Promise<void> | undefined;
  const close = (): void => {
    try {
      owned.close();
    } catch (error) {
      // A TLS handshake that failed, or an abort during it, has closed the socket already.
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  };
  const giveUp = (): void => {
    close();
    // Deno keeps what is closed during its TLS handshake for as long as the server is silent. At the limit of
    // descriptors it stays.
    if (owned !== tcp) end = shutDown(localAddr, remoteAddr).catch(() => {});
  };
  signal.addEventListener("abort", giveUp, { once: true });
  try {
    tcp.setNoDelay();
    tcp.setKeepAlive();
    if (!target.secure) {
      const stream = new DenoByteStream(tcp);
      if (proxy === null) return { stream, protocol: null, proxyHead: null };
      return { stream, protocol: "http/1.1", proxyHead: credentials(proxy) };
    }
    if (proxy !== null) await openTunnel(tcp, target, proxy);
    const secured = await Deno.startTls(tcp, {
      hostname,
      caCerts: [...target.caCerts],
      alpnProtocols: [...protocols],
    });
    owned = secured;
    if (signal.aborted) giveUp();
    const { alpnProtocol } = await secured.handshake();
    signal.throwIfAborted();
    return { stream: new DenoByteStream(secured), protocol: alpnProtocol, proxyHead: null };
  } catch (error) {
    close();
    await end;
    throw error;
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
}

/** `Deno.connect` to a Unix socket takes no signal; it does not wait for the server's accept either. */
async function connectUnix(path: string, signal: AbortSignal): Promise<Deno.Conn> {
  const connection = await Deno.connect({ transport: "unix", path });
  if (signal.aborted) {
    connection.close();
    signal.throwIfAborted();
  }
  return connection;
}

function connectInsecure(
  target: Target,
  protocols: readonly string[],
  signal: AbortSignal,
): Promise<Dialed> {
  const { promise, resolve, reject } = Promise.withResolvers<Dialed>();
  const socket = tls.connect({
    host: target.hostname,
    port: target.port,
    ALPNProtocols: [...protocols],
    rejectUnauthorized: false,
  });
  const abort = (): void => {
    socket.destroy();
    reject(signal.reason);
  };
  signal.addEventListener("abort", abort, { once: true });
  socket.once("error", reject);
  socket.once("secureConnect", () => {
    socket.setNoDelay();
    socket.setKeepAlive(true);
    const protocol = socket.alpnProtocol || null;
    resolve({ stream: new NodeByteStream(socket), protocol, proxyHead: null });
  });
  return promise.finally(() => {
    signal.removeEventListener("abort", abort);
    socket.removeListener("error", reject);
  });
}

const proxyHost = (proxy: URL): string => proxy.hostname.replace(/^\[|\]$/g, "");
const proxyPort = (proxy: URL): number => Number(proxy.port || "80");

/** @returns the header line that names its user, or "" */
function credentials(proxy: URL): string {
  if (proxy.username === "") return "";
  const words = `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`;
  const bytes = new TextEncoder().encode(words);
  return `Proxy-Authorization: Basic ${btoa(String.fromCharCode(...bytes))}\r\n`;
}

/** CONNECT: from here on the connection is the target's. */
async function openTunnel(stream: Deno.Conn, target: Target, proxy: URL): Promise<void> {
  const host = target.hostname.includes(":") ? `[${target.hostname}]` : target.hostname;
  const authority = `${host}:${target.port}`;
  const head = `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${credentials(proxy)}`;
  let bytes = new TextEncoder().encode(`${head}\r\n`);
  while (bytes.length > 0) bytes = bytes.subarray(await stream.write(bytes));
  // A byte at a time, so that nothing the target says is taken with the proxy's head.
  const byte = new Uint8Array(1);
  let answer = "";
  while (!answer.endsWith("\r\n\r\n")) {
    if (await stream.read(byte) === null) throw new Error("the proxy closed the connection");
    answer += String.fromCharCode(byte[0] ?? 0);
    if (answer.length > MAX_PROXY_HEAD_BYTES) throw new Error("the proxy's answer is too long");
  }
  const status = /^HTTP\/1\.[01] (\d{3})/.exec(answer)?.[1];
  if (status === undefined || !status.startsWith("2")) {
    throw new Error(`the proxy answered ${answer.slice(0, answer.indexOf("\r\n"))}`);
  }
}

/** A `Deno.Conn` that can be closed twice. */
class DenoByteStream implements ByteStream {
  readonly #connection: Deno.Conn;
  #closed = false;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
  }

  read(into: Uint8Array): Promise<number | null> {
    return this.#connection.read(into);
  }

  write(bytes: Uint8Array): Promise<number> {
    return this.#connection.write(bytes);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.close();
  }
}

/** An HTTP proxy on loopback. */

/** See {@linkcode testProxy}. */
export interface TestProxy {
  readonly port: number;
  /** The heads of what it was asked, in order. */
  readonly asked: readonly string[];
  /** Settles when every tunnel has ended. */
  stop(): Promise<void>;
}

/**
 * Makes tunnels (RFC 9110, section 9.3.6), wherever to it is asked for, to `targetPort` on loopback.
 *
 * @param status of its answers; one that is no success makes no tunnel
 */
export function testProxy(status: string, targetPort: number): TestProxy {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const asked: string[] = [];
  const tunnels: Promise<unknown>[] = [];
  const serve = (async () => {
    for await (const connection of listener) {
      const buffer = new Uint8Array(10_000);
      const count = await connection.read(buffer) ?? 0;
      asked.push(new TextDecoder().decode(buffer.subarray(0, count)));
      await connection.write(new TextEncoder().encode(`HTTP/1.1 ${status}\r\nVia: test\r\n\r\n`));
      if (!status.startsWith("2")) {
        connection.close();
        continue;
      }
      const onward = await Deno.connect({ port: targetPort, hostname: "127.0.0.1" });
      tunnels.push(
        Promise.allSettled([
          connection.readable.pipeTo(onward.writable),
          onward.readable.pipeTo(connection.writable),
        ]),
      );
    }
  })();
  return {
    port: listener.addr.port,
    asked,
    async stop(): Promise<void> {
      listener.close();
      await serve;
      await Promise.all(tunnels);
    },
  };
}

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
 * Makes tunnels (RFC 9110, section 9.3.6) and takes requests in the absolute form, wherever to it is asked for, all to
 * loopback.
 *
 * @param targetPort all of them; absent: the port that each is asked for
 * @param status of its answers; one that is no success makes no tunnel, and passes no request on
 */
export function testProxy(status: string, targetPort?: number): TestProxy {
  const listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  const asked: string[] = [];
  const tunnels: Promise<unknown>[] = [];
  const serve = (async () => {
    for await (const connection of listener) {
      const buffer = new Uint8Array(10_000);
      const count = await connection.read(buffer) ?? 0;
      asked.push(new TextDecoder().decode(buffer.subarray(0, count)));
      const tunnel = asked.at(-1)?.startsWith("CONNECT ") === true;
      const refused = !status.startsWith("2");
      if (tunnel || refused) {
        const answer = `HTTP/1.1 ${status}\r\nVia: test\r\nContent-Length: 0\r\n\r\n`;
        await connection.write(new TextEncoder().encode(answer));
      }
      if (refused) {
        connection.close();
        continue;
      }
      const port = targetPort ?? Number(/^\S+ [^ ]*:(\d+)/.exec(asked.at(-1) ?? "")?.[1]);
      const onward = await Deno.connect({ port, hostname: "127.0.0.1" });
      if (!tunnel) await onward.write(buffer.subarray(0, count));
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

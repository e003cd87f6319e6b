/**
 * A load balancer that breaks connections: it passes bytes on, and cuts an answer that has become too long for it.
 * @module
 */

/** See the module. It ends with its test. */
export class CuttingProxy implements AsyncDisposable {
  readonly port: number;
  /** Answers that were cut so far. */
  cuts = 0;
  readonly #listener: Deno.TcpListener;
  readonly #running: Promise<void>;
  readonly #passing = new Set<Promise<void>>();

  /**
   * @param port where the server is; a browser's `Host` is changed to it
   * @param path of the requests whose answers are cut, each after so many bytes
   */
  constructor(port: number, path: string, bytes: number) {
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.#running = this.#run(port, path, bytes);
  }

  async #run(port: number, path: string, bytes: number): Promise<void> {
    for await (const client of this.#listener) {
      const passing: Promise<void> = this.#pass(client, port, path, bytes).finally(() =>
        this.#passing.delete(passing)
      );
      this.#passing.add(passing);
    }
  }

  // One request of a browser is one read.
  async #pass(client: Deno.TcpConn, port: number, path: string, bytes: number): Promise<void> {
    using _client = client;
    using server = await Deno.connect({ hostname: "127.0.0.1", port });
    const buffer = new Uint8Array(64 * 1024);
    const length = await client.read(buffer);
    if (length === null) return; // a connection that the browser opened in advance
    const request = new TextDecoder().decode(buffer.subarray(0, length));
    await server.write(new TextEncoder().encode(request.replace(/^(Host: .*:)\d+/m, `$1${port}`)));
    let left = request.startsWith(`GET ${path}`) ? bytes : Infinity;
    for (let read = await server.read(buffer); read !== null; read = await server.read(buffer)) {
      await client.write(buffer.subarray(0, Math.min(read, left)));
      left -= read;
      if (left <= 0) return void this.cuts++;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#running;
    await Promise.allSettled(this.#passing);
  }
}

/** How far a provider gets ahead of a client that reads nothing. */
import assert from "node:assert/strict";
import http from "node:http";
import http2 from "node:http2";
import type { AddressInfo } from "node:net";
import { tcpEnds } from "../support/clients.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { watched } from "../support/with_daemon.ts";

const EVENTS = 60_000;
const TEXT = "x".repeat(100);
const CHUNK = `data: {"choices":[{"index":0,"delta":{"content":"${TEXT}"}}]}\n\n`;
/** What a client that reads nothing may have cost: its socket's buffers on loopback, and what the daemon keeps. */
const MOST_BYTES = 300 * 1024;
/** Nothing has moved for so long: nothing will. */
const STILL_MS = 500;

/** A provider of {@linkcode EVENTS} events, as fast as they are taken. */
class Provider implements AsyncDisposable {
  /** Events given to the connection. */
  given = 0;
  /** Until it takes more. */
  waits = false;
  ended = false;
  readonly #server: http.Server | http2.Http2Server;

  private constructor(protocol: "h1" | "h2c") {
    const answer = (response: http.ServerResponse | http2.Http2ServerResponse) => void this.#answer(response);
    this.#server = protocol === "h1"
      ? http.createServer((_, response) => answer(response))
      : http2.createServer((_, response) => answer(response));
  }

  static async start(protocol: "h1" | "h2c"): Promise<Provider> {
    const provider = new Provider(protocol);
    await new Promise<void>((resolve) => provider.#server.listen(0, "127.0.0.1", resolve));
    return provider;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async #answer(response: http.ServerResponse | http2.Http2ServerResponse): Promise<void> {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const write = response.write.bind(response) as (text: string) => boolean;
    while (this.given < EVENTS) {
      this.given++;
      if (write(CHUNK)) continue;
      this.waits = true;
      await new Promise<void>((resolve) => response.once("drain", resolve));
      this.waits = false;
    }
    response.end("data: [DONE]\n\n", () => void (this.ended = true));
  }

  /** Bytes that are in the kernel between it and the daemon, by proc_net_tcp(5). */
  queuedBytes(): number {
    const port = this.port.toString(16).toUpperCase().padStart(4, "0");
    let bytes = 0;
    for (const line of Deno.readTextFileSync("/proc/net/tcp").split("\n")) {
      const [, local, remote, state, queues] = line.trim().split(/\s+/);
      if (state !== "01") continue; // ESTABLISHED
      const [sending, receiving] = (queues ?? "").split(":").map((each) => parseInt(each, 16));
      if (local?.endsWith(`:${port}`)) bytes += sending ?? 0;
      if (remote?.endsWith(`:${port}`)) bytes += receiving ?? 0;
    }
    return bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise((resolve) => {
      this.#server.close(resolve);
      if (this.#server instanceof http.Server) this.#server.closeAllConnections();
    });
  }
}

/** Waits until the provider waits and neither it nor the daemon has moved anything for a while. */
async function standstill(daemon: TestDaemon, provider: Provider): Promise<number> {
  let [moved, since] = ["", performance.now()];
  await daemon.until("a standstill", async () => {
    const sent = await daemon.metric("daemon_stream_bytes_sent");
    const now = `${provider.given} ${sent} ${provider.queuedBytes()}`;
    if (now !== moved) [moved, since] = [now, performance.now()];
    return provider.given > 0 && sent > 0 && performance.now() - since > STILL_MS;
  });
  return await daemon.metric("daemon_stream_bytes_sent");
}

for (const protocol of ["h1", "h2c"] as const) {
  Deno.test({
    name:
      `${protocol}: the provider of a client that reads nothing is paused after 300 KB, and goes on later`,
    timeout: 60_000,
    async fn() {
      await using provider = await Provider.start(protocol);
      await using daemon = await startDaemon({
        env: {
          DAEMON_BACKEND_PROVIDER: "openai",
          OPENAI_API_BASE: `http://127.0.0.1:${provider.port}/v1`,
          OPENAI_HTTP2_ENABLED: `${protocol === "h2c"}`,
          OPENAI_API_KEY: "key",
        },
      });
      await watched(daemon, async () => {
        using client = daemon.handOff({ prompt: "Hi" }, { ends: await tcpEnds() });
        const sent = await standstill(daemon, provider);
        const taken = provider.given * CHUNK.length - provider.queuedBytes();
        assert(provider.waits, `the provider has given all ${provider.given} events`);
        assert(sent <= MOST_BYTES, `${sent} bytes went out to a client that reads nothing`);
        assert(taken <= 2 * MOST_BYTES, `${taken} bytes were taken from the provider`);
        const answer = await client.readAll();
        assert.equal(answer.match(/"content":"x{100}"/g)?.length, EVENTS);
        assert(answer.endsWith("data: [DONE]\n\n") && provider.ended);
      });
    },
  });
}

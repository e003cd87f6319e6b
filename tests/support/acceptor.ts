/**
 * The daemon's parts in this process: an acceptor on sockets of its own, and a configuration.
 * @module
 */
import assert from "node:assert/strict";
import { type Config, loadConfig } from "../../src/config/load.ts";
import {
  Acceptor,
  type AcceptorPolicy,
  type RefusedHandoffs,
  type SocketKind,
} from "../../src/native/acceptor.ts";
import { handOff } from "../../src/native/sender.ts";
import { type ClientEnds, pairEnds, type TestClient } from "./clients.ts";

/** An acceptor's limits, wide enough for most tests. */
export const TEST_POLICY: AcceptorPolicy = {
  maxConnections: 1000,
  handoffTimeoutMs: 5000,
  handoffBufferBytes: 4096,
  clientTimeoutMs: 30_000,
  maxPending: 16,
  allowedUids: [],
};

/** An acceptor that listens on both kinds of socket, what it tells, and who hands over to it. */
export class TestAcceptor implements AsyncDisposable {
  readonly folder = Deno.makeTempDirSync();
  readonly acceptor: Acceptor;
  readonly refusals: RefusedHandoffs[] = [];
  /** How often it said that it has drained. */
  drains = 0;
  readonly #run: Promise<void>;
  #news = Promise.withResolvers<void>();

  constructor(policy: Partial<AcceptorPolicy> = {}) {
    this.acceptor = new Acceptor({ ...TEST_POLICY, ...policy });
    for (const kind of ["seqpacket", "stream"] as const) {
      this.acceptor.listen(kind, { path: this.pathOf(kind), mode: 0o600, group: "" });
    }
    this.#run = this.acceptor.run({
      refused: (handoffs) => {
        this.refusals.push(handoffs);
        this.#tell();
      },
      drained: () => {
        this.drains++;
        this.#tell();
      },
      acceptFailed: (errno) => assert.fail(`accept: errno ${errno}`),
    });
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** Waits until something holds that can begin to hold only as the acceptor tells something. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#news.promise;
  }

  /** Stops, and waits until all that came is with the workers. */
  async drain(): Promise<void> {
    this.acceptor.stop(false);
    await this.until(() => this.drains > 0);
  }

  /**
   * Blocks this isolate until so many clients are with the reactors. Nothing is taken from a reactor meanwhile, so that
   * they wait in its queue.
   */
  blockUntilActive(clients: number): void {
    const giveUpMs = performance.now() + 10_000;
    while (this.acceptor.active() < clients) {
      assert(performance.now() < giveUpMs, `${this.acceptor.active()} of ${clients} clients after 10 s`);
    }
  }

  pathOf(kind: SocketKind): string {
    return `${this.folder}/${kind}.sock`;
  }

  /** Plays Apache. Data that is not text is sent as JSON. */
  handOff(
    data: string | Readonly<Record<string, unknown>> = {},
    { near, far }: ClientEnds = pairEnds(),
    kind: SocketKind = "seqpacket",
  ): TestClient {
    const text = typeof data === "string" ? data : JSON.stringify(data);
    handOff(this.pathOf(kind), kind, new TextEncoder().encode(text), far);
    far.close();
    return near;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.acceptor.close();
    await this.#run;
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** The default configuration with some environment variables. */
export async function testConfig(env: Readonly<Record<string, string>> = {}): Promise<Config> {
  const { config } = await loadConfig({
    env: (name) => env[name],
    readTextFile: (path) => Promise.reject(new Error(`nobody reads ${path}`)),
  });
  return config;
}

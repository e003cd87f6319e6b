/**
 * Debian's redis-server as a process of its own, on a port of its own, that keeps nothing on disk.
 * @module
 */
import { freePort } from "./apache.ts";
import { ServerProcess } from "./server_process.ts";

/** A running server. It ends with its test. */
export class Redis implements AsyncDisposable {
  readonly port: number;
  readonly #further: readonly string[];
  #process: ServerProcess | undefined;

  private constructor(port: number, further: readonly string[]) {
    this.port = port;
    this.#further = further;
  }

  /** Starts one and waits until it takes connections. */
  static async start(...further: string[]): Promise<Redis> {
    const redis = new Redis(freePort(), further);
    await redis.up();
    return redis;
  }

  /** One that takes connections over TLS alone, with files in PEM. */
  static async startTls(certFile: string, keyFile: string, ...further: string[]): Promise<Redis> {
    const port = freePort();
    const files = ["--tls-cert-file", certFile, "--tls-key-file", keyFile, "--tls-ca-cert-file", certFile];
    const tls = ["--port", "0", "--tls-port", String(port), ...files, "--tls-auth-clients", "no"];
    const redis = new Redis(port, [...tls, ...further]);
    await redis.up();
    return redis;
  }

  /** For `resume.redis_url`. */
  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  /** Starts it, or starts it anew: it has forgotten everything. */
  async up(): Promise<void> {
    this.#process = new ServerProcess([
      "redis-server",
      ...["--port", String(this.port), "--bind", "127.0.0.1"],
      ...["--save", "", "--appendonly", "no", "--logfile", "/dev/stderr"],
      ...this.#further,
    ], Deno.cwd());
    await this.#process.logged("Ready to accept connections");
  }

  /** Ends it at once. */
  async down(): Promise<void> {
    this.#process?.signal("SIGKILL");
    await this.#process?.exit();
    this.#process = undefined;
  }

  /** What redis-cli says to a command. */
  async cli(...command: string[]): Promise<string> {
    const { stdout } = await new Deno.Command("redis-cli", { args: ["-p", String(this.port), ...command] })
      .output();
    return new TextDecoder().decode(stdout).trim();
  }

  /** Lets it stand still, or go on: it takes what comes, and answers nothing. */
  freeze(on: boolean): void {
    this.#process?.signal(on ? "SIGSTOP" : "SIGCONT");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }
}

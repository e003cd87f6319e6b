/**
 * Debian's redis-server as a process of its own, on a port of its own, that keeps nothing on disk.
 * @module
 */
import { freePort } from "./apache.ts";
import { ServerProcess } from "./server_process.ts";

/** A running server. It ends with its test. */
export class Redis implements AsyncDisposable {
  readonly port: number;
  #process: ServerProcess | undefined;

  private constructor(port: number) {
    this.port = port;
  }

  /** Starts one and waits until it takes connections. */
  static async start(): Promise<Redis> {
    const redis = new Redis(freePort());
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

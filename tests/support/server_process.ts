/**
 * A server as a process of its own, and what it logs.
 * @module
 */
import { TextLineStream } from "./lines.ts";

const WAIT_MS = 20_000;

/** See the module. */
export class ServerProcess {
  /** The lines of its standard error so far. */
  readonly log: string[] = [];
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  #news = Promise.withResolvers<void>();
  #ended = false;

  /** Starts it in a folder. */
  constructor([program, ...args]: readonly [string, ...string[]], cwd: string) {
    this.#child = new Deno.Command(program, {
      args,
      cwd,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#reading = this.#read();
  }

  get pid(): number {
    return this.#child.pid;
  }

  async #read(): Promise<void> {
    const lines = this.#child.stderr.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) {
      this.log.push(line);
      this.#tell();
    }
    this.#ended = true;
    this.#tell();
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** Waits until so many lines of the log hold `text`. */
  async logged(text: string, times = 1, waitMs = WAIT_MS): Promise<void> {
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(() => late.reject(new Error("too late")), waitMs);
    try {
      while (this.log.filter((line) => line.includes(text)).length < times) {
        if (this.#ended) throw new Error("it ended");
        await Promise.race([this.#news.promise, late.promise]);
      }
    } catch (cause) {
      const log = this.log.slice(-30).join("\n");
      throw new Error(`The server does not say "${text}" ${times} times:\n${log}`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  signal(signal: Deno.Signal): void {
    if (!this.#ended) this.#child.kill(signal);
  }

  /** Waits for its end, and that of all who have its standard error. */
  async exit(): Promise<void> {
    await this.#reading;
    await this.#child.status;
  }
}

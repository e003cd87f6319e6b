/**
 * Structured logging to standard error, for people, for journald, or as JSON.
 *
 * Each isolate (main, workers) opens its own log once. Lines are gathered and written asynchronously, one write at
 * a time: a synchronous write to a full pipe would stop every stream of the isolate until someone reads. What waits
 * is bounded; past the bound lines are dropped and counted, and the count is logged once there is room. So that
 * nothing is lost at the end, {@linkcode OpenLog.close} waits (with a limit) for what is left: await it before
 * `Deno.exit` and before ending a worker.
 * @module
 */
import { configureSync, getLogger, type Logger } from "@logtape/logtape";
import type { Config, LogLevel } from "../../config/load.ts";
import { formatLine, type LogStyle } from "./format.ts";

/** What a line says besides its message. Values of secret-looking names are masked. */
export type LogFields = Readonly<Record<string, unknown>>;

/** What a module logs with. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warning(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** The log of another part, with the same fields. The level of a part can be set on its own. */
  child(part: string): Log;
  /** The same log with further fields in every line. */
  with(fields: LogFields): Log;
  /** Whether a line of this level would be written: asks before work that only the line needs. */
  enabled(level: LogLevel): boolean;
}

/** The level of all parts, and those of single ones. */
export type LogLevels = Pick<Config["logging"], "level" | "parts">;

/** A log and its end. */
export interface OpenLog {
  /** Of the part `daemon`. */
  readonly log: Log;
  /** Changes the levels from now on. */
  setLevels(levels: LogLevels): void;
  /** Waits until all lines are written, at most `timeoutMs`; what is logged later is dropped. */
  close(timeoutMs: number): Promise<void>;
}

/** Where lines go. */
export interface LogOutput {
  readonly style: LogStyle;
  /** Writes some of the bytes, and says how many. */
  write(bytes: Uint8Array): Promise<number>;
}

/** Standard error in the style that fits the configured format and what stderr is. */
export function stderrOutput(
  format: Config["logging"]["format"],
  env: (name: string) => string | undefined,
): LogOutput {
  const terminal = Deno.stderr.isTerminal();
  return {
    // A terminal that a service opened inherits JOURNAL_STREAM too (systemd.exec(5)).
    style: format === "json"
      ? "json"
      : terminal
      ? Deno.noColor ? "plain" : "colour"
      : env("JOURNAL_STREAM")
      ? "journal"
      : "plain",
    write: (bytes) => Deno.stderr.write(bytes),
  };
}

/** Opens the log of this isolate; a second call takes the place of the first. */
export function openLog(levels: LogLevels, output: LogOutput): OpenLog {
  const queue = new LineQueue(output.write, (count) =>
    formatLine({
      category: [ROOT, "log"],
      level: "warning",
      message: [],
      rawMessage: "lines were dropped, since nobody reads the log fast enough",
      timestamp: Date.now(),
      properties: { count },
    }, output.style));
  const configure = ({ level, parts }: LogLevels): void =>
    configureSync({
      reset: true,
      sinks: { lines: (record) => queue.push(formatLine(record, output.style)) },
      loggers: [
        { category: ROOT, lowestLevel: level, sinks: ["lines"] },
        ...Object.entries(parts).map(([part, lowestLevel]) => ({
          category: [ROOT, part],
          lowestLevel,
          sinks: ["lines"],
          parentSinks: "override" as const, // else the level of the root would hold as well
        })),
        { category: ["logtape", "meta"], lowestLevel: "warning", sinks: ["lines"] },
      ],
    });
  configure(levels);
  return {
    log: new PartLog(getLogger([ROOT, "daemon"]), {}),
    setLevels: configure,
    close: (timeoutMs) => queue.close(timeoutMs),
  };
}

const ROOT = "streaming-daemon";

class PartLog implements Log {
  readonly #logger: Logger;
  readonly #fields: LogFields;

  constructor(logger: Logger, fields: LogFields) {
    this.#logger = logger;
    this.#fields = fields;
  }

  debug(message: string, fields?: LogFields): void {
    this.#write("debug", message, fields);
  }

  info(message: string, fields?: LogFields): void {
    this.#write("info", message, fields);
  }

  warning(message: string, fields?: LogFields): void {
    this.#write("warning", message, fields);
  }

  error(message: string, fields?: LogFields): void {
    this.#write("error", message, fields);
  }

  child(part: string): Log {
    return new PartLog(getLogger([ROOT, part]), this.#fields);
  }

  with(fields: LogFields): Log {
    return new PartLog(this.#logger, { ...this.#fields, ...fields });
  }

  enabled(level: LogLevel): boolean {
    return this.#logger.isEnabledFor(level);
  }

  #write(level: LogLevel, message: string, fields: LogFields | undefined): void {
    if (this.#logger.isEnabledFor(level)) this.#logger[level](message, { ...this.#fields, ...fields });
  }
}

/** What waits for the writer at most. */
const MAX_WAITING_BYTES = 1_048_576;
/** PIPE_BUF of pipe(7): so much goes into a pipe whole, and lines of several isolates do not mix. */
const MAX_WRITE_BYTES = 4096;
/** Until the next try, where the other side made a pipe non-blocking and it is full. */
const RETRY_MS = 10;

/** Lines on their way out. */
class LineQueue {
  readonly #write: LogOutput["write"];
  readonly #droppedLine: (count: number) => string;
  #lines: Uint8Array[] = [];
  #waitingBytes = 0;
  #dropped = 0;
  #open = true;
  #writing: Promise<void> | undefined;

  /** @param droppedLine what to say about lines for which there was no room */
  constructor(write: LogOutput["write"], droppedLine: (count: number) => string) {
    this.#write = write;
    this.#droppedLine = droppedLine;
  }

  push(line: string): void {
    const bytes = new TextEncoder().encode(line);
    if (!this.#open || this.#waitingBytes + bytes.length > MAX_WAITING_BYTES) {
      this.#dropped++;
      return;
    }
    this.#lines.push(bytes);
    this.#waitingBytes += bytes.length;
    this.#writing ??= this.#writeLines();
  }

  async close(timeoutMs: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const timeout = new Promise<void>((resolve) => timer = setTimeout(resolve, timeoutMs));
    await Promise.race([this.#writing, timeout]);
    clearTimeout(timer);
    this.#open = false;
  }

  async #writeLines(): Promise<void> {
    await Promise.resolve(); // the lines of this turn go out together
    try {
      while (this.#lines.length > 0) {
        const lines = this.#lines;
        this.#lines = [];
        for (const batch of batches(lines)) {
          await this.#writeWhole(batch);
          this.#waitingBytes -= batch.length;
        }
        if (this.#dropped > 0) {
          const line = this.#droppedLine(this.#dropped);
          this.#dropped = 0;
          this.push(line);
        }
      }
    } catch {
      // Standard error is gone (EPIPE, EIO). There is no place left to say so, and the streams go on.
      this.#open = false;
    }
    this.#writing = undefined;
  }

  async #writeWhole(bytes: Uint8Array): Promise<void> {
    for (let written = 0; written < bytes.length;) {
      try {
        written += await this.#write(bytes.subarray(written));
      } catch (error) {
        if (!(error instanceof Deno.errors.WouldBlock)) throw error;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }
}

/** Joins whole lines to at most {@linkcode MAX_WRITE_BYTES}; a longer line stays alone. */
function* batches(lines: readonly Uint8Array[]): Generator<Uint8Array> {
  for (let from = 0; from < lines.length;) {
    let to = from;
    let length = 0;
    do length += lines[to++]?.length ?? 0; while (
      length + (lines[to]?.length ?? Infinity) <= MAX_WRITE_BYTES
    );
    const batch = new Uint8Array(length);
    let offset = 0;
    for (const line of lines.slice(from, to)) {
      batch.set(line, offset);
      offset += line.length;
    }
    yield batch;
    from = to;
  }
}

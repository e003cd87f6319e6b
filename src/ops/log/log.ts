/**
 * Structured logging to standard error, for people, for journald, or as JSON.
 *
 * Each isolate (main, workers) opens its own log once. Lines are gathered and written asynchronously, one write at
 * a time: a synchronous write to a full pipe would stop every stream of the isolate until someone reads. So that
 * nothing is lost at the end, {@linkcode OpenLog.close} waits (with a limit) for what is left: await it before
 * `Deno.exit` and before ending a worker.
 * @module
 */
import { fstatSync } from "node:fs";
import type { Config } from "../../config/load.ts";
import { LOG_LEVELS, type LogLevel, type LogPart } from "../../config/log_words.ts";
import { Floods } from "./floods.ts";
import { formatLine, type LogFields, type LogStyle } from "./format.ts";
import { LineQueue } from "./line_queue.ts";

export type { LogFields } from "./format.ts";

/** What a module logs with. */
export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  /** Of many equal ones within a second only the first are written, and how many more there were. */
  warning(message: string, fields?: LogFields): void;
  /** As for {@linkcode Log.warning}. */
  error(message: string, fields?: LogFields): void;
  /** The log of another part. The level of a part can be set on its own. */
  child(part: LogPart): Log;
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
  const journal = isJournal(env("JOURNAL_STREAM"));
  return {
    style: format === "json"
      ? journal ? "journal-json" : "json"
      : journal
      ? "journal"
      : Deno.stderr.isTerminal() && !Deno.noColor
      ? "colour"
      : "plain",
    write: (bytes) => Deno.stderr.write(bytes),
  };
}

/** Whether standard error leads to journald: what is started below a service inherits the variable (systemd.exec(5)). */
function isJournal(journalStream: string | undefined): boolean {
  if (!journalStream) return false;
  const { dev, ino } = fstatSync(2, { bigint: true });
  return journalStream === `${dev}:${ino}`;
}

/** Opens the log of this isolate. */
export function openLog(levels: LogLevels, output: LogOutput): OpenLog {
  const lines = new Lines(levels, output);
  return {
    log: new PartLog(lines, "daemon"),
    setLevels: (levels) => lines.setLevels(levels),
    close: (timeoutMs) => lines.close(timeoutMs),
  };
}

/** What the logs of all parts share. */
class Lines {
  readonly #style: LogStyle;
  readonly #queue: LineQueue;
  readonly #floods = new Floods();
  #leastOfParts!: Readonly<Record<string, number>>;
  #least!: number;

  constructor(levels: LogLevels, { style, write }: LogOutput) {
    this.#style = style;
    this.#queue = new LineQueue(write, (count) =>
      formatLine({
        timeMs: Date.now(),
        level: "warning",
        part: "log",
        message: "lines were dropped, since nobody reads the log fast enough",
        fields: { count },
      }, style));
    this.setLevels(levels);
  }

  setLevels({ level, parts }: LogLevels): void {
    this.#least = LOG_LEVELS.indexOf(level);
    this.#leastOfParts = Object.fromEntries(
      Object.entries(parts).map(([part, level]) => [part, LOG_LEVELS.indexOf(level)]),
    );
  }

  shows(level: LogLevel, part: LogPart): boolean {
    return LOG_LEVELS.indexOf(level) >= (this.#leastOfParts[part] ?? this.#least);
  }

  write(level: LogLevel, part: LogPart, message: string, fields: LogFields | undefined): void {
    this.#queue.push(formatLine({ timeMs: Date.now(), level, part, message, fields }, this.#style));
  }

  /** The same, for what may come in floods, and may be the last that is heard of a process. */
  writeSome(level: LogLevel, part: LogPart, message: string, fields: LogFields | undefined): void {
    const reason = fields?.["reason"] ?? fields?.["kind"] ?? ""; // words of a closed set, as a rule
    const sumUp = (more: number) =>
      this.write(
        level,
        part,
        `${message} … and ${more.toLocaleString("en")} more`,
        reason === "" ? undefined : { reason },
      );
    if (!this.#floods.admits(`${part} ${message} ${reason}`, sumUp)) return;
    this.write(level, part, message, fields);
    this.#queue.hurry();
  }

  async close(timeoutMs: number): Promise<void> {
    this.#floods.end();
    await this.#queue.close(timeoutMs);
  }
}

class PartLog implements Log {
  readonly #lines: Lines;
  readonly #part: LogPart;

  constructor(lines: Lines, part: LogPart) {
    this.#lines = lines;
    this.#part = part;
  }

  debug(message: string, fields?: LogFields): void {
    if (this.enabled("debug")) this.#lines.write("debug", this.#part, message, fields);
  }

  info(message: string, fields?: LogFields): void {
    if (this.enabled("info")) this.#lines.write("info", this.#part, message, fields);
  }

  warning(message: string, fields?: LogFields): void {
    if (this.enabled("warning")) this.#lines.writeSome("warning", this.#part, message, fields);
  }

  error(message: string, fields?: LogFields): void {
    if (this.enabled("error")) this.#lines.writeSome("error", this.#part, message, fields);
  }

  child(part: LogPart): Log {
    return new PartLog(this.#lines, part);
  }

  enabled(level: LogLevel): boolean {
    return this.#lines.shows(level, this.#part);
  }
}

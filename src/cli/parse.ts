/**
 * The command line: arguments to a value that says what to do. Nothing is printed and nothing ends here.
 * @module
 */
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import denoJson from "../../deno.json" with { type: "json" };
import type { FlagValue } from "../config/load.ts";

/** The version of the daemon. */
export const VERSION: string = denoJson.version;

/**
 * For `Command.configureOutput` of every program here: Commander would ask the environment and the terminal for colours
 * and width, and the sandbox denies the first.
 */
export const PLAIN_OUTPUT = {
  getOutHasColors: () => false,
  getErrHasColors: () => false,
  getOutHelpWidth: () => 100,
  getErrHelpWidth: () => 100,
} as const;

/** Start the daemon. */
export interface StartCommand {
  readonly command: "start";
  readonly configPath?: string;
  /** For `loadConfig`. */
  readonly flags: readonly FlagValue[];
  /** No metrics on the hot path, a summary at exit. */
  readonly benchmark: boolean;
}

/** Check the configuration and print it as it would be used. */
export interface CheckCommand {
  readonly command: "check";
  readonly configPath?: string;
  readonly flags: readonly FlagValue[];
}

/** Play Apache: hand a client to a running daemon and show the answer. */
export interface TryCommand {
  readonly command: "try";
  readonly configPath?: string;
  /** Where to connect; absent: as the configuration says. */
  readonly socketPath?: string;
  /** Whether the socket is of type SOCK_STREAM (else SOCK_SEQPACKET). */
  readonly stream: boolean;
  /** The handoff's data; empty: the daemon's defaults. */
  readonly data: Readonly<Record<string, unknown>>;
  /** How long the whole answer may take. */
  readonly timeoutMs: number;
}

/** Ask a running daemon how it is. */
export interface StatusCommand {
  readonly command: "status";
  readonly configPath?: string;
  /** Whether to print what it says as it comes, for programs. */
  readonly json: boolean;
}

/** Print the permissions that a command line needs. */
export interface PermissionsCommand {
  readonly command: "permissions";
  /** That command line. */
  readonly args: readonly string[];
}

/** Print and end: help, the version, or what is wrong with the flags. */
export interface ExitCommand {
  readonly command: "exit";
  readonly exitCode: 0 | 2;
  readonly stdout: string;
  readonly stderr: string;
}

/** What the command line asks for. */
export type CliCommand =
  | StartCommand
  | CheckCommand
  | TryCommand
  | StatusCommand
  | PermissionsCommand
  | ExitCommand;

interface RootOptions {
  readonly socket?: string;
  readonly backend?: string;
  readonly debug?: true;
  readonly check?: true;
  readonly benchmark?: true;
}

interface TryOptions {
  readonly socket?: string;
  readonly stream?: true;
  readonly config?: string;
  readonly model?: string;
  readonly messages?: unknown[];
  readonly data?: Record<string, unknown>;
  readonly timeout: number;
}

/**
 * Reads the command line.
 *
 * @param args what follows the program's name
 * @returns what to do; bad flags are an `exit` with code 2
 */
export function parseCli(args: readonly string[]): CliCommand {
  let result: CliCommand | undefined;
  let stdout = "";
  let stderr = "";

  const program = new Command("streaming-daemon-ts")
    .exitOverride()
    .configureOutput({
      writeOut: (text) => stdout += text,
      writeErr: (text) => stderr += text,
      ...PLAIN_OUTPUT,
    })
    .showHelpAfterError("(--help shows what there is)")
    .enablePositionalOptions()
    .description("Takes client sockets handed over by Apache and streams a language model's answers to them.")
    .version(`streaming-daemon-ts ${VERSION}`, "-V, --version", "print the version")
    .helpOption("-h, --help", "print this help")
    .argument("[CONFIG]", "configuration file (TOML); without one: defaults and environment")
    .option("-s, --socket <PATH>", "server.socket_path")
    .option("-b, --backend <NAME>", "backend.provider")
    .option("-d, --debug", "logging.level = debug")
    .option("--check", "validate the configuration, print it as it would be used, exit")
    .option("--benchmark", "no metrics on the hot path; a summary at exit")
    .action((configPath: string | undefined, options: RootOptions) => {
      const common = { ...given("configPath", configPath), flags: configFlags(options) };
      result = options.check
        ? { command: "check", ...common }
        : { command: "start", ...common, benchmark: options.benchmark ?? false };
    });

  program.command("try")
    .description("Play Apache: hand one end of a socketpair to a running daemon and print the answer.")
    .argument("[PROMPT]", "what to ask; without one: what the daemon asks by default")
    .option("-s, --socket <PATH>", "where to connect (default: as configured)")
    .option("--stream", "the socket is of type SOCK_STREAM (default: SOCK_SEQPACKET)")
    .option("--config <PATH>", "configuration file to take the socket's path from")
    .option("--model <NAME>", "field model")
    .option("--messages <JSON>", "field messages: an array of {role, content}", parseArray)
    .option("--data <JSON>", "the whole handoff data; the other flags add to it", parseObject)
    .addOption(
      new Option("--timeout <SECS>", "how long the whole answer may take").default(60).argParser(parseSecs),
    )
    .action((prompt: string | undefined, options: TryOptions) => {
      const { socket, ...others } = program.opts<RootOptions>();
      const [other] = Object.keys(others);
      if (other !== undefined) program.error(`error: --${other} is not for try`);
      result = {
        command: "try",
        ...given("configPath", options.config),
        ...given("socketPath", options.socket ?? socket),
        stream: options.stream ?? false,
        data: {
          ...options.data,
          ...given("prompt", prompt),
          ...given("model", options.model),
          ...given("messages", options.messages),
        },
        timeoutMs: Math.round(options.timeout * 1000),
      };
    });

  program.command("status")
    .description("Ask a running daemon how it is: streams, workers, providers, the configuration in force.")
    .option("--config <PATH>", "configuration file to take metrics.listen_addr from")
    .option("--json", "as JSON")
    .action((options: { readonly config?: string; readonly json?: true }) => {
      const [other] = Object.keys(program.opts());
      if (other !== undefined) program.error(`error: --${other} is not for status`);
      result = { command: "status", ...given("configPath", options.config), json: options.json ?? false };
    });

  program.command("permissions")
    .description(
      "Print the flags of deno run that a command line needs, one a line: permissions [OPTIONS] [CONFIG].",
    )
    .argument("[ARGS...]", "the command line; after --, if it may begin with --help")
    .passThroughOptions()
    .allowUnknownOption()
    .action((args: string[]) => {
      result = { command: "permissions", args };
    });

  try {
    program.parse(args, { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    return { command: "exit", exitCode: error.exitCode === 0 ? 0 : 2, stdout, stderr };
  }
  if (result === undefined) throw new TypeError("the command line matched no command");
  return result;
}

function configFlags(options: RootOptions): FlagValue[] {
  const flags: FlagValue[] = [];
  if (options.socket !== undefined) {
    flags.push({ key: "server.socket_path", flag: "--socket", text: options.socket });
  }
  if (options.backend !== undefined) {
    flags.push({ key: "backend.provider", flag: "--backend", text: options.backend });
  }
  if (options.debug) flags.push({ key: "logging.level", flag: "--debug", text: "debug" });
  return flags;
}

/** An object with the property, or without it where there is no value. */
function given<Name extends string, Value>(
  name: Name,
  value: Value | undefined,
): { [_ in Name]?: Value } {
  return (value === undefined ? {} : { [name]: value }) as { [_ in Name]?: Value };
}

function parseArray(text: string): unknown[] {
  const value = parseJson(text);
  if (!Array.isArray(value)) throw new InvalidArgumentError("A JSON array is expected.");
  return value;
}

function parseObject(text: string): Record<string, unknown> {
  const value = parseJson(text);
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new InvalidArgumentError("A JSON object is expected.");
  }
  return value as Record<string, unknown>;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new InvalidArgumentError(`JSON is expected (${cause instanceof Error ? cause.message : cause}).`);
  }
}

function parseSecs(text: string): number {
  const secs = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (!(secs >= 0.001 && secs <= 86_400)) {
    throw new InvalidArgumentError("A number of seconds from 0.001 to 86400 is expected.");
  }
  return secs;
}

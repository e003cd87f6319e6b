/**
 * The command line as its own help describes it, for the man page and for completion.
 * @module
 */
import { parseCli } from "../../src/cli/parse.ts";

/** Something in a list of the help: an option such as `-s, --socket <PATH>`, an argument or a command. */
export interface Entry {
  readonly term: string;
  readonly text: string;
}

/** The program itself, or one of its commands. */
export interface CommandHelp {
  /** Without the program's name; empty for the program itself. */
  readonly name: string;
  /** What follows the program's name. */
  readonly usage: string;
  readonly summary: string;
  readonly arguments: readonly Entry[];
  readonly options: readonly Entry[];
}

/** The program, and then its commands. */
export function commandLine(): CommandHelp[] {
  const [program, commands] = helpOf("");
  return [program, ...commands.map(({ term }) => helpOf(term.split(" ")[0] as string)[0])];
}

function helpOf(name: string): [CommandHelp, Entry[]] {
  const cli = parseCli(name === "" ? ["--help"] : [name, "--help"]);
  if (cli.command !== "exit" || cli.exitCode !== 0) throw new Error(`"${name} --help" gives no help`);
  const [usage = "", summary = "", ...lists] = cli.stdout.trimEnd().split("\n\n");
  const list = (title: string): Entry[] =>
    entries(lists.find((each) => each.startsWith(`${title}:\n`)) ?? "");
  return [{
    name,
    usage: usage.replace(/^Usage: streaming-daemon-ts /, ""),
    summary: summary.replaceAll("\n", " "),
    arguments: list("Arguments"),
    options: list("Options"),
  }, list("Commands")];
}

function entries(list: string): Entry[] {
  const found: { term: string; text: string }[] = [];
  for (const line of list.split("\n").slice(1)) {
    const [, term, text] = /^ {2}(\S.*?) {2,}(\S.*)$/.exec(line) ?? [];
    if (term !== undefined && text !== undefined) found.push({ term, text });
    else (found.at(-1) as { text: string }).text += ` ${line.trim()}`;
  }
  return found;
}

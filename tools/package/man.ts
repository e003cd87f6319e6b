/**
 * The man pages (man(7)), from the program's own help and table of configuration keys, so that they cannot go stale.
 * @module
 */
import { VERSION } from "../../src/cli/parse.ts";
import { allKeys, describeConfig, loadConfig } from "../../src/config/load.ts";
import { type CommandHelp, commandLine, type Entry } from "./command_line.ts";

/** streaming-daemon-ts(8). The date is in seconds since 1970. */
export function programPage(dateSecs: number): string {
  const [program, ...commands] = commandLine() as [CommandHelp, ...CommandHelp[]];
  return [
    head("STREAMING-DAEMON-TS", 8, dateSecs),
    section(
      "NAME",
      "streaming-daemon-ts \\- streams answers of a language model to clients handed over by Apache",
    ),
    ".SH SYNOPSIS",
    ...[program, ...commands].map(({ usage }) => `.B streaming-daemon-ts\n${roff(usage)}\n.br`),
    section(
      "DESCRIPTION",
      roff(
        "Apache and PHP decide who may ask and what, hand the client's socket over to this daemon on a Unix socket, and " +
          "are free for the next request at once. The daemon asks a language model and streams the answer to the client " +
          "as Server-Sent Events. It runs in a sandbox that its configuration decides: it reaches the hosts, sockets " +
          "and files named there and no others, so that another provider takes a restart.",
      ),
    ),
    ".SH OPTIONS",
    ...[...program.arguments, ...program.options].map(tagged),
    ".SH COMMANDS",
    ...commands.flatMap(({ usage, summary, arguments: args, options }) => [
      `.SS "${roff(usage)}"`,
      roff(summary),
      ...[...args, ...options].map(tagged),
    ]),
    ".SH SIGNALS",
    ...[
      {
        term: "SIGTERM, SIGINT",
        text:
          "Take what waits, stop listening, let streams finish within server.shutdown_timeout_secs, and end with 0. " +
          "A second one ends at once.",
      },
      {
        term: "SIGHUP",
        text: "Read the configuration again. One that does not hold leaves the old one in force.",
      },
    ].map(tagged),
    ".SH EXIT STATUS",
    ...[
      { term: "0", text: "A clean end." },
      { term: "1", text: "A failure at run time." },
      { term: "2", text: "Bad flags or configuration." },
    ].map(tagged),
    ".SH FILES",
    ...[
      { term: "/etc/streaming-daemon-ts/daemon.toml", text: "The configuration that the service runs with." },
      {
        term: "/etc/streaming-daemon-ts/environment",
        text: "Variables for the service, such as OPENAI_API_KEY=…; readable by root alone.",
      },
      {
        term: "/run/streaming-daemon-ts/daemon.sock",
        text: "Handoffs from mod_socket_handoff (SOCK_SEQPACKET).",
      },
      {
        term: "/run/streaming-daemon-ts/daemon.sock.stream",
        text: "Handoffs from mod_proxy_fdpass (SOCK_STREAM).",
      },
      {
        term: "/usr/share/doc/streaming-daemon-ts/examples/",
        text: "A site for Apache, PHP, a Grafana dashboard, alert rules for Prometheus.",
      },
    ].map(tagged),
    ".SH SEE ALSO",
    ".BR daemon.toml (5),",
    ".BR streaming-daemon-ts-roll (8)",
    "",
  ].join("\n");
}

/** streaming-daemon-ts-roll(8). */
export function rollPage(dateSecs: number): string {
  return [
    head("STREAMING-DAEMON-TS-ROLL", 8, dateSecs),
    section("NAME", "streaming-daemon-ts-roll \\- replaces the running daemon without one handoff refused"),
    section("SYNOPSIS", ".B streaming-daemon-ts-roll"),
    section(
      "DESCRIPTION",
      roff(
        "Starts a helper, streaming-daemon-ts@0.service, on the sockets of streaming-daemon-ts.socket, and waits until it " +
          "takes handoffs. Then restarts streaming-daemon-ts.service, and each further instance of " +
          "streaming-daemon-ts@.service that runs, one after the other: each lets its streams finish within " +
          "server.shutdown_timeout_secs, while the others take what comes. At the end the helper drains and goes. An " +
          "upgrade of the package does the same.",
      ),
    ),
    ".SH EXIT STATUS",
    tagged({ term: "0", text: "The new process takes handoffs." }),
    tagged({
      term: "1",
      text:
        "A process does not start, for which the configuration is the likely reason. If it is the helper, nothing " +
        "has changed; if it is the daemon, the helper goes on taking handoffs.",
    }),
    ".SH SEE ALSO",
    ".BR streaming-daemon-ts (8)",
    "",
  ].join("\n");
}

/** daemon.toml(5). */
export async function configurationPage(dateSecs: number): Promise<string> {
  const defaults = describeConfig(
    await loadConfig({ env: () => undefined, readTextFile: () => Promise.resolve("") }),
  );
  const page = [
    head("DAEMON.TOML", 5, dateSecs),
    section("NAME", "daemon.toml \\- configuration of streaming-daemon-ts"),
    section(
      "DESCRIPTION",
      roff(
        "A TOML file. Later wins: defaults, this file, the environment, the flags. Seconds can be fractions. After a " +
          "SIGHUP the daemon takes over what does not say “restart”. A table [backends.NAME] is a further backend, with " +
          "the keys of [backend] except selectable; the variable of one is DAEMON_BACKENDS_, the name and the key's " +
          "place below it, in capitals with _ for - and the dots.",
      ),
    ),
  ];
  let table = "";
  for (const { path, key } of allKeys()) {
    const ownTable = path.slice(0, path.lastIndexOf("."));
    if (ownTable !== table) page.push(`.SH "[${table = ownTable}]"`);
    const value = new RegExp(`^${key.name} = (.*) # default$`, "m").exec(tableOf(defaults, table))?.[1] ?? "";
    page.push(tagged({
      term: `${key.name} = ${value}`,
      text: `${key.doc} Environment: ${key.env}. Expected: ${key.type.expected}.${
        key.restart ? " (restart)" : ""
      }`,
    }));
  }
  page.push(
    ".SH FILES",
    "/etc/streaming-daemon-ts/daemon.toml",
    ".SH SEE ALSO",
    ".BR streaming-daemon-ts (8)",
    "",
  );
  return page.join("\n");
}

function tableOf(toml: string, table: string): string {
  return toml.split("\n\n").find((each) => each.startsWith(`[${table}]\n`)) ?? "";
}

function head(name: string, section: number, dateSecs: number): string {
  const date = new Date(dateSecs * 1000).toISOString().slice(0, 10);
  return `.TH ${name} ${section} ${date} "streaming-daemon-ts ${VERSION}"`;
}

function section(title: string, text: string): string {
  return `.SH ${title}\n${text}`;
}

function tagged({ term, text }: Entry): string {
  return `.TP\n.B ${roff(term)}\n${roff(text)}`;
}

/** Text as roff has it: dashes and quotes, at which a macro's arguments part, stay; and no line begins a request. */
function roff(text: string): string {
  return text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll('"', "\\(dq")
    .replace(/^([.'])/gm, "\\&$1");
}

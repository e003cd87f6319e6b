/**
 * The real daemon as a process of its own, in its sandbox, on sockets in a folder of its own:
 *
 * ```ts
 * await using daemon = await startDaemon();
 * using client = daemon.handOff({ prompt: "Hi" });
 * const answer = await client.readAll();
 * ```
 * @module
 */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };
import { comeUp } from "./come_up.ts";
import { witnesses } from "./last_words.ts";
import { TextLineStream } from "./lines.ts";
import { daemonPermissions, permissionFlags } from "../../src/cli/permissions.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { SocketKind } from "../../src/native/acceptor.ts";
import { handOff } from "../../src/native/sender.ts";
import { type ClientEnds, pairEnds, type TestClient } from "./clients.ts";

/** How long the daemon may take for what a test waits for. */
const WAIT_MS = 20_000;
const POLL_MS = 10;
// One connection to a daemon stays open, and never two, whenever each answer was read: descriptors are counted.
const ADMIN_CLIENT = Deno.createHttpClient({ poolMaxIdlePerHost: 1 });

/** What differs from a daemon with the mock backend at 5 ms a piece, one worker and JSON logs. */
export interface DaemonSetup {
  /** `undefined` takes a variable out that is set otherwise. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  readonly args?: readonly string[];
  /** Flags in place of those that `deno task start` has of the same name, such as `--allow-net=…`, or besides. */
  readonly permissions?: readonly string[];
  /** The program's module; by default the one of this checkout. */
  readonly main?: string;
  /** Whether it has the backend of `unruly_backend.ts` in the place of the mock one. */
  readonly unruly?: true;
  /** What the daemon runs below: `["prlimit", "--nofile=100"]`. */
  readonly wrapper?: readonly string[];
}

/** A line of the daemon's JSON log. */
export interface LogLine {
  readonly level: string;
  readonly part: string;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

const ROOT = new URL("../../", import.meta.url);
const DEFAULTS = await loadConfig({ env: () => undefined, readTextFile: () => Promise.reject(new Error()) });

const LAUNCH = Deno.readTextFileSync(new URL("tools/launch", ROOT));

/** What `deno task start` has in the environment besides. */
const LAUNCH_ENV = Object.fromEntries(
  LAUNCH.matchAll(/^export (\w+)=(\w+)$/gm).map(([, name, value]) => [name, value]),
);

/**
 * The flags that `deno task start` gives to `deno run` under the default configuration, with some replaced by name, or
 * added; of two, the first counts.
 */
export function startFlags(others: readonly string[] = []): string[] {
  const fixed = /^exec "\$deno" run (.*) \$permissions /m.exec(LAUNCH)?.[1];
  assert(fixed !== undefined);
  const words = [
    ...fixed.split(" "),
    ...permissionFlags(daemonPermissions({ ...DEFAULTS, proxies: {} })),
  ];
  const nameOf = (flag: string) => flag.split("=")[0];
  const known = words.map(nameOf);
  return [
    ...words.map((flag) => others.find((each) => nameOf(each) === nameOf(flag)) ?? flag),
    ...others.filter((each, index) =>
      !known.includes(nameOf(each)) && others.findIndex((other) => nameOf(other) === nameOf(each)) === index
    ),
  ];
}

/** The flag of that name that `deno task start` gives under the default configuration: `--allow-read=…`. */
export function allowFlag(name: string): string {
  const flag = startFlags().find((each) => each.startsWith(`--allow-${name}=`));
  assert(flag !== undefined);
  return flag;
}

/** Starts a daemon and waits until it takes handoffs. */
export function startDaemon(setup: DaemonSetup = {}): Promise<TestDaemon> {
  return comeUp(spawnDaemon(setup), (daemon) => daemon.logged("Taking handoffs"));
}

/** Starts a daemon that may not come up. */
export function spawnDaemon(setup: DaemonSetup = {}): TestDaemon {
  const folder = Deno.makeTempDirSync({ prefix: "daemon-test-" });
  const command = [
    ...setup.wrapper ?? [],
    Deno.execPath(),
    "run",
    ...startFlags([
      ...setup.unruly === undefined ? [] : unrulyFlags(folder, setup.permissions),
      ...setup.permissions ?? [],
      "--allow-net=127.0.0.1",
    ]),
    setup.main ?? "main.ts",
    ...setup.args ?? [],
  ];
  const process = new Deno.Command(command[0] as string, {
    args: command.slice(1),
    cwd: ROOT,
    env: Object.fromEntries(
      Object.entries({
        DAEMON_SOCKET_PATH: `${folder}/d.sock`,
        DAEMON_METRICS_ADDR: "127.0.0.1:0",
        DAEMON_WORKERS: "1",
        DAEMON_TOKEN_DELAY_MS: "5",
        DAEMON_LOG_FORMAT: "json",
        ...LAUNCH_ENV,
        ...setup.env,
      }).filter((each): each is [string, string] => each[1] !== undefined),
    ),
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  return new TestDaemon(process, folder);
}

/** Puts the unruly backend into the mock backend's place, in the workers as well. */
function unrulyFlags(folder: string, permissions: readonly string[] = []): string[] {
  const url = (path: string): string => new URL(path, ROOT).href;
  const imports: Record<string, string> = {
    [url("src/backend/mock.ts")]: url("tests/support/unruly_backend.ts"),
  };
  for (const [name, target] of Object.entries(denoJson.imports)) {
    imports[name] = target;
    imports[`${name}/`] = `${target.replace("npm:", "npm:/")}/`;
  }
  const path = `${folder}/imports.json`;
  Deno.writeTextFileSync(path, JSON.stringify({ imports }));
  const read = [...permissions, ...startFlags()].find((flag) => flag.startsWith("--allow-read="));
  return [`--import-map=${path}`, `${read},tests/support,${folder}`];
}

/** A daemon that ends with its test. */
export class TestDaemon implements AsyncDisposable {
  readonly pid: number;
  /** Where it listens; a test with sockets from systemd sets it. */
  socketPath: string;
  readonly folder: string;
  /** Every line of its standard error so far. */
  readonly stderr: string[] = [];
  /** Its test has done with it. */
  isOver = false;
  readonly #process: Deno.ChildProcess;
  readonly #reading: Promise<void>;
  #news = Promise.withResolvers<void>();
  #ended = false;

  constructor(process: Deno.ChildProcess, folder: string) {
    this.#process = process;
    this.pid = process.pid;
    this.folder = folder;
    this.socketPath = `${folder}/d.sock`;
    this.#reading = this.#read();
    witnesses.add(this);
  }

  async #read(): Promise<void> {
    const lines = this.#process.stderr.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream());
    for await (const line of lines) {
      this.stderr.push(line);
      this.#tell();
    }
    await this.#process.status;
    this.#ended = true;
    this.#tell();
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** The lines of its log so far. */
  get log(): LogLine[] {
    return this.stderr.filter((line) => line.startsWith("{")).map((line) => ({
      fields: {},
      ...JSON.parse(line),
    }));
  }

  /** Waits for the first line of the log whose message is or matches `message`. */
  async logged(message: string | RegExp): Promise<LogLine> {
    const matches = (line: LogLine) =>
      typeof message === "string" ? line.message === message : message.test(line.message);
    let line: LogLine | undefined;
    await this.until(`the log line ${message}`, () => {
      line = this.log.find(matches);
      if (line === undefined && this.#ended) throw new Error(`The daemon ended:\n${this.stderr.join("\n")}`);
      return line !== undefined;
    }, () => this.#news.promise);
    return line as LogLine;
  }

  /** Waits until `holds`, asked again after each line of the log, or every few milliseconds. */
  async until(
    what: string,
    holds: () => boolean | Promise<boolean>,
    news?: () => Promise<unknown>,
  ): Promise<void> {
    const timers = new Set<ReturnType<typeof setTimeout>>();
    const after = (delayMs: number) =>
      new Promise<void>((resolve) => timers.add(setTimeout(resolve, delayMs)));
    const tooLate = after(WAIT_MS).then(() => "late");
    try {
      while (true) {
        const next = news?.(); // before the question, so that nothing is missed in between
        if (await holds()) return;
        if (await Promise.race([next ?? after(POLL_MS), tooLate]) === "late") {
          throw new Error(`Waited ${WAIT_MS} ms for ${what}; the log:\n${this.stderr.join("\n")}`);
        }
      }
    } finally {
      for (const timer of timers) clearTimeout(timer);
    }
  }

  /** The path of the socket of a kind. */
  pathOf(kind: SocketKind): string {
    return kind === "stream" ? `${this.socketPath}.stream` : this.socketPath;
  }

  /**
   * Plays Apache: hands one end over, gives back the other.
   *
   * @param data JSON of an object, or bytes as they are; absent: none, which is one NUL byte on the wire
   */
  handOff(
    data?: Readonly<Record<string, unknown>> | Uint8Array<ArrayBuffer>,
    { kind = "seqpacket", ends = pairEnds() }: { kind?: SocketKind; ends?: ClientEnds } = {},
  ): TestClient {
    const bytes = data instanceof Uint8Array
      ? data
      : new TextEncoder().encode(data === undefined ? "" : JSON.stringify(data));
    try {
      handOff(this.pathOf(kind), kind, bytes, ends.far);
    } finally {
      ends.far.close();
    }
    return ends.near;
  }

  /** A page of its admin server. */
  async page(path: string): Promise<Response> {
    const { fields } = await this.logged("Taking handoffs");
    return await fetch(new URL(path, fields["metrics"] as string), { client: ADMIN_CLIENT });
  }

  /** The value of a metric; 0 if it has no such series. */
  async metric(name: string, labels: Readonly<Record<string, string>> = {}): Promise<number> {
    const wanted = Object.entries(labels).map(([label, value]) => `${label}="${value}"`);
    const text = await (await this.page("/metrics")).text();
    const line = text.split("\n").find((line) =>
      line.startsWith(name) && /^[{ ]/.test(line.slice(name.length)) &&
      wanted.every((each) => line.includes(each))
    );
    return line === undefined ? 0 : Number(line.slice(line.lastIndexOf(" ")));
  }

  /** How many fds it has open, by /proc. */
  openFds(): number {
    return [...Deno.readDirSync(`/proc/${this.pid}/fd`)].length;
  }

  /** Waits until it has no more fds open than `count`. */
  async fdsBackTo(count: number): Promise<void> {
    try {
      await this.until(`${count} open fds`, () => this.openFds() <= count);
    } catch (error) {
      const folder = `/proc/${this.pid}/fd`;
      const open = [...Deno.readDirSync(folder)].map(({ name }) =>
        `${name} ${Deno.readLinkSync(`${folder}/${name}`)}`
      );
      throw new Error(`More than ${count} descriptors stay open:\n${open.join("\n")}`, { cause: error });
    }
  }

  signal(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  /** Waits for its end. Returns the exit code. */
  async exit(): Promise<number> {
    await this.until("the daemon's end", () => this.#ended, () => this.#news.promise);
    return (await this.#process.status).code;
  }

  /** Ends it by force if it has not ended, and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#ended) {
      try {
        this.#process.kill("SIGKILL");
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has just ended
      }
    }
    this.isOver = true;
    await this.#reading;
    await Deno.remove(this.folder, { recursive: true });
  }
}

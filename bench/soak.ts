/**
 * `deno task soak [MINUTES]`: a daemon at half of its highest rate for an hour, or as long as is said, with clients that
 * leave or read slowly, a scrape each second, a reload each minute, and each five minutes a second daemon on the same
 * socket that comes, serves and goes as in a roll; then the slope of its memory over the last half, and its descriptors
 * when all have gone.
 * @module
 */
import { setTimeout } from "node:timers/promises";
import { TextLineStream } from "../tests/support/lines.ts";
import { build, play } from "./loadgen.ts";
import { slope } from "./slope.ts";

const EVENTS = 19;
const INTERVAL_MS = 300;
/** Together half of the 40,000 events a second at which one process keeps its pace. */
const LOADS = 2;
const CLIENTS_PER_SEC = 525;
/** A load begins anew after so many clients. */
const CLIENTS = 6300;
/** Longer than the generator's own limit. */
const LOAD_MS = 150_000;
const LEAVERS = 126;
const SLOW_READERS = 12;
const SCRAPE_MS = 1_000;
const RELOAD_MS = 60_000;
const ROLL_MS = 240_000;
const ROLL_SERVES_MS = 60_000;
const SAMPLE_MS = 5_000;
const WAIT_MS = 20_000;

const METRICS = "127.0.0.1:9391";
const ROLL_METRICS = "127.0.0.1:9392";
const print = (text: string): void => void Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));

/** A look at the process. */
interface Sample {
  readonly hours: number;
  readonly rssMib: number;
}

const ENDS = ["complete", "broken", "lost", "refused", "left"] as const;

/** What became of clients, added up over all loads. */
interface Streams extends Record<typeof ENDS[number], number> {
  /** Why some were broken, lost or refused. */
  readonly reasons: Record<string, number>;
}

/**
 * Holds a listening socket and passes it to a daemon for each line of its input, the address of its metrics; prints the
 * daemon's process id (sd_listen_fds(3)). It waits for them all.
 */
const PARENT = `
  use Socket; $^F = 100; $| = 1; $SIG{CHLD} = "IGNORE";
  my $path = shift @ARGV;
  socket(my $socket, AF_UNIX, SOCK_SEQPACKET, 0) or die $!;
  fileno($socket) == 3 or die "the listener is not descriptor 3";
  bind($socket, sockaddr_un($path)) && listen($socket, 1024) or die $!;
  while (my $address = <STDIN>) {
    chomp $address;
    defined(my $pid = fork()) or die $!;
    if (!$pid) {
      @ENV{"LISTEN_FDS", "LISTEN_PID", "DAEMON_METRICS_ADDR"} = (1, $$, $address);
      exec @ARGV;
    }
    print "$pid\n";
  }
  1 while wait() > 0;
`;

/** Runs a load after the other until the time is over; `streams` has what came of all. */
async function load(socket: string, over: AbortSignal, streams: Streams): Promise<void> {
  while (!over.aborted) {
    const flags = {
      clients: CLIENTS,
      rate: CLIENTS_PER_SEC,
      "interval-ms": INTERVAL_MS,
      "expect-events": EVENTS,
      leavers: LEAVERS,
      "slow-readers": SLOW_READERS,
      "settle-secs": 0,
      "after-secs": 0,
    };
    const signal = AbortSignal.timeout(LOAD_MS);
    const { streams: ends } = await play(["--socket", socket], flags, { signal });
    for (const end of ENDS) streams[end] += ends[end];
    for (const [why, count] of Object.entries(ends.reasons)) {
      streams.reasons[why] = (streams.reasons[why] ?? 0) + count;
    }
  }
}

/** Does something at a pace until the time is over. Returns how often. */
async function each(ms: number, over: AbortSignal, act: () => Promise<void> | void): Promise<number> {
  let times = 0;
  for (; !over.aborted; times++) {
    await act();
    await rest(ms, over);
  }
  return times;
}

function look(pid: number, begunMs: number): Sample {
  const rssKib = /^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))?.[1];
  return { hours: (performance.now() - begunMs) / 3_600_000, rssMib: Number(rssKib) / 1024 };
}

const descriptors = (pid: number): number => [...Deno.readDirSync(`/proc/${pid}/fd`)].length;

/** Waits until a page answers as it should. */
async function until(path: string, holds: (text: string) => boolean, address = METRICS): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (true) {
    try {
      if (holds(await (await fetch(`http://${address}${path}`)).text())) return;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // nobody listens yet
    }
    if (performance.now() > endMs) throw new Error(`Waited ${WAIT_MS} ms for ${path}`);
    await setTimeout(100);
  }
}

function tell(samples: readonly Sample[]): void {
  const tenth = Math.max(1, Math.floor(samples.length / 10));
  print("| minutes | memory, MiB |\n| ------- | ----------- |");
  for (let index = 0; index < samples.length; index += tenth) {
    const { hours, rssMib } = samples[index] as Sample;
    print(`| ${(hours * 60).toFixed(1)} | ${rssMib.toFixed(1)} |`);
  }
  const half = samples.slice(Math.floor(samples.length / 2));
  const { value, error } = slope(half.map(({ hours, rssMib }) => [hours, rssMib]));
  print(`Memory in the last half: ${value.toFixed(2)} ± ${error.toFixed(2)} MiB an hour`);
}

/** Waits for so long, or until the time is over. */
const rest = (ms: number, signal: AbortSignal): Promise<void> =>
  setTimeout(ms, undefined, { signal }).catch(() => {});

/** Starts daemons on one socket. */
class Daemons {
  readonly #parent: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;

  constructor(socket: string) {
    this.#parent = new Deno.Command("perl", {
      args: ["-e", PARENT, socket, "sh", "tools/launch", Deno.execPath(), "main.ts"],
      env: {
        DAEMON_TOKEN_DELAY_MS: `${INTERVAL_MS}`,
        DAEMON_WORKERS: "1",
        DAEMON_WRITE_TIMEOUT_SECS: "5",
      },
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#input = this.#parent.stdin.getWriter();
    const text = this.#parent.stdout.pipeThrough(new TextDecoderStream());
    this.#lines = text.pipeThrough(new TextLineStream()).getReader();
  }

  /** Resolves with the process that takes handoffs. */
  async start(metrics: string): Promise<number> {
    await this.#input.write(new TextEncoder().encode(`${metrics}\n`));
    const pid = Number((await this.#lines.read()).value);
    await until("/readyz", (text) => text === "ready\n", metrics);
    return pid;
  }

  /** Those that were started have to end by themselves. */
  async ended(): Promise<void> {
    await this.#input.close();
    await this.#parent.status;
  }
}

/** A second daemon comes, takes its share, and lets its streams end. */
async function roll(daemons: Daemons, over: AbortSignal): Promise<void> {
  await rest(ROLL_MS, over);
  if (over.aborted) return;
  const pid = await daemons.start(ROLL_METRICS);
  await rest(ROLL_SERVES_MS, over);
  Deno.kill(pid, "SIGTERM");
}

async function soak(minutes: number): Promise<void> {
  await build(["loadgen"], AbortSignal.timeout(600_000));
  const folder = await Deno.makeTempDir({ prefix: "soak-" });
  const socket = `${folder}/daemon.sock`;
  const daemons = new Daemons(socket);
  const pid = await daemons.start(METRICS);
  try {
    const before = descriptors(pid);
    const begunMs = performance.now();
    const over = AbortSignal.timeout(minutes * 60_000);
    const streams: Streams = { complete: 0, broken: 0, lost: 0, refused: 0, left: 0, reasons: {} };
    const samples: Sample[] = [];
    const [scrapes, reloads, rolls] = await Promise.all([
      each(SCRAPE_MS, over, async () => void await (await fetch(`http://${METRICS}/metrics`)).text()),
      each(RELOAD_MS, over, () => Deno.kill(pid, "SIGHUP")),
      each(0, over, () => roll(daemons, over)),
      each(SAMPLE_MS, over, () => void samples.push(look(pid, begunMs))),
      ...Array.from({ length: LOADS }, () => load(socket, over, streams)),
    ]);
    await until("/metrics", (text) => text.includes("\ndaemon_connections_active 0\n"));
    tell(samples);
    print(`Descriptors: ${before} before, ${descriptors(pid)} after`);
    print(`${scrapes} scrapes, ${reloads} reloads, ${rolls} rolls; clients: ${JSON.stringify(streams)}`);
  } finally {
    Deno.kill(pid, "SIGTERM");
    await daemons.ended();
    await Deno.remove(folder, { recursive: true });
  }
}

const minutes = Number(Deno.args[0] ?? 60);
if (minutes > 0) await soak(minutes);
else {
  print(`MINUTES is ${Deno.args[0]}: expected a number above 0`);
  Deno.exit(2);
}

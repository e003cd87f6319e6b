/**
 * `deno task soak [MINUTES]`: a daemon at half of its highest rate for an hour, or as long as is said, with clients that
 * leave or read slowly, a scrape each second and a reload each minute; then the slope of its memory over the last half,
 * and its descriptors when all have gone.
 * @module
 */
import { build } from "./loadgen.ts";
import { slope } from "./slope.ts";

const EVENTS = 19;
const INTERVAL_MS = 300;
/** Together half of the 40,000 events a second at which one process keeps its pace. */
const LOADS = 2;
const CLIENTS_PER_SEC = 525;
/** A load begins anew after so many clients. */
const CLIENTS = 6300;
const LEAVERS = 126;
const SLOW_READERS = 12;
const SCRAPE_MS = 1_000;
const RELOAD_MS = 60_000;
const SAMPLE_MS = 5_000;
const WAIT_MS = 20_000;

const METRICS = "127.0.0.1:9391";
const print = (text: string): void => void Deno.stdout.writeSync(new TextEncoder().encode(`${text}\n`));

/** A look at the process. */
interface Sample {
  readonly hours: number;
  readonly rssMib: number;
}

/** What became of clients, added up over all loads. */
type Streams = Record<"complete" | "broken" | "lost" | "refused" | "left", number>;

/** Runs a load after the other until the time is over; `streams` has what came of all. */
async function load(socket: string, over: AbortSignal, streams: Streams): Promise<void> {
  while (!over.aborted) {
    const { success, stdout } = await new Deno.Command("target/release/loadgen", {
      args: [
        "run",
        ...["--socket", socket, "--clients", `${CLIENTS}`, "--rate", `${CLIENTS_PER_SEC}`],
        ...["--interval-ms", `${INTERVAL_MS}`, "--expect-events", `${EVENTS}`],
        ...["--leavers", `${LEAVERS}`, "--slow-readers", `${SLOW_READERS}`],
        ...["--settle-secs", "0", "--after-secs", "0", "--json", "-"],
      ],
      stderr: "inherit",
    }).output();
    if (!success) throw new Error("The load generator failed");
    const report = JSON.parse(new TextDecoder().decode(stdout)) as { streams: Streams };
    for (const end of Object.keys(streams) as (keyof Streams)[]) streams[end] += report.streams[end];
  }
}

/** Does something at a pace until the time is over. Returns how often. */
async function each(ms: number, over: AbortSignal, act: () => Promise<void> | void): Promise<number> {
  let times = 0;
  for (; !over.aborted; times++) {
    await act();
    await new Promise((resolve) => setTimeout(resolve, ms));
  }
  return times;
}

function look(pid: number, begunMs: number): Sample {
  const rssKib = /^VmRSS:\s+(\d+) kB$/m.exec(Deno.readTextFileSync(`/proc/${pid}/status`))?.[1];
  return { hours: (performance.now() - begunMs) / 3_600_000, rssMib: Number(rssKib) / 1024 };
}

const descriptors = (pid: number): number => [...Deno.readDirSync(`/proc/${pid}/fd`)].length;

/** Waits until a page answers as it should. */
async function until(path: string, holds: (text: string) => boolean): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (true) {
    try {
      if (holds(await (await fetch(`http://${METRICS}${path}`)).text())) return;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // nobody listens yet
    }
    if (performance.now() > endMs) throw new Error(`Waited ${WAIT_MS} ms for ${path}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
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

async function soak(minutes: number): Promise<void> {
  await build(["loadgen"], AbortSignal.timeout(600_000));
  const folder = await Deno.makeTempDir({ prefix: "soak-" });
  const daemon = new Deno.Command("sh", {
    args: ["tools/launch", Deno.execPath(), "main.ts"],
    env: {
      DAEMON_SOCKET_PATH: `${folder}/daemon.sock`,
      DAEMON_METRICS_ADDR: METRICS,
      DAEMON_TOKEN_DELAY_MS: `${INTERVAL_MS}`,
      DAEMON_WORKERS: "1",
      DAEMON_WRITE_TIMEOUT_SECS: "5",
    },
    stderr: "null",
  }).spawn();
  try {
    await until("/readyz", (text) => text === "ready\n");
    const before = descriptors(daemon.pid);
    const begunMs = performance.now();
    const over = AbortSignal.timeout(minutes * 60_000);
    const streams: Streams = { complete: 0, broken: 0, lost: 0, refused: 0, left: 0 };
    const samples: Sample[] = [];
    const [scrapes, reloads] = await Promise.all([
      each(SCRAPE_MS, over, async () => void await (await fetch(`http://${METRICS}/metrics`)).text()),
      each(RELOAD_MS, over, () => daemon.kill("SIGHUP")),
      each(SAMPLE_MS, over, () => void samples.push(look(daemon.pid, begunMs))),
      ...Array.from({ length: LOADS }, () => load(`${folder}/daemon.sock`, over, streams)),
    ]);
    await until("/metrics", (text) => text.includes("\ndaemon_connections_active 0\n"));
    tell(samples);
    print(`Descriptors: ${before} before, ${descriptors(daemon.pid)} after`);
    print(`${scrapes} scrapes, ${reloads} reloads; clients: ${JSON.stringify(streams)}`);
  } finally {
    daemon.kill("SIGTERM");
    await daemon.status;
    await Deno.remove(folder, { recursive: true });
  }
}

const minutes = Number(Deno.args[0] ?? 60);
if (minutes > 0) await soak(minutes);
else {
  print(`MINUTES is ${Deno.args[0]}: expected a number above 0`);
  Deno.exit(2);
}

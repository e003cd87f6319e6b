/**
 * What handoffs by the ten thousand do to a daemon: to the streams that run, to its memory, and whether one is lost.
 * @module
 */
import { type Contender, knock, measure, quote } from "./loadgen.ts";
import type { Step } from "./profiles.ts";
import type { Report } from "./report.ts";

/** What `loadgen knock --json` writes, as far as it is read here. */
export interface Knocked {
  readonly knocks: number;
  readonly per_sec: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly failed: Readonly<Record<string, number>>;
  /** At the beginning and after each tenth. */
  readonly rss_kib: readonly number[];
  /** At the beginning and at the end. */
  readonly fds: readonly [number, number];
  readonly cpu_ms: number;
}

/** One row: what knocks while streams run. */
export interface KnockRow {
  readonly title: string;
  /** Flags of `loadgen knock`; absent: nothing knocks. */
  readonly flags?: string;
  /** On the STREAM socket; absent: on the SEQPACKET one. */
  readonly stream?: true;
}

/** The rows in their order. */
export const KNOCK_ROWS: readonly KnockRow[] = [
  { title: "nothing" },
  { title: "good handoffs, 20,000/s", flags: "--kind good" },
  { title: "clients that leave at once, 20,000/s", flags: "--kind gone" },
  { title: "data that is no JSON, 20,000/s", flags: "--kind garbage" },
  { title: "messages without a client, 20,000/s", flags: "--kind no-fd" },
  { title: "two clients at once, 20,000/s", flags: "--kind two-fds" },
  { title: "140 KiB of data, 2,000/s", flags: "--kind oversized --rate 2000" },
  { title: "connections that say nothing, 20,000/s", flags: "--kind silent" },
  { title: "a byte and 253 fds a message, for ever", flags: "--kind trickle --rate 1000000", stream: true },
  { title: "good handoffs, as many as go", flags: "--kind good --rate 1000000 --hold 12000" },
];

/** The streams whose times are taken: all are served for about 4.8 s. */
export const KNOCK_STEP: Step = {
  title: "1,000 streams",
  clients: 1000,
  ratePerSec: 4000,
  intervalMs: 300,
  workers: 1,
  players: 1,
};
const KNOCK_MS = 4000;

/** A row with what came of it. */
export interface KnockResult {
  readonly row: KnockRow;
  readonly report: Report;
  readonly knocked: Knocked | undefined;
}

/** Measures one row: knocking begins when all streams are being served. */
export async function measureKnock(
  contender: Contender,
  row: KnockRow,
  step: Step,
  { dir, events }: { dir: string; events: number },
  signal: AbortSignal,
): Promise<KnockResult> {
  const out = `${dir}/knocked.json`;
  const { socket } = contender;
  const door = row.stream
    ? `--type stream --socket ${quote(`${socket}.stream`)}`
    : `--socket ${quote(socket)}`;
  const beside = row.flags === undefined
    ? undefined
    : `exec target/release/loadgen knock ${door} ${row.flags} --time-ms ${KNOCK_MS} --json - > ${quote(out)}`;
  const pace = { events, settleSecs: 1, restSecs: 0, ...(beside === undefined ? {} : { beside }) };
  const report = await measure(contender, step, pace, signal);
  const knocked = beside === undefined ? undefined : JSON.parse(await Deno.readTextFile(out)) as Knocked;
  return { row, report, knocked };
}

/** The results as a Markdown table. */
export function knockTable(results: readonly KnockResult[], processors: number): string {
  const head = [
    "beside 1,000 streams",
    "knocks/s",
    "told",
    "gap off p50 / p95 / p99 / max, ms",
    "daemon's CPU, % of a core",
    "largest RSS, MiB",
    "broken + lost + refused",
    "others, %",
  ];
  const lines = [head, head.map((_, index) => index % 2 === 0 && index < 3 ? "---" : "---:")];
  for (const { row, report, knocked } of results) {
    const off = report.steady_deviation?.count ? report.steady_deviation : report.deviation;
    const { broken, lost, refused } = report.streams;
    lines.push([
      row.title,
      knocked === undefined ? "–" : Math.round(knocked.per_sec).toLocaleString("en"),
      knocked === undefined ? "–" : told(knocked),
      off === null
        ? "–"
        : [off.p50_ms, off.p95_ms, off.p99_ms, off.max_ms].map((ms) => ms.toFixed(2)).join(" / "),
      report.daemon?.steady?.cpu_percent.toFixed(0) ?? "–",
      report.daemon === null ? "–" : (report.daemon.rss_max_kib / 1024).toFixed(0),
      String(broken + lost + refused),
      (report.others_percent - (knocked?.cpu_ms ?? 0) / report.run_ms / processors * 100).toFixed(1),
    ]);
  }
  return lines.map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

/** Every handoff's fate in a few words. */
function told({ knocks, answers, failed }: Knocked): string {
  const parts = [
    ...Object.entries(answers),
    ...Object.entries(failed).map(([why, count]) => [`not sent (${why})`, count] as const),
  ].map(([what, count]) => `${count === knocks ? "all" : count.toLocaleString("en")} ${what}`);
  return parts.length === 0 ? "no client" : parts.join(", ");
}

const HANDOFFS = 1_000_000;
const HANDOFFS_LIMIT_MS = 1_200_000;

/** A million handoffs of senders that close at once, each answered: whether one is lost, and what stays in memory. */
export async function measureHandoffs(contender: Contender, signal: AbortSignal): Promise<string> {
  const flags = `--kind good --rate 1000000 --most ${HANDOFFS} --hold 256 --time-ms ${HANDOFFS_LIMIT_MS}`;
  const knocked = JSON.parse(await knock(contender, flags.split(" "), signal)) as Knocked;
  const mib = knocked.rss_kib.map((kib) => Math.round(kib / 1024)).join(", ");
  return `- ${knocked.knocks.toLocaleString("en")} handoffs, ${
    Math.round(knocked.per_sec).toLocaleString("en")
  } a ` +
    `second: ${told(knocked)}\n- resident before and after each tenth, MiB: ${mib}\n` +
    `- open fds before and after: ${knocked.fds.join(", ")}\n`;
}

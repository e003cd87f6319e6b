/**
 * The report of one `loadgen run` and what the tables make of several.
 * @module
 */
import type { Step } from "./profiles.ts";

/** Quantiles, ms. */
export interface Times {
  readonly count: number;
  readonly mean_ms: number;
  readonly p50_ms: number;
  readonly p95_ms: number;
  readonly p99_ms: number;
  readonly max_ms: number;
}

/** What `loadgen run --json` writes, as far as the tables read it. */
export interface Report {
  readonly clients: number;
  readonly streams: {
    readonly complete: number;
    readonly broken: number;
    readonly lost: number;
    readonly refused: number;
    /** Those that were to. */
    readonly left: number;
    readonly reasons: Readonly<Record<string, number>>;
  };
  readonly events: number;
  readonly sends_per_event: number | null;
  /** By a full backlog, or because nobody listened. */
  readonly handoff_retries: number;
  readonly run_ms: number;
  readonly ttfb: Times;
  readonly deviation: Times | null;
  readonly steady_deviation: Times | null;
  readonly load_cpu_us_per_event: number;
  readonly others_percent: number;
  readonly machine_grown_kib: number;
  readonly daemon: {
    readonly processes: number;
    readonly cpu_us_per_event: number;
    readonly steady: {
      readonly cpu_us_per_event: number;
      readonly events_per_sec: number;
      readonly cpu_percent: number;
    } | null;
    readonly idle: Memory;
    readonly peak: Memory;
    readonly after: Memory;
    readonly rss_max_kib: number;
    readonly rss_kib_per_connection: number;
    readonly context_switches: number;
  } | null;
}

/** Memory, fds and threads of the daemon's processes at one moment. */
export interface Memory {
  readonly rss_kib: number;
  readonly pss_kib: number;
  readonly anonymous_kib: number;
  readonly fds: number;
  readonly fds_least: number;
  readonly fds_most: number;
  readonly threads: number;
}

/** A floor: how often it wakes, and one report per round. */
export interface Floor {
  readonly wakeMs: number;
  readonly reports: readonly Report[];
}

/** A step with what was measured, one report per round. */
export interface StepResult {
  readonly step: Step;
  /** In each answer, `[DONE]` included. */
  readonly eventsPerStream: number;
  /** Ratios are to the first one. */
  readonly floors: readonly Floor[];
  readonly daemon: readonly Report[];
  /** A round in which others took more of the machine was disturbed, and is in no figure. */
  readonly mostOthersPercent: number;
}

/** The middle one; the mean of the middle two; `undefined` of nothing. */
export function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  const upper = sorted[half];
  const lower = sorted[sorted.length - 1 - half];
  return upper === undefined || lower === undefined ? undefined : (upper + lower) / 2;
}

type Figure = (report: Report) => number | null | undefined;

/** The median of one figure over the rounds in which it was measured. */
export function figure(reports: readonly Report[], of: Figure): number | undefined {
  return median(reports.map(of).filter((value) => value !== null && value !== undefined));
}

const steady: Figure = (r) => r.daemon?.steady?.cpu_us_per_event;
const whole: Figure = (r) => r.daemon?.cpu_us_per_event;
const faults = (r: Report): number => r.streams.broken + r.streams.lost + r.streams.refused;

const COLUMNS = [
  "load",
  "",
  "µs/event steady",
  "× floor",
  "µs/event whole",
  "× floor",
  "events/s",
  "KiB/conn",
  "idle → max RSS, MiB",
  "after, MiB",
  "first byte p50 / p95 / p99 / max, ms",
  "gap off p50 / p95 / p99 / max, ms",
  "broken + lost + refused",
  "tried again",
  "sends/event",
  "switches/event",
  "others, %",
] as const;

/** The steps as a Markdown table: a row for the daemon, and before it one for each floor, where that is another. */
export function markdown(results: readonly StepResult[]): string {
  const lines = [row(COLUMNS), row(COLUMNS.map((_, i) => i < 2 ? "---" : "---:"))];
  let shown: readonly Report[] | undefined;
  for (const { step, floors, daemon, mostOthersPercent } of results) {
    const [strict, ...others] = floors;
    if (strict !== undefined && strict.reports !== shown) {
      lines.push(row([step.title, "floor", ...cells(strict.reports, [], mostOthersPercent)]));
      for (const { wakeMs, reports } of others) {
        const title = `floor that wakes each ${wakeMs} ms`;
        lines.push(row([step.title, title, ...cells(reports, [], mostOthersPercent)]));
      }
      shown = strict.reports;
    }
    const ours = `**daemon**, ${workersText(step)}`;
    lines.push(row([step.title, ours, ...cells(daemon, strict?.reports ?? [], mostOthersPercent)]));
  }
  return lines.join("\n") + "\n";
}

/** The ratios to floors beside the first one, for the lines below a table. */
export function ratioLines(results: readonly StepResult[]): readonly string[] {
  return results.flatMap(({ step, floors, daemon, mostOthersPercent }) =>
    floors.slice(1).map(({ wakeMs, reports }) => {
      const ours = counted(daemon, mostOthersPercent);
      const theirs = counted(reports, mostOthersPercent);
      const ratio = (of: Figure) => ratioOf(ours, theirs, of) || "–";
      return `${step.title}, daemon, ${workersText(step)}: ${
        ratio(steady)
      } times the floor that wakes each ` +
        `${wakeMs} ms steady, ${ratio(whole)} whole`;
    })
  );
}

/** Which rounds are in no figure, for the lines below a table. */
export function disturbedLines(results: readonly StepResult[]): readonly string[] {
  return results.flatMap((result) =>
    runsOf(result).flatMap(([who, reports]) => {
      const { mostOthersPercent } = result;
      const disturbed = reports.length - counted(reports, mostOthersPercent).length;
      return disturbed === 0 ? [] : [
        `${who}: in ${disturbed} of ${reports.length} rounds others took more than ${mostOthersPercent} %; they are ` +
        "in no figure but those of faults",
      ];
    })
  );
}

/** All that was measured of a step, and of whom. */
function runsOf({ step, floors, daemon }: StepResult): readonly (readonly [string, readonly Report[]])[] {
  return [
    ...floors.map(({ wakeMs, reports }) => [`${step.title}, floor, each ${wakeMs} ms`, reports] as const),
    [`${step.title}, daemon, ${workersText(step)}`, daemon],
  ];
}

/** As in "2 workers". */
export function workersText({ workers }: Step): string {
  return `${workers} worker${workers === 1 ? "" : "s"}`;
}

/** Those that others did not disturb. */
function counted(reports: readonly Report[], mostOthersPercent: number): readonly Report[] {
  return reports.filter((r) => r.others_percent <= mostOthersPercent);
}

function ratioOf(ours: readonly Report[], theirs: readonly Report[], of: Figure): string {
  const [one, other] = [figure(ours, of), figure(theirs, of)];
  return one === undefined || other === undefined ? "" : (one / other).toFixed(2);
}

function cells(
  all: readonly Report[],
  floor: readonly Report[],
  mostOthersPercent: number,
): readonly string[] {
  const reports = counted(all, mostOthersPercent);
  const lowest = counted(floor, mostOthersPercent);
  const ratio = (of: Figure): string => ratioOf(reports, lowest, of);
  const fixed = (of: Figure, digits: number): string => figure(reports, of)?.toFixed(digits) ?? "–";
  // The least and the most of several rounds say how far they are to be trusted.
  const spread = (of: Figure): string => {
    const values = reports.map(of).filter((value) => typeof value === "number");
    const range = values.length > 1
      ? ` (${Math.min(...values).toFixed(1)}–${Math.max(...values).toFixed(1)})`
      : "";
    return fixed(of, 2) + range;
  };
  const times = (of: (r: Report) => Times | null): string =>
    (["p50_ms", "p95_ms", "p99_ms", "max_ms"] as const).map((q) => fixed((r) => of(r)?.[q], 2)).join(" / ");
  const mib = (of: (d: NonNullable<Report["daemon"]>) => number): string =>
    fixed((r) => r.daemon && of(r.daemon) / 1024, 1);
  return [
    spread(steady),
    ratio(steady),
    spread(whole),
    ratio(whole),
    fixed((r) => r.daemon?.steady?.events_per_sec, 0),
    fixed((r) => r.daemon?.rss_kib_per_connection, 2),
    `${mib((d) => d.idle.rss_kib)} → ${mib((d) => d.rss_max_kib)}`,
    mib((d) => d.after.rss_kib),
    times((r) => r.ttfb),
    times((r) => r.steady_deviation?.count ? r.steady_deviation : r.deviation),
    // Not the median: one lost stream in any round has to show.
    String(all.reduce((sum, r) => sum + faults(r), 0)),
    String(all.reduce((sum, r) => sum + r.handoff_retries, 0)),
    fixed((r) => r.sends_per_event, 3),
    fixed((r) => r.daemon && r.daemon.context_switches / r.events, 2),
    median(all.map((r) => r.others_percent))?.toFixed(1) ?? "–",
  ];
}

/** Whether the steady p99 of |gap − asked| exceeded `mostMs` in a round; a load never served all at once is too much, too. */
export function isTooMuch({ daemon }: StepResult, mostMs = Infinity): boolean {
  const offMs = daemon.map(({ steady_deviation: off }) => off?.count ? off.p99_ms : Infinity);
  return offMs.some((ms) => ms > mostMs);
}

/** What several processes took together, for the lines below a table. */
export function totalLines(results: readonly StepResult[]): readonly string[] {
  return results.filter(({ step }) => step.instances !== undefined).flatMap(({ step, daemon }) =>
    daemon.flatMap((r) => {
      if (r.daemon === null) return [];
      const { processes, peak, steady } = r.daemon;
      const mib = (kib: number): string => Math.round(kib / 1024).toLocaleString("en");
      const cpu = steady ? `${Math.round(steady.cpu_percent)} % of a core` : "no steady part";
      return [
        `${step.title}, daemon: ${processes} processes with ${peak.fds_least} to ${peak.fds_most} fds, ` +
        `together ${mib(peak.rss_kib)} MiB resident (${
          mib(peak.pss_kib)
        } MiB with shared pages counted once), ` +
        `${cpu}; the machine's memory in use grew by ${mib(r.machine_grown_kib)} MiB, ` +
        "the load generator and the sockets' both ends included",
      ];
    })
  );
}

/** Why streams of these runs were not whole, for the lines below a table. */
export function faultLines(results: readonly StepResult[]): readonly string[] {
  return results.flatMap(runsOf).flatMap(([who, reports]) =>
    reports.flatMap((r) => Object.entries(r.streams.reasons).map(([reason, n]) => `${who}: ${n} × ${reason}`))
  );
}

function row(cells: readonly string[]): string {
  return `| ${cells.join(" | ")} |`;
}

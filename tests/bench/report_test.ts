import assert from "node:assert/strict";
import { changedSteps, type Profile, PROFILES } from "../../bench/profiles.ts";
import { readOptions, UsageError } from "../../bench/options.ts";
import { knockTable } from "../../bench/knock.ts";
import {
  disturbedLines,
  faultLines,
  figure,
  isTooMuch,
  markdown,
  median,
  ratioLines,
  type Report,
  type StepResult,
  totalLines,
} from "../../bench/report.ts";

const times = { count: 1, mean_ms: 1, p50_ms: 0.5, p95_ms: 2, p99_ms: 3, max_ms: 4 };
const memory = {
  rss_kib: 1024,
  pss_kib: 1024,
  anonymous_kib: 512,
  fds: 9,
  fds_least: 9,
  fds_most: 9,
  threads: 1,
};

function report(cpuUs: number, lost = 0): Report {
  return {
    clients: 10,
    streams: {
      complete: 10 - lost,
      broken: 0,
      lost,
      refused: 0,
      left: 0,
      reasons: lost ? { "closed without an answer": lost } : {},
    },
    events: 100,
    sends_per_event: 1,
    handoff_retries: 3,
    run_ms: 1000,
    ttfb: times,
    deviation: times,
    steady_deviation: null,
    load_cpu_us_per_event: 5,
    others_percent: 2,
    machine_grown_kib: 5_242_880,
    daemon: {
      processes: 1,
      cpu_us_per_event: cpuUs,
      steady: null,
      idle: memory,
      peak: memory,
      after: memory,
      rss_max_kib: 2048,
      rss_kib_per_connection: 7,
      context_switches: 50,
    },
  };
}

const step = { title: "ten", clients: 10, ratePerSec: 1, intervalMs: 1, workers: 1, players: 1 };
const cellsOf = (line: string | undefined): string[] => (line ?? "").split("|").map((cell) => cell.trim());

Deno.test("the median of an even count is the mean of the middle two, of nothing it is undefined", () => {
  assert.equal(median([5, 1, 3]), 3);
  assert.equal(median([4, 1, 3, 2]), 2.5);
  assert.equal(median([]), undefined);
});

Deno.test("a figure that no round has is undefined and not zero", () => {
  assert.equal(figure([report(1)], (r) => r.daemon?.steady?.cpu_us_per_event), undefined);
});

Deno.test("the ratio is the daemon's median over the floor's median", () => {
  const result: StepResult = {
    step,
    eventsPerStream: 10,
    floors: [{ wakeMs: 1, reports: [report(10), report(12)] }],
    daemon: [report(16), report(17)],
    mostOthersPercent: 3,
  };
  const [head, , floor, daemon] = markdown([result]).split("\n").map(cellsOf);
  const whole = head?.indexOf("µs/event whole") ?? -1;
  assert.equal(floor?.[whole], "11.00 (10.0–12.0)");
  assert.equal(daemon?.[whole], "16.50 (16.0–17.0)");
  assert.equal(daemon?.[head?.indexOf("tried again") ?? -1], "6");
  assert.equal(daemon?.[whole + 1], "1.50");
});

Deno.test("one lost stream in one of the rounds shows in the table and below it", () => {
  const result: StepResult = {
    step,
    eventsPerStream: 10,
    floors: [],
    daemon: [report(1), report(1, 1), report(1)],
    mostOthersPercent: 3,
  };
  const [head, , daemon] = markdown([result]).split("\n").map(cellsOf);
  assert.equal(daemon?.[head?.indexOf("broken + lost + refused") ?? -1], "1");
  assert.deepEqual(faultLines([result]), ["ten, daemon, 1 worker: 1 × closed without an answer"]);
});

Deno.test("a floor that serves several rows is shown once, above them, and each has its ratio to it", () => {
  const floor = [report(10)];
  const results = [1, 2].map((workers): StepResult => ({
    step: { ...step, workers },
    eventsPerStream: 10,
    floors: [{ wakeMs: 1, reports: floor }],
    daemon: [report(10 * workers)],
    mostOthersPercent: 3,
  }));
  const [head, , ...rows] = markdown(results).trim().split("\n").map(cellsOf);
  const ratio = (head?.indexOf("µs/event whole") ?? -1) + 1;
  assert.deepEqual(rows.map((cells) => [cells[2], cells[ratio]]), [
    ["floor", ""],
    ["**daemon**, 1 worker", "1.00"],
    ["**daemon**, 2 workers", "2.00"],
  ]);
});

Deno.test("a second floor has a row, and the ratio to it stands below the table", () => {
  const result: StepResult = {
    step,
    eventsPerStream: 10,
    floors: [{ wakeMs: 1, reports: [report(10)] }, { wakeMs: 2, reports: [report(8)] }],
    daemon: [report(16)],
    mostOthersPercent: 3,
  };
  const [head, , ...rows] = markdown([result]).trim().split("\n").map(cellsOf);
  const whole = head?.indexOf("µs/event whole") ?? -1;
  assert.deepEqual(rows.map((cells) => [cells[2], cells[whole], cells[whole + 1]]), [
    ["floor", "10.00", ""],
    ["floor that wakes each 2 ms", "8.00", ""],
    ["**daemon**, 1 worker", "16.00", "1.60"],
  ]);
  assert.deepEqual(ratioLines([result]), [
    "ten, daemon, 1 worker: – times the floor that wakes each 2 ms steady, 2.00 whole",
  ]);
});

Deno.test("a round that others disturbed is in no figure, and is told below the table", () => {
  const disturbed = { ...report(90, 1), others_percent: 3.1 };
  const result: StepResult = {
    step,
    eventsPerStream: 10,
    floors: [{ wakeMs: 1, reports: [report(10)] }],
    daemon: [report(16), disturbed],
    mostOthersPercent: 3,
  };
  const [head, , , daemon] = markdown([result]).split("\n").map(cellsOf);
  const whole = head?.indexOf("µs/event whole") ?? -1;
  assert.deepEqual(daemon?.slice(whole, whole + 2), ["16.00", "1.60"]);
  assert.equal(daemon?.[head?.indexOf("broken + lost + refused") ?? -1], "1");
  assert.deepEqual(disturbedLines([result]), [
    "ten, daemon, 1 worker: in 1 of 2 rounds others took more than 3 %; they are in no figure but those of faults",
  ]);
  const [, , , nothing] = markdown([{ ...result, daemon: [disturbed] }]).split("\n").map(cellsOf);
  assert.deepEqual(nothing?.slice(whole, whole + 2), ["–", ""]);
});

Deno.test("a step is too much by the worst of its rounds, and if it was never served all at once", () => {
  const result = (...p99: (number | undefined)[]): StepResult => ({
    step,
    eventsPerStream: 10,
    floors: [],
    mostOthersPercent: 3,
    daemon: p99.map((p99_ms) => ({
      ...report(1),
      steady_deviation: p99_ms === undefined ? { ...times, count: 0 } : { ...times, p99_ms },
    })),
  });
  assert.equal(isTooMuch(result(19, 20), 20), false);
  assert.equal(isTooMuch(result(19, 20.1), 20), true);
  assert.equal(isTooMuch(result(19, undefined), 20), true);
  assert.equal(isTooMuch(result(19, undefined), undefined), false);
});

Deno.test("what processes on one socket take together is said below the table", () => {
  const measured = report(1);
  assert.ok(measured.daemon);
  const daemon = {
    ...measured.daemon,
    processes: 2,
    steady: { cpu_us_per_event: 20, events_per_sec: 50_000, cpu_percent: 99.6 },
    peak: {
      rss_kib: 3_145_728,
      pss_kib: 2_097_152,
      anonymous_kib: 0,
      fds: 90,
      fds_least: 40,
      fds_most: 50,
      threads: 4,
    },
  };
  const results = (instances: { instances?: number }): StepResult[] => [
    {
      step: { ...step, ...instances },
      eventsPerStream: 10,
      floors: [],
      daemon: [{ ...measured, daemon }],
      mostOthersPercent: 3,
    },
  ];
  assert.deepEqual(totalLines(results({ instances: 2 })), [
    "ten, daemon: 2 processes with 40 to 50 fds, together 3,072 MiB resident (2,048 MiB with shared pages " +
    "counted once), 100 % of a core; the machine's memory in use grew by 5,120 MiB, the load generator and " +
    "the sockets' both ends included",
  ]);
  assert.deepEqual(totalLines(results({})), []);
});

Deno.test("what knocked, what it was told and what others took are in the row", () => {
  const measured = { ...report(1, 2), others_percent: 30, steady_deviation: times };
  const knocked = {
    knocks: 2000,
    per_sec: 999.6,
    answers: { 200: 1500, silence: 400 },
    failed: { "Broken pipe": 100 },
    rss_kib: [],
    fds: [1, 1],
    cpu_ms: 250,
  } as const;
  const [, , quiet, row] = knockTable([
    { row: { title: "nothing" }, report: { ...measured, others_percent: 1 }, knocked: undefined },
    { row: { title: "good" }, report: measured, knocked },
  ], 1).split("\n").map(cellsOf);
  assert.deepEqual(quiet?.slice(1, 4), ["nothing", "–", "–"]);
  assert.deepEqual(row?.slice(1, -1), [
    "good",
    "1,000",
    "1,500 200, 400 silence, 100 not sent (Broken pipe)",
    "0.50 / 2.00 / 3.00 / 4.00",
    "–",
    "2",
    "2",
    "5.0", // of one processor's 1,000 ms 300 were not the daemon's, and 250 of those were the knocking's
  ]);
});

Deno.test("every step's arrivals end before its first stream does, so that all are served at once", () => {
  for (const { name, steps } of PROFILES) {
    for (const { title, clients, ratePerSec, intervalMs } of steps) {
      assert.ok(clients / ratePerSec < (17 * intervalMs) / 1000, `${name}: ${title}`);
    }
  }
});

Deno.test("flags take the place of a step's figures and of its title", () => {
  const { overrides, profiles, floor, floorWakeMs } = readOptions(
    ["--clients", "5", "--no-floor", "--floor-wake-ms", "3", "rate"],
  );
  assert.equal(floorWakeMs, 3);
  assert.deepEqual(profiles.map((p) => p.name), ["rate"]);
  assert.equal(floor, false);
  const profile: Profile = { name: "two", title: "", rounds: 1, steps: [step, { ...step, clients: 20 }] };
  const [only, ...more] = changedSteps(profile, overrides);
  assert.equal(only?.clients, 5);
  assert.match(only?.title ?? "", /^5 clients/);
  assert.deepEqual(more, [], "the same load twice");
  assert.deepEqual(changedSteps(profile, {}), profile.steps);
});

Deno.test("what is no flag, no profile or no number is refused by name", () => {
  const refused = (...args: string[]): string => {
    try {
      readOptions(args);
    } catch (error) {
      assert.ok(error instanceof UsageError);
      return error.message;
    }
    throw new Error("not refused");
  };
  assert.match(refused("--speed", "1"), /--speed/);
  assert.match(refused("fast"), /fast is not a profile; expected quick, connections/);
  assert.match(refused("--clients", "many"), /--clients many: expected a whole number/);
  assert.match(refused("--daemon-pid", "1"), /--daemon-pid needs --socket/);
});

/**
 * What each table of the benchmark measures.
 * @module
 */

/** One row pair of a table: the same load on the floor and on the daemon. */
export interface Step {
  readonly title: string;
  readonly clients: number;
  /** Arrivals per second. */
  readonly ratePerSec: number;
  /** What the backend waits between two events. */
  readonly intervalMs: number;
  /** The daemon's `DAEMON_WORKERS`. */
  readonly workers: number;
  /** Processes of the load generator; each holds at most the fd limit of clients. */
  readonly players: number;
  /** So many daemon processes on one listening socket; absent: one that binds it. */
  readonly instances?: number;
}

/** A table. */
export interface Profile {
  readonly name: string;
  readonly title: string;
  readonly steps: readonly Step[];
  /** How often floor and daemon take turns; the table shows the medians. */
  readonly rounds: number;
  /** Stop after the first step whose steady p99 of |gap − asked| exceeds this, ms. */
  readonly stopAboveMs?: number;
  /** The daemon asks a provider of the OpenAI API instead of its mock. */
  readonly provider?: boolean;
}

function step(step: Partial<Step> & Pick<Step, "title">): Step {
  return { clients: 8000, ratePerSec: 2000, intervalMs: 300, workers: 1, players: 1, ...step };
}

const EVENTS_PER_SEC = [10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 75_000];
/** More do not fit one process of 20,000 fds with room to spare. */
const MOST_CLIENTS = 15_000;

/** A step of so many events per second, of which the arrivals take the first third. */
function rateStep(eventsPerSec: number): Step {
  const clients = Math.min(Math.round(eventsPerSec * 0.3), MOST_CLIENTS);
  const intervalMs = Math.floor((clients / eventsPerSec) * 1000);
  const streamSecs = (17 * intervalMs) / 1000;
  return step({
    title: `${eventsPerSec / 1000},000 events/s`,
    clients,
    intervalMs,
    ratePerSec: Math.round(clients / (streamSecs / 3)),
  });
}

/** All profiles by name, in the order in which `all` runs them. */
export const PROFILES: readonly Profile[] = [
  {
    name: "quick",
    title: "8,000 TCP clients, an event each 300 ms, 2,000 arrivals a second, 1 worker",
    rounds: 2,
    steps: [step({ title: "8,000 clients" })],
  },
  {
    name: "connections",
    title: "Connections in one process, an event each 500 ms",
    rounds: 1,
    steps: [1000, 4000, 8000, MOST_CLIENTS].map((clients) =>
      step({ title: `${clients.toLocaleString("en")} clients`, clients, intervalMs: 500, ratePerSec: 3000 })
    ),
  },
  {
    name: "rate",
    title: "Events a second, upward until p99 of |gap − asked| exceeds 20 ms",
    rounds: 1,
    stopAboveMs: 20,
    steps: EVENTS_PER_SEC.map(rateStep),
  },
  {
    name: "workers",
    title: "Workers: 8,000 TCP clients, an event each 300 ms",
    rounds: 1,
    steps: [1, 2].map((workers) => step({ title: `${workers} worker${workers > 1 ? "s" : ""}`, workers })),
  },
  {
    name: "openai",
    title: "OpenAI backend, from a provider on this machine that shares its cores",
    rounds: 1,
    provider: true,
    steps: [1, 2].map((workers) =>
      step({
        title: `3,000 clients, ${workers} worker${workers > 1 ? "s" : ""}`,
        clients: 3000,
        ratePerSec: 1000,
        workers,
      })
    ),
  },
  {
    name: "hundred-thousand",
    title: "100,000 TCP clients, 8 processes on one listening socket, an event each 2.5 s",
    rounds: 1,
    steps: [
      step({
        title: "100,000 clients",
        clients: 100_000,
        ratePerSec: 4000,
        intervalMs: 2500,
        players: 6,
        instances: 8,
      }),
    ],
  },
];

/** The step with some of its figures replaced, and a title that says what it is now. */
export function changed(step: Step, changes: Partial<Step>): Step {
  if (Object.keys(changes).length === 0) {
    return step;
  }
  const now = { ...step, ...changes };
  const title =
    `${now.clients} clients, ${now.ratePerSec}/s, each ${now.intervalMs} ms, workers: ${now.workers}`;
  return { ...now, title };
}

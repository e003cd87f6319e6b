/**
 * What each table of the benchmark measures.
 * @module
 */

/** One row pair of a table: the same load on the floor and on the daemon. */
export interface Step {
  /** The load; the workers are not in it. */
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
  /** With so many workers no further step after the first whose steady p99 of |gap − asked| exceeds this, ms. */
  readonly stopAboveMs?: number;
  /** The daemon asks a provider of the OpenAI API instead of its mock. */
  readonly provider?: true;
  /** The floor only where this is the only profile: among others there is no time for it. */
  readonly floorOnlyAlone?: true;
  /** Beside a second floor, which wakes as seldom as the daemon's mock does. */
  readonly evenFloor?: true;
  /** `all` leaves it out, for its time. */
  readonly byNameOnly?: true;
}

function step(step: Partial<Step> & Pick<Step, "title">): Step {
  return { clients: 8000, ratePerSec: 2000, intervalMs: 300, workers: 1, players: 1, ...step };
}

const count = (n: number): string => n.toLocaleString("en");

/** The same load on 1 and on 2 workers. */
function onWorkers(load: Step): readonly Step[] {
  return [1, 2].map((workers) => ({ ...load, workers }));
}

function connectionSteps(clients: number, pace: Pick<Step, "intervalMs" | "ratePerSec">): readonly Step[] {
  return onWorkers(step({ title: `${count(clients)} clients`, clients, ...pace }));
}

/** More do not fit one process of 20,000 fds with room to spare. */
const MOST_CLIENTS = 15_000;

/** So many events per second, from clients that arrive during three fifths of a stream. */
function rateSteps(eventsPerSec: number): readonly Step[] {
  const intervalMs = 250;
  const clients = (eventsPerSec * intervalMs) / 1000;
  const ratePerSec = Math.ceil(clients / (0.6 * 17 * intervalMs / 1000));
  return onWorkers(step({ title: `${count(eventsPerSec)} events/s`, clients, intervalMs, ratePerSec }));
}

/** All profiles by name, in the order in which `all` runs them. */
export const PROFILES: readonly Profile[] = [
  {
    name: "quick",
    title: "8,000 TCP clients, an event each 300 ms, 2,000 arrivals a second, 1 worker",
    rounds: 2,
    evenFloor: true,
    steps: [step({ title: "8,000 clients" })],
  },
  {
    name: "connections",
    title: "Connections in one process, an event each 500 ms",
    rounds: 1,
    steps: [1000, 5000, MOST_CLIENTS].flatMap((clients) =>
      connectionSteps(clients, { intervalMs: 500, ratePerSec: 3000 })
    ),
  },
  {
    name: "connections-openai",
    title:
      "Connections in one process on the OpenAI backend, an event each 500 ms for 1,000, each second for 15,000",
    rounds: 1,
    provider: true,
    steps: [
      ...connectionSteps(1000, { intervalMs: 500, ratePerSec: 1200 }),
      ...connectionSteps(MOST_CLIENTS, { intervalMs: 1000, ratePerSec: 1200 }),
    ],
  },
  {
    name: "rate",
    title: "Events a second, an event each 250 ms, upward until p99 of |gap − asked| exceeds 20 ms",
    rounds: 1,
    stopAboveMs: 20,
    steps: [10_000, 20_000, 30_000, 40_000, 50_000, 60_000].flatMap(rateSteps),
  },
  {
    name: "rate-openai",
    title: "Events a second on the OpenAI backend, upward until p99 of |gap − asked| exceeds 20 ms",
    rounds: 1,
    stopAboveMs: 20,
    provider: true,
    steps: [10_000, 20_000, 25_000].flatMap(rateSteps),
  },
  {
    name: "hundred-thousand",
    title: "100,000 TCP clients, 6 processes on one listening socket, an event each 3 s",
    rounds: 1,
    floorOnlyAlone: true,
    steps: [
      step({
        title: "100,000 clients",
        clients: 100_000,
        ratePerSec: 3300,
        intervalMs: 3000,
        players: 6,
        instances: 6,
      }),
    ],
  },
  {
    name: "steady",
    title:
      "15,000 TCP clients, an event each 2 s, 3,000 arrivals a second, 1 worker: 30 s in which all are served",
    rounds: 5,
    evenFloor: true,
    byNameOnly: true,
    steps: [step({ title: "15,000 clients", clients: MOST_CLIENTS, ratePerSec: 3000, intervalMs: 2000 })],
  },
];

/** What is measured in other ways, by name. */
export const OTHERS = {
  knock: "How late running streams are while something knocks",
  idle: "A daemon that has nothing to do",
  handoffs: "A million handoffs of senders that close at once, delay 0",
} as const;

/** The step with some of its figures replaced, and a title that says so. */
export function changedStep(step: Step, changes: Partial<Step>): Step {
  if (Object.keys(changes).length === 0) {
    return step;
  }
  const now = { ...step, ...changes };
  const title = `${now.clients} clients, ${now.ratePerSec}/s, each ${now.intervalMs} ms`;
  return { ...now, title };
}

/** The profile's steps with some of their figures replaced, and titles that say so; each once. */
export function changedSteps(profile: Profile, changes: Partial<Step>): readonly Step[] {
  const steps = profile.steps.map((step) => changedStep(step, changes));
  return [...new Map(steps.map((step) => [JSON.stringify(step), step])).values()];
}

/**
 * Flags of `deno task bench`.
 * @module
 */
import { parseArgs } from "node:util";
import { OTHERS, type Profile, PROFILES, type Step } from "./profiles.ts";

/** What `--help` prints. */
export const HELP = `deno task bench [OPTIONS] [PROFILE…]

Profiles: ${PROFILES.map((p) => p.name).join(", ")}; all. Default: quick.
Others:   ${Object.keys(OTHERS).join(", ")}.

  --command LINE        the daemon, for sh(1) [this one, with the flags of \`deno task start\`]
  --daemon-pid PID      in place of it, processes that run already (may be given more than once)
  --socket PATH         where it takes handoffs [a temporary path, given to it as DAEMON_SOCKET_PATH]
  --rounds N            how often floor and daemon take turns [the profile's]
  --clients N, --rate N, --interval-ms N, --workers N    in place of the profile's
  --payload JSON        the handoff's data of every client, {client} being its number [a prompt]
  --after-secs N        from the last client's end to the last look at memory [1]
  --no-floor            the daemon alone
  --floor-wake-ms N     how often the second floor of quick and steady wakes, as the daemon does [2]
  --provider LINE       the OpenAI profiles' provider, for sh(1); {intervalMs} and {port} are filled in [bench/provider]
  --json FILE           all figures
`;

/** What to run, on what. */
export interface Options {
  readonly help: boolean;
  readonly profiles: readonly Profile[];
  /** Names in {@linkcode OTHERS}. */
  readonly others: readonly (keyof typeof OTHERS)[];
  /** The daemon; absent with `pids`, or when it is this repository's. */
  readonly command: string | undefined;
  readonly pids: readonly number[];
  readonly socket: string | undefined;
  readonly provider: string | undefined;
  readonly json: string | undefined;
  readonly floor: boolean;
  /** That of the daemon is PAUSE_RESOLUTION_MS of `src/worker/worker.ts`. */
  readonly floorWakeMs: number;
  readonly rounds: number | undefined;
  readonly restSecs: number;
  readonly payload: string | undefined;
  /** In place of what the profiles' steps say. */
  readonly overrides: Partial<Step>;
}

/** A flag or profile that is none; the message is complete. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const TEXT = { type: "string" } as const;
const SPEC = {
  help: { type: "boolean", short: "h" },
  command: TEXT,
  "daemon-pid": { type: "string", multiple: true },
  socket: TEXT,
  rounds: TEXT,
  clients: TEXT,
  rate: TEXT,
  "interval-ms": TEXT,
  workers: TEXT,
  "after-secs": TEXT,
  payload: TEXT,
  "no-floor": { type: "boolean" },
  "floor-wake-ms": TEXT,
  provider: TEXT,
  json: TEXT,
} as const;

/**
 * Reads the command line.
 *
 * @throws UsageError
 */
export function readOptions(args: readonly string[]): Options {
  const { values, positionals } = parse(args);
  const number = (flag: string, value: string | undefined): number | undefined => {
    if (value !== undefined && !/^[1-9]\d{0,6}$/.test(value)) {
      throw new UsageError(`--${flag} ${value}: expected a whole number from 1 to 9999999`);
    }
    return value === undefined ? undefined : Number(value);
  };
  const names = positionals.length === 0 ? ["quick"] : positionals;
  const others = Object.keys(OTHERS) as (keyof typeof OTHERS)[];
  const known = [...PROFILES.map((p) => p.name), ...others];
  const unknown = names.find((name) => name !== "all" && !known.includes(name));
  if (unknown !== undefined) {
    throw new UsageError(`${unknown} is not a profile; expected ${known.join(", ")} or all`);
  }
  const pids = (values["daemon-pid"] ?? []).map((pid) => number("daemon-pid", pid) ?? 0);
  if (pids.length > 0 && (values.command !== undefined || values.socket === undefined)) {
    throw new UsageError("--daemon-pid needs --socket and excludes --command");
  }
  const overrides = {
    clients: number("clients", values.clients),
    ratePerSec: number("rate", values.rate),
    intervalMs: number("interval-ms", values["interval-ms"]),
    workers: number("workers", values.workers),
  };
  return {
    help: values.help === true,
    profiles: PROFILES.filter((p) => names.includes("all") && !p.byNameOnly || names.includes(p.name)),
    others: others.filter((name) => names.includes(name)),
    command: values.command,
    pids,
    socket: values.socket,
    provider: values.provider,
    json: values.json,
    floor: values["no-floor"] !== true,
    floorWakeMs: number("floor-wake-ms", values["floor-wake-ms"]) ?? 2,
    rounds: number("rounds", values.rounds),
    restSecs: number("after-secs", values["after-secs"]) ?? 1,
    payload: values.payload,
    overrides: Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined)),
  };
}

// deno-lint-ignore explicit-function-return-type -- parseArgs derives it from SPEC
function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], allowPositionals: true, options: SPEC });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), { cause: error });
  }
}

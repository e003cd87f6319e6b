/**
 * What a stream from a provider costs, by the client that takes it; each client in a process of its own:
 *
 * ```sh
 * cargo build --release --package bench-provider
 * deno run -A bench/upstream/run.ts [--tls] [--streams 3000] [CLIENT…]
 * ```
 * @module
 */
import { parseArgs } from "node:util";
import process from "node:process";
import { CLIENTS } from "./clients.ts";

const EVENTS = 19;
/** Ten times what one stream takes. */
const LIMIT_MS = 60_000;
/** When all connections there will be are there, and none is closed yet. */
const CONNECTED_AFTER_MS = 4_000;
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { tls: { type: "boolean" }, streams: { type: "string" }, inner: { type: "string" } },
});
const streams = Number(values.streams ?? 3_000);

if (values.inner !== undefined) await measure(values.inner);
else {
  const names = positionals.length > 0 ? positionals : Object.keys(CLIENTS);
  print(
    "| client | TLS | µs per event | KiB per stream | last head, ms | connections | at once | finished | events | note |",
  );
  print("|---|---|---|---|---|---|---|---|---|---|");
  for (const name of names) {
    const args = [
      "run",
      "-A",
      "--quiet",
      CLIENTS[name]?.unlocked ? "--no-lock" : "--frozen",
      import.meta.filename ?? "",
      "--inner",
      name,
      "--streams",
      `${streams}`,
    ];
    if (values.tls) args.push("--tls");
    const { success } = await new Deno.Command(Deno.execPath(), { args, stdout: "inherit" }).output();
    if (!success) throw new Error(`${name} failed`);
  }
}

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** How many connections to the port there are, by /proc. */
function connectionsTo(port: number): number {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const ESTABLISHED = "01";
  return Deno.readTextFileSync("/proc/net/tcp").split("\n").map((line) => line.trim().split(/\s+/))
    .filter(([, , remote, state]) => remote?.endsWith(end) && state === ESTABLISHED).length;
}

async function measure(name: string): Promise<void> {
  const client = CLIENTS[name];
  if (client === undefined) throw new Error(`${name} is no client; expected one of ${Object.keys(CLIENTS)}`);
  const flags = [
    "--max-streams",
    `${client.maxStreams ?? 100}`,
    "--events",
    `${EVENTS}`,
    "--delay-ms",
    "300",
  ];
  const provider = new Deno.Command("target/release/bench-provider", {
    args: [...flags, ...(values.tls ? ["--tls"] : [])],
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = provider.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!/listening on .*\n/.test(said)) {
    const { value, done } = await reader.read();
    if (done) throw new Error("the provider did not start");
    said += value;
  }
  const ca = said.slice(0, said.indexOf("listening on"));
  const port = Number(/listening on .*:(\d+)/.exec(said)?.[1]);
  const caFile = values.tls ? await Deno.makeTempFile() : "";
  if (caFile !== "") await Deno.writeTextFile(caFile, ca);

  const idleBytes = Deno.memoryUsage().rss;
  let mostBytes = idleBytes;
  const sampling = setInterval(() => mostBytes = Math.max(mostBytes, Deno.memoryUsage().rss), 250);
  let connections = 0;
  setTimeout(() => connections = connectionsTo(port), CONNECTED_AFTER_MS);
  const before = process.cpuUsage();
  const startMs = performance.now();
  let [events, headsMs, heads, mostAtOnce, finished] = [0, 0, 0, 0, 0];
  const run = client.run({
    base: values.tls ? `https://localhost:${port}` : `http://127.0.0.1:${port}`,
    ca,
    caFile,
    streams,
    onPiece: (count) => events += count,
    onFirst: () => {
      headsMs = performance.now() - startMs;
      mostAtOnce = Math.max(mostAtOnce, ++heads - finished);
    },
    onLast: () => finished++,
  });
  const why = await Promise.race([
    run.then(() => "", (error: unknown) => String(error)),
    new Promise<string>((resolve) => setTimeout(resolve, LIMIT_MS, `not over within ${LIMIT_MS} ms`)),
  ]);
  const { user, system } = process.cpuUsage(before);
  clearInterval(sampling);
  const perEvent = ((user + system) / (streams * EVENTS)).toFixed(1);
  const perStream = ((mostBytes - idleBytes) / streams / 1_024).toFixed(1);
  print(
    `| ${name} | ${values.tls ? "yes" : "no"} | ${perEvent} | ${perStream} | ${
      headsMs.toFixed(0)
    } | ${connections} | ${mostAtOnce} | ${finished} | ${events} | ${why} |`,
  );
  if (caFile !== "") await Deno.remove(caFile);
  provider.kill();
  await provider.status;
  await reader.cancel();
  process.exit(); // whatever a client has left open
}

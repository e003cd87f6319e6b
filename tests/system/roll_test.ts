// deno-lint-ignore-file no-console -- the figures are what one wants to see of this test
/** A new process in place of the running one under load: no handoff refused, no stream broken, no visitor kept waiting. */
import assert from "node:assert/strict";
import { host, Machine } from "./machine.ts";

/** How often; `SYSTEM_TEST_ROLLS` of the environment. */
const ROLLS = Number(Deno.env.get("SYSTEM_TEST_ROLLS") ?? 3);
// An answer takes 18 × 150 ms: at this rate a thousand are under way.
const TOKEN_DELAY_MS = 150;
const ARRIVALS_PER_SEC = 370;
const EVENTS = 19;
/** Arrivals go on for as long as a roll takes, and longer. */
const LOAD_SECS = 12;
/** Where Apache's mod_proxy_fdpass hands over. */
const STREAM_PATH = "/stream";
/** The first thousand are under way. */
const THOUSAND_STREAMS =
  "curl -s http://127.0.0.1:9090/metrics | awk '/^daemon_streams_active / { exit $2 < 900 }'";

/** What the load generator reports, as far as it is looked at. Times are in milliseconds. */
interface Report {
  readonly streams: Readonly<Record<"complete" | "broken" | "lost" | "refused", number>>;
  readonly handoff_retries: number;
  readonly ttfb: { readonly p50_ms: number; readonly p99_ms: number; readonly max_ms: number };
}

/** Who hands over: the load generator, as the Apache module does, on the SEQPACKET socket; or Apache, on the other. */
type Way = "module" | "Apache";

/** Clients that come at a steady rate. */
async function load(machine: Machine, way: Way): Promise<Report> {
  const socket = machine.path("/run/streaming-daemon-ts/daemon.sock");
  const clients = ARRIVALS_PER_SEC * LOAD_SECS;
  return JSON.parse(
    await machine.inNetwork(
      `target/release/loadgen run --socket ${socket} --clients ${clients} --rate ${ARRIVALS_PER_SEC} ` +
        `--expect-events ${EVENTS} --after-secs 0 --json -` +
        (way === "Apache" ? ` --front http://127.0.0.1:80${STREAM_PATH}` : ""),
    ),
  );
}

function assertWhole({ streams, handoff_retries }: Report): void {
  const { complete, broken, lost, refused } = streams;
  assert.deepEqual({ complete, broken, lost, refused, handoff_retries }, {
    complete: ARRIVALS_PER_SEC * LOAD_SECS,
    broken: 0,
    lost: 0,
    refused: 0,
    handoff_retries: 0,
  });
}

/** How long first bytes took. The figures are for people (docs/architecture.md): a busy machine has others. */
function show(when: string, way: Way, { ttfb }: Report): void {
  console.log(
    `${when}, by ${way}: first byte p50 ${ttfb.p50_ms}, p99 ${ttfb.p99_ms}, most ${ttfb.max_ms} ms`,
  );
}

Deno.test(`${ROLLS} rolls with a thousand streams under way each`, async () => {
  await host("cargo build --quiet --release --locked --package loadgen");
  await using machine = await Machine.boot();
  await machine.install();
  const environment = "/etc/streaming-daemon-ts/environment";
  await machine.ok(
    `echo DAEMON_TOKEN_DELAY_MS=${TOKEN_DELAY_MS} >${environment} && streaming-daemon-ts-roll`,
  );
  await machine.untilGone("streaming-daemon-ts@0.service");

  const proxied = `ProxyPass ${STREAM_PATH} fd://../../run/streaming-daemon-ts/daemon.sock.stream`;
  await machine.ok(
    `echo '${proxied}' >/etc/apache2/conf-enabled/stream.conf && a2enmod proxy proxy_fdpass && ` +
      "systemctl restart apache2",
  );

  const ways = ["module", "Apache"] as const;
  for (const way of ways) show("outside", way, await load(machine, way));
  for (let roll = 1; roll <= ROLLS; roll++) {
    const way = ways[roll % 2] as Way;
    const before = await machine.show("MainPID");
    const loaded = load(machine, way);
    await machine.until(THOUSAND_STREAMS);
    await machine.ok("streaming-daemon-ts-roll");
    const report = await loaded;
    show("rolling", way, report);
    assertWhole(report);
    assert.notEqual(await machine.show("MainPID"), before);
    await machine.untilGone("streaming-daemon-ts@0.service");
    // Without a helper a visitor waits for the start of a process, which took so long just now, under the same load.
    const startedUsec = async (name: string) => Number(await machine.show(`${name}TimestampMonotonic`));
    const startMs = (await startedUsec("ActiveEnter") - await startedUsec("InactiveExit")) / 1000;
    const { p99_ms } = report.ttfb;
    assert(p99_ms < startMs / 2, `p99 of the first byte is ${p99_ms} ms; a start took ${startMs} ms`);
  }
});

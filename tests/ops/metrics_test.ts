import assert from "node:assert/strict";
import { BACKEND_FAILURES, HANDOFF_FAILURES, STREAM_FAILURES } from "../../src/errors.ts";
import { Totals } from "../../src/ops/metrics/metrics.ts";
import { MetricsPage } from "../../src/ops/metrics/page.ts";
import { countersOf } from "../../src/ops/metrics/snapshot.ts";
import { StreamGauge } from "../../src/ops/metrics/stream_gauge.ts";
import { sumSnapshots } from "../../src/ops/metrics/sum_snapshots.ts";
import { WorkerMetrics } from "../../src/ops/metrics/worker_metrics.ts";
import { type Family, parsePage } from "../support/metrics.ts";

function fixture(workers = 2): {
  workers: WorkerMetrics[];
  page: MetricsPage;
  gauge: StreamGauge;
  render(): Promise<Map<string, Family>>;
} {
  const memory = StreamGauge.allocate(workers);
  const gauge = new StreamGauge(0, memory);
  const metrics = Array.from(
    { length: workers },
    (_, index) => new WorkerMetrics({ streams: new StreamGauge(index, memory), models: () => ["m"] }),
  );
  const page = new MetricsPage(gauge, {
    version: "1.2.3",
    maxFds: 1024,
    openFds: () => 17,
    connectionsActive: () => 3,
  });
  return {
    workers: metrics,
    page,
    gauge,
    render: async () =>
      parsePage(await page.render(await Promise.all(metrics.map((each) => each.snapshot())))),
  };
}

/** Lets a worker have counted something of everything, `times` times. */
function count(metrics: WorkerMetrics, times: number): void {
  for (let time = 0; time < times; time++) {
    metrics.handoffReceived(0.00015);
    for (const reason of HANDOFF_FAILURES) metrics.handoffFailed(reason);
    metrics.connectionOpened();
    metrics.connectionRejected();
    for (const failure of [undefined, ...STREAM_FAILURES]) {
      metrics.streamStarted();
      metrics.streamEnded(0.5, failure);
    }
    metrics.eventSent();
    metrics.bytesSent(10);
    metrics.backendRequest("mock");
    metrics.backendFirstEvent(0.0015);
    metrics.backendDone(0.5);
    for (const kind of BACKEND_FAILURES) metrics.backendError("mock", kind);
    metrics.tokensUsed("m", 3, 4);
  }
}

Deno.test("every metric is on the page, with the type that its name says", async () => {
  const { workers: [first], render } = fixture();
  count(first as WorkerMetrics, 1);
  const families = await render();
  const types = (type: string) =>
    [...families.values()].filter((family) => family.type === type && family.name.startsWith("daemon_"))
      .map(({ name }) => name).sort();
  assert.deepEqual(types("counter"), [
    "daemon_backend_errors",
    "daemon_backend_refused_total",
    "daemon_backend_requests",
    "daemon_backend_tokens_total",
    "daemon_connections_rejected_total",
    "daemon_connections_total",
    "daemon_handoffs_failed",
    "daemon_handoffs_received",
    "daemon_resume_evicted_total",
    "daemon_resume_requests_total",
    "daemon_resume_unsaved_total",
    "daemon_stream_bytes_sent",
    "daemon_stream_errors_total",
    "daemon_stream_events_sent_total",
    "daemon_upstream_cancelled_total",
    "daemon_upstream_connect_failures_total",
    "daemon_upstream_connections_opened_total",
    "daemon_upstream_retries_total",
    "daemon_worker_restarts_total",
  ]);
  assert.deepEqual(types("gauge"), [
    "daemon_backend_circuit_open",
    "daemon_backend_waiting",
    "daemon_build_info",
    "daemon_connections_active",
    "daemon_resume_bytes",
    "daemon_resume_store_up",
    "daemon_resume_streams_kept",
    "daemon_resume_streams_live",
    "daemon_stream_oldest_seconds",
    "daemon_streams_active",
    "daemon_streams_peak",
    "daemon_upstream_connections",
    "daemon_upstream_streams",
    "daemon_upstream_waiting",
  ]);
  assert.deepEqual(types("histogram"), [
    "daemon_backend_duration_seconds",
    "daemon_backend_ttfb_seconds",
    "daemon_handoff_duration_seconds",
    "daemon_stream_duration_seconds",
  ]);
  for (
    const name of [
      "process_resident_memory_bytes",
      "process_cpu_seconds_total",
      "nodejs_eventloop_lag_seconds",
    ]
  ) {
    assert(families.has(name), name);
  }
});

Deno.test("names are as promtool wants them, those of the contract aside", async () => {
  const families = await fixture().render();
  const kept = [
    "daemon_handoffs_received",
    "daemon_handoffs_failed",
    "daemon_stream_bytes_sent",
    "daemon_backend_requests",
    "daemon_backend_errors",
  ];
  for (const { name, type } of families.values()) {
    if (kept.includes(name)) continue;
    if (type === "counter") assert.match(name, /_total$/);
    else assert.doesNotMatch(name, /_total$/);
    if (type === "histogram" && name.startsWith("daemon_")) assert.match(name, /_seconds$/);
  }
});

Deno.test("counters and histograms of all workers add up", async () => {
  const { workers: [first, second], render } = fixture();
  count(first as WorkerMetrics, 2);
  count(second as WorkerMetrics, 3);
  const families = await render();
  const value = (name: string, series = name) => families.get(name)?.series.get(series);
  assert.equal(value("daemon_connections_total"), 5);
  assert.equal(value("daemon_stream_events_sent_total"), 5);
  assert.equal(value("daemon_stream_bytes_sent"), 50);
  for (const reason of HANDOFF_FAILURES) {
    assert.equal(value("daemon_handoffs_failed", `daemon_handoffs_failed{reason="${reason}"}`), 5);
  }
  for (const reason of STREAM_FAILURES) {
    assert.equal(value("daemon_stream_errors_total", `daemon_stream_errors_total{reason="${reason}"}`), 5);
  }
  for (const kind of BACKEND_FAILURES) {
    assert.equal(
      value("daemon_backend_errors", `daemon_backend_errors{backend="mock",kind="${kind}"}`),
      5,
    );
  }
  assert.equal(value("daemon_backend_requests", 'daemon_backend_requests{backend="mock"}'), 5);
  const streams = 5 * 10; // each way to end, and in order
  assert.equal(value("daemon_stream_duration_seconds", "daemon_stream_duration_seconds_count"), streams);
  assert.equal(value("daemon_stream_duration_seconds", "daemon_stream_duration_seconds_sum"), streams / 2);
  assert.equal(
    value("daemon_backend_tokens_total", 'daemon_backend_tokens_total{model="m",direction="output"}'),
    20,
  );
});

Deno.test("each duration is in its own histogram, in seconds", async () => {
  const { workers: [metrics], render } = fixture();
  metrics?.handoffReceived(0.125);
  metrics?.streamStarted();
  metrics?.streamEnded(4, undefined);
  metrics?.backendFirstEvent(0.5);
  metrics?.backendDone(2);
  const families = await render();
  for (
    const [name, secs] of [
      ["daemon_handoff_duration_seconds", 0.125],
      ["daemon_stream_duration_seconds", 4],
      ["daemon_backend_ttfb_seconds", 0.5],
      ["daemon_backend_duration_seconds", 2],
    ] as const
  ) {
    const series = families.get(name)?.series;
    assert.deepEqual([series?.get(`${name}_count`), series?.get(`${name}_sum`)], [1, secs], name);
  }
});

Deno.test("of all workers' oldest streams the page has the oldest", async () => {
  const memory = StreamGauge.allocate(2);
  const { page } = fixture();
  const snapshots = [3, 5].map((secs, index) =>
    new WorkerMetrics({ streams: new StreamGauge(index, memory), models: () => [], oldestSecs: () => secs })
      .snapshot()
  );
  const families = parsePage(await page.render(await Promise.all(snapshots)));
  assert.equal(families.get("daemon_stream_oldest_seconds")?.series.get("daemon_stream_oldest_seconds"), 5);
});

Deno.test("the store of streams is up where all workers reach it", async () => {
  const memory = StreamGauge.allocate(2);
  const { page } = fixture();
  for (const [reached, up] of [[[1, 1], 1], [[1, 0], 0]] as const) {
    const snapshots = reached.map((storeUp, index) =>
      new WorkerMetrics({
        streams: new StreamGauge(index, memory),
        models: () => [],
        resumable: () => ({ live: 0, kept: 0, bytes: 0, evicted: 0, unsaved: 0, storeUp }),
      }).snapshot()
    );
    const families = parsePage(await page.render(snapshots));
    assert.equal(families.get("daemon_resume_store_up")?.series.get("daemon_resume_store_up"), up);
  }
});

Deno.test("a page that is rendered again counts nothing twice", async () => {
  const { workers: [first], render } = fixture();
  count(first as WorkerMetrics, 1);
  const series = async () =>
    [...(await render()).values()].filter(({ name }) => name.startsWith("daemon_"))
      .map(({ name, series }) => [name, [...series]]);
  assert.deepEqual(await series(), await series());
});

Deno.test("buckets double fifteen times from where each begins", async () => {
  const families = await fixture().render();
  for (
    const [name, first] of [
      ["daemon_handoff_duration_seconds", 0.0001],
      ["daemon_stream_duration_seconds", 0.01],
      ["daemon_backend_duration_seconds", 0.01],
      ["daemon_backend_ttfb_seconds", 0.001],
    ] as const
  ) {
    const bounds = [...families.get(name)?.series.keys() ?? []].flatMap((key) =>
      /le="([^"]+)"/.exec(key)?.[1] ?? []
    );
    assert.equal(bounds.pop(), "+Inf");
    assert.equal(bounds.length, 15);
    for (const [n, bound] of bounds.entries()) {
      assert(Math.abs(Number(bound) / (first * 2 ** n) - 1) < 1e-9, `${name} ${bound}`);
    }
  }
});

Deno.test("a duration is in each bucket whose bound it does not exceed", async () => {
  const { workers: [metrics], render } = fixture();
  for (const secs of [0, 0.001, 0.0011, 0.002, 16.384, 16.4]) metrics?.backendFirstEvent(secs);
  const series = (await render()).get("daemon_backend_ttfb_seconds")?.series;
  const upTo = (bound: string) => series?.get(`daemon_backend_ttfb_seconds_bucket{le="${bound}"}`);
  assert.deepEqual(["0.001", "0.002", "0.004", "8.192", "16.384", "+Inf"].map(upTo), [2, 4, 4, 4, 5, 6]);
  assert.equal(series?.get("daemon_backend_ttfb_seconds_count"), 6);
  const sum = series?.get("daemon_backend_ttfb_seconds_sum") as number;
  assert(Math.abs(sum - 32.7881) < 1e-9, `${sum}`);
});

Deno.test("every reason is on the page from the start, at zero", async () => {
  const families = await fixture().render();
  assert.deepEqual(
    [...families.get("daemon_handoffs_failed")?.series ?? []],
    [
      "no_fd",
      "many_fds",
      "not_a_socket",
      "not_stream",
      "listening",
      "payload_truncated",
      "control_truncated",
      "timeout",
      "uid_not_allowed",
      "receive_error",
      "bad_request",
    ].map((reason) => [`daemon_handoffs_failed{reason="${reason}"}`, 0]),
  );
  assert.deepEqual(
    [...families.get("daemon_stream_errors_total")?.series ?? []],
    [
      "client_disconnected",
      "write_timeout",
      "backend_timeout",
      "backend_error",
      "backend_busy",
      "max_stream",
      "stopped",
      "shutdown",
      "other",
    ].map((reason) => [`daemon_stream_errors_total{reason="${reason}"}`, 0]),
  );
});

Deno.test("the daemon's own: version, fds, connections, restarts", async () => {
  const { page, render } = fixture();
  page.workerDied(2);
  const families = await render();
  const only = (name: string) => [...families.get(name)?.series ?? []];
  assert.deepEqual(only("daemon_build_info"), [
    [`daemon_build_info{version="1.2.3",deno="${Deno.version.deno}"}`, 1],
  ]);
  assert.deepEqual(only("process_open_fds"), [["process_open_fds", 17]]);
  assert.deepEqual(only("process_max_fds"), [["process_max_fds", 1024]]);
  assert.deepEqual(only("daemon_connections_active"), [["daemon_connections_active", 3]]);
  assert.deepEqual(only("daemon_worker_restarts_total"), [["daemon_worker_restarts_total", 1]]);
  assert((only("process_resident_memory_bytes")[0]?.[1] ?? 0) > 1e6);
});

Deno.test("the peak is that of all workers together, and stays", () => {
  const { workers: [first, second], gauge } = fixture();
  first?.streamStarted();
  second?.streamStarted();
  first?.streamStarted();
  assert.deepEqual([gauge.active, gauge.peak], [3, 3]);
  first?.streamEnded(1, undefined);
  second?.streamEnded(1, undefined);
  second?.streamStarted();
  assert.deepEqual([gauge.active, gauge.peak], [2, 3]);
});

Deno.test("a worker that died takes its streams with it, and only its own", () => {
  const memory = StreamGauge.allocate(2);
  const [first, second] = [new StreamGauge(0, memory), new StreamGauge(1, memory)];
  for (let stream = 0; stream < 3; stream++) first.enter();
  second.enter();
  assert.equal(first.clear(), 3);
  assert.equal(first.clear(), 0);
  assert.deepEqual([second.active, second.peak], [1, 4]);
});

Deno.test("tokens are counted by the models that are named, and together for all others", async () => {
  const memory = StreamGauge.allocate(1);
  let models = ["m", 'a"b\\c\nd'];
  const metrics = new WorkerMetrics({ streams: new StreamGauge(0, memory), models: () => models });
  for (let stream = 0; stream < 1000; stream++) metrics.tokensUsed(`made up ${stream}`, 1, 2);
  for (const model of models) metrics.tokensUsed(model, 3, 4);
  models = [];
  metrics.tokensUsed("m", 5, 6);
  const { page } = fixture();
  const families = parsePage(await page.render([await metrics.snapshot()]));
  assert.deepEqual([...families.get("daemon_backend_tokens_total")?.series ?? []], [
    ['daemon_backend_tokens_total{model="other",direction="input"}', 1005],
    ['daemon_backend_tokens_total{model="other",direction="output"}', 2006],
    ['daemon_backend_tokens_total{model="m",direction="input"}', 3],
    ['daemon_backend_tokens_total{model="m",direction="output"}', 4],
    ['daemon_backend_tokens_total{model="a\\"b\\\\c\\nd",direction="input"}', 3],
    ['daemon_backend_tokens_total{model="a\\"b\\\\c\\nd",direction="output"}', 4],
  ]);
});

Deno.test("what the daemon itself refuses, and streams lost with a worker, add up with what workers count", async () => {
  const { page, workers: [first], render } = fixture();
  count(first as WorkerMetrics, 1);
  page.handoffsRefused("no_fd", 10);
  page.workerDied(7);
  page.workerDied(0);
  const families = await render();
  const value = (name: string, labels: string) => families.get(name)?.series.get(`${name}${labels}`);
  assert.equal(value("daemon_handoffs_failed", '{reason="no_fd"}'), 11);
  assert.equal(value("daemon_handoffs_failed", '{reason="many_fds"}'), 1);
  assert.equal(value("daemon_stream_errors_total", '{reason="other"}'), 8);
  assert.equal(value("daemon_stream_errors_total", '{reason="shutdown"}'), 1);
  assert.equal(value("daemon_worker_restarts_total", ""), 2);
});

Deno.test("the lag of the event loop is that of the pings since the last scrape", async () => {
  const { page, render } = fixture();
  const lags = async () => {
    const families = await render();
    return ["", "_min", "_max", "_mean", "_stddev", "_p50", "_p90", "_p99"].map((which) => {
      const name = `nodejs_eventloop_lag${which}_seconds`;
      return families.get(name)?.series.get(name);
    });
  };
  assert.deepEqual(await lags(), [0, 0, 0, 0, 0, 0, 0, 0]);
  for (const delaySecs of [4, 2, 4, 4, 5, 5, 7, 9]) page.eventLoopLag(delaySecs);
  assert.deepEqual(await lags(), [9, 2, 9, 5, 2, 4, 9, 9]);
  page.eventLoopLag(3);
  assert.deepEqual(await lags(), [3, 3, 3, 3, 0, 3, 3, 3]); // what came before the last scrape is over
  for (let ping = 0; ping < 5000; ping++) page.eventLoopLag(ping < 4000 ? 100 : 1);
  assert.deepEqual((await lags()).slice(0, 4), [1, 1, 1, 1], "the latest thousand");
});

Deno.test("sums of snapshots can be summed again", async () => {
  const { workers: [first, second], page } = fixture();
  count(first as WorkerMetrics, 1);
  count(second as WorkerMetrics, 1);
  const snapshots = async () => [await first?.snapshot() ?? [], await second?.snapshot() ?? []];
  const sum = await sumSnapshots([await sumSnapshots(await snapshots()), ...await snapshots()]);
  const families = parsePage(await page.render([sum]));
  assert.equal(families.get("daemon_connections_total")?.series.get("daemon_connections_total"), 4);
  assert.equal(
    families.get("daemon_stream_duration_seconds")?.series.get("daemon_stream_duration_seconds_count"),
    4 * 10,
  );
});

Deno.test("totals add up as plain sums", async () => {
  const [first, second] = [new Totals(), new Totals()];
  for (const totals of [first, second]) {
    totals.connectionOpened();
    totals.streamStarted();
    totals.eventSent();
    totals.bytesSent(7);
    totals.streamEnded(1, "other");
    totals.handoffFailed();
    totals.connectionRejected();
  }
  const sums = await sumSnapshots([await first.snapshot(), await second.snapshot()]);
  assert.deepEqual(Object.fromEntries(sums.map(({ name, values }) => [name, values[0]?.value])), {
    connections: 2,
    streams: 2,
    failed_streams: 2,
    refused_handoffs: 2,
    rejected: 2,
    events: 2,
    bytes: 14,
  });
});

Deno.test("what a backend tells of its connections is on the page", async () => {
  const stats = {
    connections: 3,
    streams: 200,
    waiting: 1,
    opened: 5,
    failedDials: 2,
    retries: 4,
    cancelled: 7,
  };
  const metrics = new WorkerMetrics({
    streams: new StreamGauge(0, StreamGauge.allocate(1)),
    models: () => [],
    upstream: () => stats,
  });
  const value = (snapshot: Awaited<ReturnType<WorkerMetrics["snapshot"]>>, name: string) =>
    snapshot.find((metric) => metric.name === name)?.values[0]?.value;
  const snapshot = await metrics.snapshot();
  assert.equal(value(snapshot, "daemon_upstream_connections"), 3);
  assert.equal(value(snapshot, "daemon_upstream_streams"), 200);
  assert.equal(value(snapshot, "daemon_upstream_waiting"), 1);
  assert.equal(value(snapshot, "daemon_upstream_connections_opened_total"), 5);
  assert.equal(value(snapshot, "daemon_upstream_connect_failures_total"), 2);
  assert.equal(value(snapshot, "daemon_upstream_retries_total"), 4);
  assert.equal(value(snapshot, "daemon_upstream_cancelled_total"), 7);
  // Of a worker that has gone, the counters hold on, and its gauges do not.
  assert.equal(value(countersOf(snapshot), "daemon_upstream_connections"), undefined);
  assert.equal(value(countersOf(snapshot), "daemon_upstream_retries_total"), 4);
});

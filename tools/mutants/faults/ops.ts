/**
 * Metrics, log, traces, admin pages, systemd.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const OPS: readonly FaultyFile[] = [
  {
    file: "src/ops/metrics/duration_histogram.ts",
    faults: [
      {
        id: "buckets-end-below-their-bound",
        text: "secs > (bounds[bucket] as number)",
        instead: "secs >= (bounds[bucket] as number)",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "buckets-do-not-add-up",
        text: "count += this.#counts[bucket] as number;",
        instead: "count = this.#counts[bucket] as number;",
        tests: ["ops/metrics_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/metrics/worker_metrics.ts",
    faults: [
      {
        id: "handoff-durations-are-never-observed",
        text: "    this.#handoffSeconds.observe(durationSecs);\n",
        instead: "",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "stream-durations-are-never-observed",
        text: "    this.#streamSeconds.observe(durationSecs);\n",
        instead: "",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "backend-durations-are-never-observed",
        text: "    this.#backendSeconds.observe(durationSecs);\n",
        instead: "",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "first-events-are-never-observed",
        text: "    this.#backendTtfb.observe(durationSecs);\n",
        instead: "",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "every-broken-stream-is-other",
        text: "this.#streamErrors.add({ reason: failure });",
        instead: 'this.#streamErrors.add({ reason: "other" });',
        tests: ["ops/metrics_test.ts", "e2e/clients_test.ts"],
      },
      {
        id: "input-tokens-are-output-tokens",
        text: 'direction: "input" }, value: input',
        instead: 'direction: "output" }, value: input',
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "the-oldest-stream-adds-up",
        text: 'oldestSecs?.() ?? 0, "max"',
        instead: "oldestSecs?.() ?? 0",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "every-backend-error-is-other",
        text: "this.#backendErrors.add({ backend, kind });",
        instead: 'this.#backendErrors.add({ backend, kind: "other" });',
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "buckets-begin-elsewhere",
        text: "    0.001,\n  );",
        instead: "    0.01,\n  );",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "streams-are-never-left",
        text: "    this.#parts.streams.leave();\n",
        instead: "",
        tests: ["ops/metrics_test.ts", "e2e/limits_test.ts"],
      },
      {
        id: "a-store-that-one-worker-reaches-is-up",
        text: '      streams?.storeUp ?? 1,\n        "min",',
        instead: '      streams?.storeUp ?? 1,\n        "max",',
        tests: ["ops/metrics_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/metrics/page.ts",
    faults: [
      {
        id: "lost-streams-count-as-one",
        text: 'this.#streamErrors.add({ reason: "other" }, lostStreams);',
        instead: 'this.#streamErrors.add({ reason: "other" });',
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "refusals-count-as-one",
        text: "this.#handoffsFailed.add({ reason }, count);",
        instead: "this.#handoffsFailed.add({ reason });",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "deaths-are-not-on-the-page",
        text: "    this.#restarts.inc();\n",
        instead: "",
        tests: ["ops/metrics_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/metrics/stream_gauge.ts",
    faults: [
      {
        id: "streams-lost-with-a-worker-stay-active",
        text: "    Atomics.sub(this.#counts, 0, lost);\n",
        instead: "",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "the-peak-is-what-is-active-now",
        text: "while (active > peak) {",
        instead: "while (active !== peak) {",
        tests: ["ops/metrics_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/metrics/counter.ts",
    faults: [
      {
        id: "a-counter-starts-again-at-each-step",
        text: "else series.value += count;",
        instead: "else series.value = count;",
        tests: ["ops/counter_test.ts"],
      },
      {
        id: "labels-that-follow-each-other-are-one",
        text: "Object.values(labels).join(",
        instead: "Object.values(labels).slice(-1).join(",
        tests: ["ops/counter_test.ts"],
      },
      {
        id: "a-snapshot-goes-on-counting",
        text: ".map((each) => ({ ...each }))",
        instead: "",
        tests: ["ops/counter_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/metrics/snapshot.ts",
    faults: [
      {
        id: "gauges-of-the-dead-stay",
        text: 'return snapshot.filter(({ type }) => type as unknown !== "gauge");',
        instead: "return snapshot;",
        tests: ["ops/metrics_test.ts", "daemon/worker_pool_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/metrics/event_loop.ts",
    faults: [
      {
        id: "the-lag-since-the-start",
        text: "    this.#delaysSecs = [];\n    for",
        instead: "    for",
        tests: ["ops/metrics_test.ts"],
      },
      {
        id: "a-percentile-too-high",
        text: "[Math.ceil(sorted.length * percent / 100) - 1]",
        instead: "[Math.min(sorted.length - 1, Math.ceil(sorted.length * percent / 100))]",
        tests: ["ops/metrics_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/admin_server.ts",
    faults: [
      {
        id: "always-ready",
        text: 'pages.ready() ? text(200, "ready\\n") : text(503, "not ready\\n")',
        instead: 'text(200, "ready\\n")',
        tests: ["ops/admin_server_test.ts"],
      },
      {
        id: "a-failed-page-tells-why",
        text: 'return text(500, "this page failed; the log says why\\n");',
        instead: "return text(500, String(error));",
        tests: ["ops/admin_server_test.ts"],
      },
      {
        id: "an-admin-server-that-failed-stays-shut",
        text: "      server = undefined;\n",
        instead: "",
        tests: ["e2e/limits_test.ts"],
      },
      {
        id: "any-method-is-a-get",
        text: 'if (request.method !== "GET" && request.method !== "HEAD") {',
        instead: "if (false) {",
        tests: ["ops/admin_server_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/status.ts",
    faults: [
      {
        id: "a-provider-s-last-worker-is-all",
        text: "of(labels).requests += value;",
        instead: "of(labels).requests = value;",
        tests: ["e2e/status_test.ts"],
        survives: "the snapshots are summed before, so that there is one value for each provider",
      },
    ],
  },
  {
    file: "src/ops/systemd.ts",
    faults: [
      {
        id: "the-watchdog-is-fed-twice-within-its-limit",
        text: "Number(limitUsec) / 4000",
        instead: "Number(limitUsec) / 2000",
        tests: ["ops/systemd_test.ts"],
      },
      {
        id: "the-watchdog-is-fed-though-a-worker-hangs",
        text: "if (healthy()) this.#notify",
        instead: "this.#notify",
        tests: ["ops/systemd_test.ts"],
      },
      {
        id: "sockets-for-another-process-are-taken",
        text: 'if (env("LISTEN_PID") !== String(pid)) return [];',
        instead: "",
        tests: ["ops/systemd_test.ts"],
      },
      {
        id: "a-status-can-set-other-variables",
        text: 'return `STATUS=${status.replace(/[\\r\\n]+/g, " ")}`;',
        instead: "return `STATUS=${status}`;",
        tests: ["ops/systemd_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/tracing.ts",
    faults: [
      {
        id: "traced-durations-in-milliseconds",
        text: "(endedMs - this.#startedMs) / 1000,",
        instead: "endedMs - this.#startedMs,",
        tests: ["e2e/tracing_test.ts"],
      },
      {
        id: "a-traced-first-chunk-in-milliseconds",
        text: "(this.#firstTextMs - this.#startedMs) / 1000;",
        instead: "this.#firstTextMs - this.#startedMs;",
        tests: ["e2e/tracing_test.ts"],
      },
      {
        id: "spans-begin-in-1970",
        text: "startTime: performance.timeOrigin + startedMs,",
        instead: "startTime: startedMs,",
        tests: ["e2e/tracing_test.ts"],
      },
      {
        id: "traced-input-tokens-are-the-output-s",
        text: '["input", usage.inputTokens]',
        instead: '["input", usage.outputTokens]',
        tests: ["e2e/tracing_test.ts"],
      },
      {
        id: "a-failed-stream-has-a-good-span",
        text: ".setStatus({ code: SpanStatusCode.ERROR })",
        instead: "",
        tests: ["e2e/tracing_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/log/floods.ts",
    faults: [
      {
        id: "a-flood-s-sum-has-the-written-ones-too",
        text: "sumUp(count - MAX_EQUAL)",
        instead: "sumUp(count)",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "ever-new-warnings-cost-memory",
        text: "      if (this.#kinds.size === MAX_KINDS) this.end();\n",
        instead: "",
        tests: ["ops/log_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/log/clean.ts",
    faults: [
      {
        id: "keys-of-the-sk-kind-are-logged",
        text: '      .replace(/\\bsk-[\\w-]{8,}/g, "sk-(hidden)")\n',
        instead: "",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "passwords-in-urls-are-logged",
        text: '      .replace(/:\\/\\/[^/@\\s]*@/g, "://(hidden)@")',
        instead: "",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "a-bearer-in-small-letters-is-logged",
        text: "const SECRET_SHAPE = /Bearer|sk-|:\\/\\//i;",
        instead: "const SECRET_SHAPE = /Bearer|sk-|:\\/\\//;",
        tests: ["ops/log_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/log/line_queue.ts",
    faults: [
      {
        id: "lines-that-nobody-reads-have-no-bound",
        text: "if (!this.#open || this.#waitingUnits + line.length > MAX_WAITING_UNITS) {",
        instead: "if (!this.#open) {",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "how-much-was-lost-gets-lost",
        text: "this.#add(this.#droppedLine(this.#dropped));",
        instead: "this.push(this.#droppedLine(this.#dropped));",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "each-line-of-the-log-is-a-write",
        text: "if (!this.#hurries && !this.#isWriteFull) await this.#rest();",
        instead: "",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "what-fills-a-write-waits-for-more",
        text: "    if (this.#isWriteFull) this.#endRest();\n",
        instead: "",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "what-is-urgent-waits-once-a-write-is-under-way",
        text: "    this.#hurries = true;\n",
        instead: "",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "a-log-that-nobody-reads-is-waited-for",
        text: "await within(Promise.resolve(this.#writing), timeoutMs, () => {});",
        instead: "await this.#writing;",
        tests: ["ops/log_test.ts"],
      },
      {
        id: "a-log-falls-silent-after-a-mebibyte",
        text: "          this.#waitingUnits -= units;\n",
        instead: "",
        tests: ["ops/log_test.ts"],
      },
    ],
  },
  {
    file: "src/ops/model_label.ts",
    faults: [
      {
        id: "each-model-has-a-series",
        text: 'return known.includes(requested) ? requested : "other";',
        instead: "return requested;",
        tests: ["ops/metrics_test.ts"],
      },
    ],
  },
];

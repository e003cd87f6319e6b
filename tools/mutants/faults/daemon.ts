/**
 * The daemon as a whole: limits, workers and their deaths, the order of the end.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const DAEMON: readonly FaultyFile[] = [
  {
    file: "src/daemon/daemon.ts",
    faults: [
      {
        id: "a-check-overlooks-what-a-backend-cannot-use",
        text: "const planned = await planBackends(config);\n  await checkStore",
        instead: "const planned = config;\n  await checkStore",
        tests: ["e2e/launch_test.ts"],
      },
      {
        id: "a-check-overlooks-the-certificates-of-the-store",
        text: "  await checkStore(config);\n",
        instead: "",
        tests: ["e2e/launch_test.ts"],
      },
      {
        id: "the-store-s-certificates-are-any-file",
        text: 'if (!text.includes("-----BEGIN CERTIFICATE-----")) {',
        instead: "if (false) {",
        tests: ["e2e/launch_test.ts"],
      },
      {
        id: "why-nothing-is-accepted-is-not-told",
        text: "{ error: statusText(-errno) }",
        instead: "{}",
        tests: ["e2e/refusals_test.ts"],
      },
      {
        id: "the-uid-that-may-not-is-not-told",
        text: "...(detailName === undefined ? {} : { [detailName]: detail }),",
        instead: "",
        tests: ["e2e/refusals_test.ts"],
      },
      {
        id: "what-reached-no-worker-is-not-in-the-summary",
        text: "        this.#refused += count;\n",
        instead: "",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "a-drain-waits-for-a-seat-without-end",
        text: "within(this.#drained.promise, DRAINED_MS, () => {})",
        instead: "within(this.#drained.promise, 3_600 * DRAINED_MS, () => {})",
        tests: ["e2e/failing_workers_test.ts"],
      },
      {
        id: "workers-auto-is-one",
        text: 'config.server.workers === "auto" ? navigator.hardwareConcurrency :',
        instead: 'config.server.workers === "auto" ? 1 :',
        tests: ["e2e/workers_test.ts"],
      },
      {
        id: "metrics-though-they-are-off",
        text: "      if (config.metrics.enabled) {",
        instead: "      if (true) {",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "ready-while-draining",
        text: "    this.#draining = true;\n    this.#ready = false;",
        instead: "    this.#draining = true;",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "a-reload-is-over-before-the-workers-have-it",
        text: "await this.#pool.reload(planned);",
        instead: "void this.#pool.reload(planned);",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "limits-are-not-reloaded",
        text: "    this.#acceptor.configure(acceptorPolicy(config, this.#fdLimit, this.#log));\n",
        instead: "",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "many-refusals-are-one",
        text: "parts.page.handoffsRefused(reason, count);",
        instead: "parts.page.handoffsRefused(reason, 1);",
        tests: ["e2e/log_test.ts", "e2e/refusals_test.ts"],
      },
      {
        id: "a-refusal-s-time-in-seconds",
        text: "Math.round(durationSecs * 1000)",
        instead: "Math.round(durationSecs)",
        tests: ["e2e/refusals_test.ts"],
      },
      {
        id: "the-first-page-for-ever",
        text: "scrape ??= render().finally(() => scrape = undefined)",
        instead: "scrape ??= render()",
        tests: ["e2e/stream_test.ts", "e2e/limits_test.ts"],
      },
      {
        id: "the-uptime-in-milliseconds",
        text: "Math.round((performance.now() - this.#startedMs) / 1000)",
        instead: "Math.round(performance.now() - this.#startedMs)",
        tests: ["e2e/status_test.ts"],
      },
      {
        id: "the-youngest-worker-is-the-oldest",
        text: "oldest_secs: Math.max(",
        instead: "oldest_secs: Math.min(",
        tests: ["e2e/status_test.ts"],
      },
      {
        id: "a-second-signal-does-nothing",
        text: "    this.#stopNow.abort();\n",
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "the-end-of-the-time-does-not-reach-who-says-nothing",
        text: '      now.addEventListener("abort", stopAtOnce, { once: true });\n',
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "no-sums-of-a-benchmark",
        text: "if (this.#benchmark) this.#log.info",
        instead: "if (!this.#benchmark) this.#log.info",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "status-says-draining-too-late",
        text: 'state: this.#ready ? "taking handoffs" : "draining",',
        instead: 'state: "taking handoffs",',
        tests: ["e2e/status_test.ts"],
      },
      {
        id: "a-refusal-without-a-request-id",
        text: "          request_id: ids.next(), // its own, if it has one, is in data that is not read\n",
        instead: "",
        tests: ["e2e/refusals_test.ts"],
      },
      {
        id: "the-status-has-a-limit-that-is-not-kept",
        text: "max_connections: maxConnections(this.#config, this.#fdLimit),",
        instead: "max_connections: this.#config.server.maxConnections,",
        tests: ["e2e/limits_test.ts"],
      },
    ],
  },
  {
    file: "src/daemon/limits.ts",
    faults: [
      {
        id: "http1-takes-one-descriptor-a-client",
        text: "STREAMS_PER_UPSTREAM_FD : 2;",
        instead: "STREAMS_PER_UPSTREAM_FD : 1;",
        tests: ["e2e/limits_test.ts"],
      },
      {
        id: "http2-takes-no-descriptor",
        text: "? 1 + 1 / STREAMS_PER_UPSTREAM_FD",
        instead: "? 1",
        tests: ["e2e/limits_test.ts"],
      },
      {
        id: "no-descriptors-are-reserved",
        text: "const RESERVED_FDS = 256;",
        instead: "const RESERVED_FDS = 0;",
        tests: ["e2e/limits_test.ts"],
      },
      {
        id: "tcp-user-timeout-is-not-passed-on",
        text: "clientTimeoutMs: server.writeTimeoutMs,",
        instead: "clientTimeoutMs: 0,",
        tests: ["e2e/clients_test.ts"],
      },
      {
        id: "one-pending-handoff",
        text: "const MAX_PENDING = 256;",
        instead: "const MAX_PENDING = 1;",
        tests: ["e2e/payload_test.ts"],
      },
      {
        id: "everybody-may-hand-over",
        text: "allowedUids: server.allowedUids,",
        instead: "allowedUids: [],",
        tests: ["e2e/refusals_test.ts"],
      },
      {
        id: "backends-with-a-name-take-no-descriptors",
        text: "Math.max(...allBackends(config)",
        instead: "Math.max(...allBackends(config).slice(0, 1)",
        tests: ["daemon/limits_test.ts"],
      },
    ],
  },
  {
    file: "src/daemon/worker_pool.ts",
    faults: [
      {
        id: "a-successor-starts-past-the-end",
        text: "AbortSignal.any([now, late])",
        instead: "AbortSignal.any([late, now].slice(1))",
        tests: ["e2e/failing_workers_test.ts"],
      },
      {
        id: "deaths-not-counted",
        text: "    died(lostStreams);\n",
        instead: "",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-drain-starts-workers",
        text: "    if (this.#draining) return;\n",
        instead: "",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "one-death-less",
        text: "if (this.#deathTimes.push(now) > MAX_DEATHS_PER_MINUTE)",
        instead: "if (this.#deathTimes.push(now) >= MAX_DEATHS_PER_MINUTE)",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-second-death-forgets-the-first-one-s-counts",
        text: "sumSnapshots([...retired, lasting])",
        instead: "sumSnapshots([lasting])",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-dead-worker-is-counted-twice",
        text: "    slot.lastSnapshot = undefined;\n",
        instead: "",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "counts-of-the-dead-get-lost",
        text: "return [...await this.#retired, ...live];",
        instead: "return live;",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "who-died-in-a-drain-is-missed",
        text: "worker?.answers ?? this.#draining",
        instead: "worker?.answers",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-worker-that-hangs-is-well",
        text: "answers: worker?.answers ?? false,",
        instead: "answers: true,",
        tests: ["e2e/bugs_test.ts"],
      },
      {
        id: "a-dead-worker-s-streams-stay",
        text: "const lostStreams = new StreamGauge(slot.index, streams).clear();",
        instead: "const lostStreams = new StreamGauge(slot.index, streams).own;",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-successor-that-does-not-start-has-none",
        text: "      return this.#died(slot, error);",
        instead: "      return;",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "deaths-of-an-hour-end-the-daemon",
        text: "now - 60_000) this",
        instead: "now - 3_600_000) this",
        tests: ["daemon/worker_pool_test.ts"],
      },
    ],
  },
  {
    file: "src/daemon/worker_proxy.ts",
    faults: [
      {
        id: "a-worker-that-starts-is-well",
        text: "return this.#pingTimer !== undefined && this.#unanswered < 2;",
        instead: "return this.#unanswered < 2;",
        tests: ["e2e/failing_workers_test.ts"],
      },
      {
        id: "a-hung-worker-hangs-the-page",
        text: ": setTimeout(() => this.#answer(id, undefined), timeoutMs);",
        instead: ": undefined;",
        tests: ["e2e/bugs_test.ts"],
      },
      {
        id: "each-page-waits-for-a-hung-worker",
        text: "    if (!this.answers) return Promise.resolve(undefined);\n",
        instead: "",
        tests: ["e2e/bugs_test.ts"],
      },
      {
        id: "a-hung-worker-is-never-replaced",
        text: "const PINGS = 4;",
        instead: "const PINGS = 400;",
        tests: ["e2e/bugs_test.ts"],
      },
      {
        id: "a-hung-worker-s-clients-stay-open",
        text: "    closeReactor(this.#reactor);\n",
        instead: "",
        tests: ["e2e/bugs_test.ts"],
      },
      {
        id: "the-lag-of-the-event-loop-in-milliseconds",
        text: "this.#pinged((performance.now() - askedAt) / 1000);",
        instead: "this.#pinged(performance.now() - askedAt);",
        tests: ["e2e/failing_workers_test.ts"],
      },
      {
        id: "answered-pings-count-as-unanswered",
        text: "      this.#unanswered = 0;\n",
        instead: "",
        tests: ["e2e/bugs_test.ts", "e2e/reload_test.ts"],
      },
      {
        id: "questions-to-the-dead-have-no-answer",
        text: "    for (const id of [...this.#asked.keys()]) this.#answer(id, undefined);\n",
        instead: "",
        tests: ["e2e/failing_workers_test.ts"],
      },
      {
        id: "a-drain-that-is-over-waits-all-the-same",
        text: "    if (now.aborted) return stop();\n",
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "a-worker-that-does-not-stop-is-waited-for",
        text: "    this.#stopWithin(timeoutMs + this.#deadlines.stopMs);\n",
        instead: "",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-worker-that-does-not-stop-when-told-is-waited-for",
        text: "      this.#stopWithin(this.#deadlines.stopMs);\n",
        instead: "",
        tests: ["daemon/worker_pool_test.ts"],
      },
      {
        id: "a-worker-that-has-started-is-given-up-all-the-same",
        text: "      clearTimeout(this.#startTimer);\n      this.#pingTimer",
        instead: "      this.#pingTimer",
        tests: ["daemon/worker_pool_test.ts"],
      },
    ],
  },
  {
    file: "src/daemon/worker_thread.ts",
    faults: [
      {
        id: "a-worker-s-log-level-is-not-reloaded",
        text: "      opened?.setLevels(question.config.logging);\n",
        instead: "",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "a-worker-s-last-counts-get-lost",
        text: 'postMessage({ type: "ended", snapshot: worker.metrics() })',
        instead: 'postMessage({ type: "ended", snapshot: [] })',
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "a-worker-s-last-lines-get-lost",
        text: "      await opened?.close(LOG_CLOSE_MS);\n",
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
    ],
  },
];

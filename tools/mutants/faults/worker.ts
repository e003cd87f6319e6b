/**
 * The worker: connections, the sink, limits.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const WORKER: readonly FaultyFile[] = [
  {
    file: "src/worker/backend_call.ts",
    faults: [
      {
        id: "what-is-asked-is-not-told",
        text: '    this.#logStep("Backend asked");\n',
        instead: "",
        tests: ["e2e/log_test.ts"],
      },
      {
        id: "the-trace-of-a-failed-try-ends-again",
        text: "    this.#trace = undefined; // the next one may well not be asked, and has none then\n",
        instead: "",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "durations-in-milliseconds",
        text: "return (this.parts.wheel.now() - this.startedMs) / 1000;",
        instead: "return this.parts.wheel.now() - this.startedMs;",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "no-sign-of-life",
        text: "    own.push(this, HEARTBEAT);\n",
        instead: "",
        tests: ["worker/heartbeat_test.ts"],
      },
      {
        id: "backend-time-out-not-counted",
        text: '    this.parts.metrics.backendError((this.#route as Route).name, "timeout");\n',
        instead: "",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "a-request-s-bytes-are-not-held",
        text: "    shedding.hold(requestBytes);\n",
        instead: "",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "a-request-s-bytes-are-never-released",
        text: "    this.parts.shedding.release(this.#requestBytes);\n",
        instead: "",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "what-follows-the-last-event-is-sent",
        text: "if (this.over || this.ended) return false;",
        instead: "if (this.ended) return false;",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "a-span-ends-with-its-client",
        text: "    this.#trace?.answered();\n",
        instead: "",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "signs-of-life-though-none-are-asked-for",
        text: 'if (event.kind !== "alive" || heartbeatMs === 0) this.waitForBackend();',
        instead: 'if (event.kind !== "alive") this.waitForBackend();',
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "requests-not-counted",
        text: "    metrics.backendRequest(route.name);\n",
        instead: "",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "the-backend-s-time-runs-while-its-client-is-full",
        text: "if (this.answer !== undefined && !this.waits)",
        instead: "if (this.answer !== undefined)",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "each-event-is-a-first-one",
        text: "      this.#begun = true;\n",
        instead: "",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "a-failure-is-a-first-event",
        text: "if (!this.#begun && this.failure === undefined &&",
        instead: "if (!this.#begun &&",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "a-duration-in-the-log-in-seconds",
        text: "duration_ms: Math.round(durationSecs * 1000),",
        instead: "duration_ms: Math.round(durationSecs),",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "an-answer-that-is-cancelled-is-not-told",
        text: "    this.#answerEnded();\n    answer.cancel();",
        instead: "    this.#answerEnded();",
        tests: ["worker/connection_ends_test.ts"],
      },
      {
        id: "a-backend-s-bug-kills-its-worker",
        text: '      this.parts.own.push(this, { kind: "error", error: asBackendError(error) });',
        instead: "      throw error;",
        tests: ["e2e/bugs_test.ts"],
      },
      {
        id: "the-trace-of-another-try-begins-with-its-handoff",
        text: "this.#hasFailedTry ? performance.now() : this.startedMs;",
        instead: "this.startedMs;",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "a-backend-that-is-not-asked-has-the-name-of-the-one-before",
        text: "    this.#route = route;\n    this.parts.metrics.backendRefused",
        instead: "    this.parts.metrics.backendRefused",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "another-backend-s-chunks-name-the-first-one-s-model",
        text: "    this.format = this.formatOf(request);\n    this.#asked",
        instead: "    this.#asked",
        tests: ["worker/tries_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/connection.ts",
    faults: [
      {
        id: "who-comes-while-it-stops-is-asked-for",
        text: "if (stopping) return [",
        instead: "if (false) return [",
        tests: ["worker/connection_ends_test.ts"],
      },
      {
        id: "handoffs-are-not-told",
        text: "    this.#logHandoff(request, handoff);\n",
        instead: "",
        tests: ["e2e/log_test.ts"],
      },
      {
        id: "a-client-that-had-left-is-asked-for",
        text: "if (handoff.gone) this.#hadLeft(request);",
        instead: "if (handoff.gone && handoff.moved) this.#hadLeft(request);",
        tests: ["worker/connection_ends_test.ts"],
      },
      {
        id: "a-client-that-had-left-keeps-its-stream",
        text: "      if (handoff.gone) this.gone(0); // the stream may go on\n",
        instead: "",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "a-full-client-does-not-pause-its-answer",
        text: "if (isNew) (this.#watch ?? this.answer)?.pause();",
        instead: "",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "a-drained-client-does-not-resume-its-answer",
        text: "    this.answer.resume();",
        instead: "",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "write-deadline-extended-without-progress",
        text: "if (isNew || progress)",
        instead: "if (true)",
        tests: ["worker/connection_full_test.ts", "worker/backpressure_test.ts"],
      },
      {
        id: "no-write-deadline",
        text: "if (isNew || progress)",
        instead: "if (progress && !isNew)",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "write-timeout-counted-as-the-backend-s",
        text: 'if (this.full) return this.#abort("write_timeout");',
        instead: 'if (this.full) return this.#abort("backend_timeout");',
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "unacknowledged-bytes-counted-as-a-disconnect",
        text: 'errno === ETIMEDOUT ? "write_timeout" : "client_disconnected"',
        instead: '"client_disconnected"',
        tests: ["worker/connection_ends_test.ts", "worker/connection_full_test.ts"],
      },
      {
        id: "no-bound-on-what-is-appended",
        text: "if (kept.length + bytes.length > MAX_KEPT_BYTES) return this.#tooMuch();",
        instead: "",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "no-bound-on-what-is-kept",
        text: "if (rest.length > MAX_KEPT_BYTES) return this.#tooMuch();",
        instead: "",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "the-end-behind-kept-bytes-is-forgotten",
        text: "    this.#endKept ||= end;\n",
        instead: "",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "a-timer-is-left-behind",
        text: "    wheel.cancel(this);\n    this.cancelAnswer();",
        instead: "    this.cancelAnswer();",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "an-answer-nobody-wants-goes-on",
        text: "    wheel.cancel(this);\n    this.cancelAnswer();",
        instead: "    wheel.cancel(this);",
        tests: ["worker/connection_ends_test.ts"],
      },
      {
        id: "an-ended-connection-stays-in-its-set",
        text: "    connections.delete(this);\n  }\n\n  #watchEnded",
        instead: "  }\n\n  #watchEnded",
        tests: ["worker/connection_test.ts"],
      },
      {
        id: "clients-beyond-the-limit-not-counted",
        text: "      metrics.connectionRejected();\n      this.#logRefusal(",
        instead: "      this.#logRefusal(",
        tests: ["worker/connection_ends_test.ts", "e2e/limits_test.ts"],
      },
      {
        id: "bad-requests-not-counted",
        text: '        metrics.handoffFailed("bad_request");\n',
        instead: "",
        tests: ["worker/connection_ends_test.ts", "e2e/refusals_test.ts"],
      },
      {
        id: "a-full-daemon-names-the-wrong-reason",
        text: '["Connection limit reached", "Too many connections"]',
        instead: '["Connection limit reached", NO_ROOM]',
        tests: ["worker/connection_ends_test.ts", "e2e/limits_test.ts"],
      },
      {
        id: "data-that-is-too-long-is-a-503",
        text: "payload_truncated: [413,",
        instead: "payload_truncated: [503,",
        tests: ["worker/connection_ends_test.ts", "e2e/refusals_test.ts"],
      },
      {
        id: "a-refusal-s-line-has-another-request-id",
        text: "requestIdOf(payload) ?? this.parts",
        instead: "this.parts",
        tests: ["worker/connection_ends_test.ts", "e2e/refusals_test.ts"],
      },
      {
        id: "a-drained-client-keeps-the-write-deadline",
        text: "    this.waitForBackend();\n    this.answer.resume();",
        instead: "    this.answer.resume();",
        tests: ["worker/connection_full_test.ts"],
      },
      {
        id: "who-has-left-watches-what-is-found",
        text: "if (this.ended) return found.cancel();",
        instead: "if (this.ended) return;",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "a-watcher-s-time-out-of-writing-goes-on",
        text: "    else wheel.cancel(this);\n",
        instead: "",
        tests: ["worker/shared_stream_test.ts"],
      },
      {
        id: "signs-of-life-at-a-pace-of-their-own",
        text: "    if (this.parts.heartbeatMs > 0) this.#waitForStream();\n",
        instead: "",
        tests: ["worker/shared_stream_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/clients.ts",
    faults: [
      {
        id: "failed-sends-count-as-negative-bytes",
        text: "      if (result > 0) bytes += result;",
        instead: "      bytes += result;",
        tests: ["worker/clients_test.ts"],
      },
      {
        id: "bytes-sent-later-are-not-counted",
        text: "    if (result > 0) this.#traffic.bytesSent(result);\n",
        instead: "",
        tests: ["worker/clients_test.ts"],
      },
      {
        id: "bytes-for-a-client-that-has-ended",
        text: "if (!client.ended && !client.full) {",
        instead: "if (!client.full) {",
        tests: ["worker/clients_test.ts"],
      },
      {
        id: "the-end-of-a-full-client-gets-lost",
        text: "        entries[word + 3] === END,\n",
        instead: "        false,\n",
        tests: ["worker/clients_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/connection_set.ts",
    faults: [
      {
        id: "a-stream-ends-a-moment-late",
        text: "if (connection.startedMs > startedMs) return",
        instead: "if (connection.startedMs >= startedMs) return",
        tests: ["worker/stream_limit_test.ts", "worker/connection_set_test.ts"],
      },
      {
        id: "a-wait-leaves-a-listener",
        text: '      signal.removeEventListener("abort", stop);\n',
        instead: "",
        tests: ["worker/connection_set_test.ts"],
      },
      {
        id: "a-wait-ends-though-another-has-come",
        text: "while (this.#live.size > 0 && !signal.aborted) {",
        instead: "if (this.#live.size > 0 && !signal.aborted) {",
        tests: ["worker/connection_set_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/load_shedding.ts",
    faults: [
      {
        id: "a-hint-without-memory-ends-the-worker",
        text: "if (!(error instanceof RangeError)) throw error;",
        instead: "throw error;",
        tests: ["worker/load_shedding_test.ts"],
      },
      {
        id: "the-door-shuts-late",
        text: "const SHUT_SHARE = 0.7;",
        instead: "const SHUT_SHARE = 0.8;",
        tests: ["worker/load_shedding_test.ts"],
      },
      {
        id: "a-full-heap-is-not-told-in-the-first-minute",
        text: "#loggedAtMs = -Infinity;",
        instead: "#loggedAtMs = 0;",
        tests: ["e2e/full_heap_test.ts"],
      },
      {
        id: "a-full-heap-floods-the-log",
        text: "if (this.#open || this.#heap.nowMs() - this.#loggedAtMs < LOG_PAUSE_MS) return;",
        instead: "if (this.#open) return;",
        tests: ["worker/load_shedding_test.ts"],
      },
      {
        id: "what-is-held-weighs-half",
        text: "const HEAP_BYTES_PER_BYTE = 2;",
        instead: "const HEAP_BYTES_PER_BYTE = 1;",
        tests: ["worker/load_shedding_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/stream_limit.ts",
    faults: [
      {
        id: "a-worker-looks-at-its-streams-all-the-time",
        text: "Math.max(LEAST_PAUSE_MS, oldestMs",
        instead: "Math.max(0, oldestMs",
        tests: ["worker/stream_limit_test.ts"],
      },
      {
        id: "an-old-limit-goes-on-beside-the-new-one",
        text: "    this.#stop?.();\n",
        instead: "",
        tests: ["worker/stream_limit_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/backends.ts",
    faults: [
      {
        id: "counters-go-back-once-a-backend-is-closed",
        text: "this.#countedBefore = sumOf(this.#countedBefore, {",
        instead: "void sumOf(this.#countedBefore, {",
        tests: ["worker/worker_test.ts"],
      },
      {
        id: "a-replaced-backend-s-streams-are-not-told",
        text: "[...live, ...this.#replaced]",
        instead: "[...live, ...[...this.#replaced].slice(0, 0)]",
        tests: ["worker/worker_test.ts"],
      },
      {
        id: "a-replaced-backend-is-never-closed",
        text: "      if (routes.get(name) !== old) void this.#retire(old.backend);\n",
        instead: "",
        tests: ["worker/worker_test.ts"],
      },
      {
        id: "a-new-backend-reaches-nobody",
        text: "    for (const backend of made) this.#carry?.(backend.events);\n",
        instead: "",
        tests: ["worker/worker_test.ts", "e2e/reload_test.ts"],
      },
      {
        id: "half-made-backends-are-left",
        text: "      for (const backend of made) void this.#close(backend);\n",
        instead: "",
        tests: ["worker/worker_test.ts"],
        survives: "of the backends that there are, none that was never asked has anything open",
      },
      {
        id: "backends-do-not-add-up",
        text: "sum[name] += other[name];",
        instead: "sum[name] = other[name];",
        tests: ["e2e/routing_test.ts"],
      },
      {
        id: "a-drain-waits-for-answers-that-nobody-wants",
        text: "this.#close(backend, CLOSE_MS)",
        instead: "this.#close(backend)",
        tests: ["e2e/bugs_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/worker.ts",
    faults: [
      {
        id: "refused-handoffs-are-received-ones",
        text: "if (handoff.refusal === undefined && !handoff.moved) this",
        instead: "if (!handoff.moved) this",
        tests: ["worker/worker_test.ts", "e2e/refusals_test.ts"],
      },
      {
        id: "max-stream-secs-is-not-reloaded",
        text: "    this.#limit.set(config.server.maxStreamMs);\n    this.#streams.configure",
        instead: "    this.#streams.configure",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "time-outs-are-not-reloaded",
        text: "...this.#settings(config) };\n    this.#limit",
        instead: "...this.#settings(this.#config) };\n    this.#limit",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "metrics-models-are-not-reloaded",
        text: "    this.#streams.configure(this.#keepLimits(config));\n    this.#config = config;\n",
        instead: "    this.#streams.configure(this.#keepLimits(config));\n",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "who-comes-at-the-end-of-a-drain-is-not-told",
        text: "    this.#stopping = true;\n    this.#connections.shutDown();",
        instead: "    this.#connections.shutDown();",
        tests: ["worker/worker_test.ts", "e2e/shutdown_test.ts"],
      },
      {
        id: "a-drain-does-not-wait-for-the-backlog",
        text: "    await this.#reactor.caughtUp();\n    this.#streams.end();",
        instead: "    this.#streams.end();",
        tests: ["worker/worker_test.ts"],
      },
      {
        id: "a-worker-s-heap-is-never-looked-at",
        text: "setInterval(() => shedding.look(), LOOK_MS)",
        instead: "setInterval(() => {}, LOOK_MS)",
        tests: ["e2e/full_heap_test.ts"],
      },
      {
        id: "a-worker-leaves-its-interval",
        text: "      clearInterval(this.#looking);\n",
        instead: "",
        tests: ["worker/worker_test.ts"],
      },
      {
        id: "the-oldest-stream-in-milliseconds",
        text: ": (performance.now() - startedMs) / 1000;",
        instead: ": performance.now() - startedMs;",
        tests: ["e2e/status_test.ts", "worker/worker_test.ts"],
      },
      {
        id: "no-heartbeats",
        text: "heartbeatMs: config.server.heartbeatMs,",
        instead: "heartbeatMs: 0,",
        tests: ["e2e/signs_of_life_test.ts"],
      },
      {
        id: "last-words-are-waited-for-as-long-as-a-client-likes",
        text: "AbortSignal.timeout(LAST_WORDS_MS)",
        instead: "AbortSignal.timeout(3_600_000)",
        tests: ["worker/worker_test.ts", "e2e/shutdown_test.ts", "e2e/backpressure_test.ts"],
      },
      {
        id: "each-worker-keeps-as-much-as-all-may",
        text: "Math.floor(maxTotalBytes / this.#homes.workers)",
        instead: "maxTotalBytes",
        tests: ["worker/worker_test.ts"],
      },
      {
        id: "a-drain-leaves-the-store-as-it-is",
        text: "    await this.#streams.close();\n",
        instead: "",
        tests: ["real/redis_test.ts"],
      },
    ],
  },
];

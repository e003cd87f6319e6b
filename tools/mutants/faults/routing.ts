/**
 * Faults in who is asked: fallback, places, circuit, and a backend of one's own.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const ROUTING: readonly FaultyFile[] = [
  {
    file: "src/worker/tries.ts",
    faults: [
      {
        id: "one-that-a-reload-has-left-alone-waits-for-the-next",
        text: "    this.#request = undefined;\n    return undefined;",
        instead: "    return undefined;",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "the-last-request-is-kept-for-a-fallback-that-there-is-not",
        text: "    if (this.#left.length === 0) this.#request = undefined;\n",
        instead: "",
        tests: ["worker/let_go_test.ts"],
      },
      {
        id: "a-request-is-kept-after-its-first-event",
        text: "  began(attempt: Attempt): void {\n    this.#request = undefined;",
        instead: "  began(attempt: Attempt): void {",
        tests: ["worker/let_go_test.ts"],
      },
      {
        id: "what-an-old-try-gives-reaches-the-client",
        text: "    if (this.over || (!this.begun",
        instead: "    if ((!this.begun",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "an-old-try-is-not-cancelled",
        text: "    this.end(attempt);\n    attempt.answer?.cancel();\n    this.#asker.tryFailed(",
        instead: "    this.end(attempt);\n    this.#asker.tryFailed(",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "every-failure-falls-back",
        text: "    if (!isProvidersFault(error.kind)) return false;\n",
        instead: "",
        tests: ["worker/tries_test.ts", "worker/limits_test.ts"],
      },
      {
        id: "a-pause-is-forgotten-by-the-next-try",
        text: "    if (this.#paused) attempt.answer?.pause();\n",
        instead: "",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "the-last-try-has-to-hurry",
        text: "    if (this.#left.length === 0) this.#request = undefined;\n",
        instead: "",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "a-try-that-has-begun-is-still-timed",
        text:
          "    attempt.route.circuit.succeeded();\n    attempt.trial = false;\n    this.#parts.wheel.cancel(attempt);\n",
        instead: "    attempt.route.circuit.succeeded();\n    attempt.trial = false;\n",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "another-backend-gets-members-that-it-does-not-take",
        text: ".filter(([name]) => config.requestMembers.includes(name))",
        instead: "",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "another-backend-gets-the-first-ones-model",
        text: "prefixLength(request.model, config.models) > 0 ? request.model : config.defaultModel",
        instead: "request.model",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "a-place-is-never-given-back",
        text: "    if (placed) route.gate.leave();\n    else if",
        instead: "    if",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "who-leaves-stays-in-the-queue",
        text: "    else if (waits) route.gate.giveUp(attempt);\n",
        instead: "",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "a-trial-that-is-given-up-blocks-the-next",
        text: "    if (trial) route.circuit.abandoned();\n",
        instead: "",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "a-time-out-of-the-whole-is-no-failure-of-the-circuit",
        text: "attempt.over || attempt.begun || attempt.waiting !== undefined) return;",
        instead: "attempt !== undefined) return;",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "those-that-waited-are-asked-for-though-the-circuit-is-open",
        text: "    if (!route.circuit.mayAsk(wheel.now())) {\n",
        instead: "    if (false as boolean) {\n",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "who-waits-is-given-up-by-nobody",
        text: "    wheel.set(attempt, route.config.queueMs);\n",
        instead: "",
        tests: ["worker/limits_test.ts"],
      },
      {
        id: "a-client-that-was-full-once-pauses-the-next-one-for-ever",
        text: "    this.#paused = false;\n",
        instead: "",
        tests: ["worker/tries_test.ts"],
      },
      {
        id: "the-time-for-a-place-goes-on-once-there-is-one",
        text: "    else wheel.cancel(attempt);\n",
        instead: "",
        tests: ["worker/limits_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/gate.ts",
    faults: [
      {
        id: "one-more-than-may-is-inside",
        text: "this.#inside >= this.#most) return false;",
        instead: "this.#inside > this.#most) return false;",
        tests: ["worker/gate_test.ts"],
      },
      {
        id: "newcomers-overtake-the-queue",
        text: "    if (this.#waiting > 0 || this.#inside",
        instead: "    if (this.#inside",
        tests: ["worker/gate_test.ts"],
        survives: "nobody waits while there is a place, so that there is none to overtake for",
      },
      {
        id: "one-user-has-all-turns",
        text: "        this.#users.delete(userId);\n        this.#users.set(userId, own);\n",
        instead: "        void userId;\n",
        tests: ["worker/gate_test.ts"],
      },
      {
        id: "a-full-queue-takes-more",
        text: "if (this.#waiting >= this.#mostWaiting) {",
        instead: "if (this.#waiting < 0) {",
        tests: ["worker/gate_test.ts"],
      },
      {
        id: "users-of-one-size-displace-each-other",
        text: "largest.size <= ownCount + 1",
        instead: "largest.size <= ownCount",
        tests: ["worker/gate_test.ts"],
      },
      {
        id: "a-raised-limit-lets-nobody-in",
        text: "    this.#mostWaiting = mostWaiting;\n    this.#admit();\n",
        instead: "    this.#mostWaiting = mostWaiting;\n",
        tests: ["worker/gate_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/circuit.ts",
    faults: [
      {
        id: "a-success-does-not-end-the-row",
        text: "  succeeded(): void {\n    this.#failures = 0;\n",
        instead: "  succeeded(): void {\n",
        tests: ["worker/circuit_test.ts"],
      },
      {
        id: "failures-far-apart-count-together",
        text: " || nowMs - this.#firstFailureMs > withinMs",
        instead: " || nowMs - this.#firstFailureMs > withinMs * 1e9",
        tests: ["worker/circuit_test.ts"],
      },
      {
        id: "all-try-at-once-after-the-pause",
        text: "(!this.#trying && nowMs >=",
        instead: "(nowMs >=",
        tests: ["worker/circuit_test.ts", "worker/limits_test.ts"],
      },
      {
        id: "a-late-failure-begins-the-pause-anew",
        text: "      if (!trial) return; // asked before it opened\n",
        instead: "      void trial;\n",
        tests: ["worker/circuit_test.ts"],
      },
    ],
  },
  {
    file: "src/worker/backends.ts",
    faults: [
      {
        id: "each-worker-has-all-of-the-places",
        text: "Math.floor(number / workers) + (index < number % workers ? 1 : 0)",
        instead: "number + 0 * index * workers",
        tests: ["e2e/backend_limits_test.ts"],
      },
      {
        id: "a-reload-forgets-who-has-a-place",
        text: "makeRoute(name, backend, plan, this.#parts.log, old?.gate)",
        instead: "makeRoute(name, backend, plan, this.#parts.log)",
        tests: ["e2e/backend_limits_test.ts"],
      },
      {
        id: "a-worker-without-a-part-has-no-limit",
        text: "return Math.max(1, Math.floor(number",
        instead: "return Math.max(0, Math.floor(number",
        tests: ["worker/backends_test.ts"],
      },
    ],
  },
  {
    file: "src/protocol/handoff_request.ts",
    faults: [
      {
        id: "any-backend-can-be-named",
        text: "each.selectable && each.name === name",
        instead: "each.name === name",
        tests: ["protocol/handoff_request_test.ts"],
      },
      {
        id: "the-first-prefix-wins",
        text: "    if (length > longest) {\n",
        instead: "    if (length > 0 && longest === 0) {\n",
        tests: ["protocol/handoff_request_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/module.ts",
    faults: [
      {
        id: "own-backends-give-what-was-not-asked-for",
        text: "      return wanted.toolCalls ? given as StreamEvent : undefined;\n",
        instead: "      return given as StreamEvent;\n",
        tests: ["backend/module_test.ts"],
      },
      {
        id: "own-backends-are-never-closed",
        text: "    await own?.close?.();\n",
        instead: "    void own;\n",
        tests: ["backend/module_test.ts"],
      },
      {
        id: "line-breaks-of-own-backends-get-into-the-framing",
        text: ` || /[\\r\\n]/.test(event["data"])`,
        instead: "",
        tests: ["backend/module_test.ts"],
      },
    ],
  },
  {
    file: "src/backend/from_streams.ts",
    faults: [
      {
        id: "a-stream-that-comes-too-late-is-kept",
        text: "    given.then((late) => late.cancel(signal.reason)).catch(() => {});",
        instead: "   ",
        tests: ["backend/from_streams_test.ts"],
      },
    ],
  },
];

/**
 * The command line, signals, reload, the sandbox, the configuration.
 * @module
 */
import type { FaultyFile } from "../fault.ts";

/** See the module. */
export const CLI: readonly FaultyFile[] = [
  {
    file: "src/cli/start.ts",
    faults: [
      {
        id: "a-reload-during-the-start-is-lost",
        text: "  #reloads = this.#started.promise;\n",
        instead: "  #reloads = Promise.resolve();\n",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "a-configuration-that-can-be-read-once-is-empty",
        text: "if (!isFile) throw",
        instead: "if (false) throw",
        tests: ["e2e/launch_test.ts", "e2e/reload_test.ts"],
      },
      {
        id: "a-second-signal-during-the-start-is-lost",
        text: "      this.#stopAtOnce = true;\n",
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "signals-at-the-same-time-are-two",
        text: "const SAME_SIGNAL_MS = 250;",
        instead: "const SAME_SIGNAL_MS = -1;",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "a-failed-reload-leaves-systemd-waiting",
        text: '      log.error("The new configuration does not hold, the old one stays", { error });\n',
        instead:
          '      log.error("The new configuration does not hold, the old one stays", { error });\n      return;\n',
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "the-running-configuration-is-forgotten",
        text: "      this.#config = changes.config;\n",
        instead: "",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "the-daemon-s-log-level-is-not-reloaded",
        text: "      this.#opened.setLevels(this.#config.logging); // only now: it may hide that line\n",
        instead: "",
        tests: ["e2e/reload_test.ts", "e2e/workers_test.ts"],
      },
      {
        id: "a-reload-beyond-the-sandbox-is-tried",
        text: "      await this.#checkPermitted(changes.config);\n",
        instead: "",
        tests: ["e2e/launch_test.ts"],
      },
      {
        id: "reloads-overtake-each-other",
        text: "void (this.#reloads = this.#reloads.then(() => this.#reload()))",
        instead: "void this.#reload()",
        tests: ["e2e/reload_test.ts"],
      },
      {
        id: "a-signal-during-the-start-is-lost",
        text: "    else daemon.drain();\n",
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "reloading-is-not-told",
        text: "    this.#notifier.reloading();\n",
        instead: "",
        tests: ["e2e/systemd_test.ts"],
      },
      {
        id: "stopping-is-not-told",
        text: '    this.#notifier.stopping("Draining");\n',
        instead: "",
        tests: ["e2e/systemd_test.ts"],
      },
      {
        id: "a-reload-during-a-drain",
        text: "if (daemon === undefined || this.#stoppingSinceMs !== undefined) return;",
        instead: "if (daemon === undefined) return;",
        tests: ["e2e/shutdown_test.ts"],
      },
      {
        id: "a-failed-daemon-exits-with-0",
        text: '    opened.log.error("The daemon failed", { error });\n    return 1;',
        instead: '    opened.log.error("The daemon failed", { error });\n    return 0;',
        tests: ["e2e/failing_workers_test.ts"],
      },
      {
        id: "the-end-is-not-told",
        text: '    log.info("Stopped");\n',
        instead: "",
        tests: ["e2e/shutdown_test.ts"],
      },
    ],
  },
  {
    file: "src/cli/try.ts",
    faults: [
      {
        id: "a-broken-answer-is-a-success",
        text: "return answer.complete;",
        instead: "return true;",
        tests: ["cli/try_test.ts"],
      },
      {
        id: "a-try-waits-for-ever",
        text: "Math.max(1, Math.ceil(timeoutMs - sinceStartMs()))",
        instead: "4_000_000_000",
        tests: ["cli/try_test.ts"],
      },
      {
        id: "a-failure-is-not-shown",
        text: "    if (failure !== undefined) this.#options.tell(`The daemon reports: ${failure}`);\n",
        instead: "",
        tests: ["cli/try_test.ts"],
      },
      {
        id: "a-try-shows-no-text-of-openai-s-format",
        text: "content ?? choices?.[0]?.delta?.content ??",
        instead: "content ??",
        tests: ["cli/try_test.ts", "e2e/cli_test.ts"],
      },
      {
        id: "a-try-shows-no-text-of-the-ai-sdk-s-format",
        text: '(type === "text-delta" ? delta : undefined)',
        instead: "undefined",
        tests: ["cli/try_test.ts", "e2e/cli_test.ts"],
      },
      {
        id: "a-try-shows-a-failure-as-an-object",
        text: 'typeof error === "string" ? error : error?.message ?? errorText',
        instead: "error",
        tests: ["cli/try_test.ts"],
      },
      {
        id: "a-try-ends-at-a-chunk-that-is-null",
        text: "JSON.parse(data) ?? {}",
        instead: "JSON.parse(data)",
        tests: ["cli/try_test.ts"],
      },
    ],
  },
  {
    file: "src/cli/status.ts",
    faults: [
      {
        id: "status-shows-a-whole-page-of-another-server",
        text: '.split("\\n", 1);',
        instead: '.split("none", 1);',
        tests: ["cli/status_test.ts"],
      },
      {
        id: "a-status-waits-for-ever",
        text: "{ agent: false, signal }",
        instead: "{ agent: false }",
        tests: ["cli/status_test.ts"],
      },
      {
        id: "a-status-is-asked-of-the-proxy",
        text: "    const body = await text(response);\n",
        instead: "    const body = await text(response);\n    await fetch(url);\n",
        tests: ["e2e/status_test.ts"],
      },
      {
        id: "a-status-that-timed-out-has-no-cause",
        text: "const why = signal.aborted",
        instead: "const why = false",
        tests: ["cli/status_test.ts"],
      },
      {
        id: "a-hung-worker-looks-well",
        text: 'answers ? "" : "; DOES NOT ANSWER"',
        instead: '""',
        tests: ["cli/status_test.ts"],
      },
      {
        id: "hours-are-minutes",
        text: "if (minutes < 120) return",
        instead: "if (minutes < 12000) return",
        tests: ["cli/status_test.ts"],
      },
    ],
  },
  {
    file: "src/cli/permissions.ts",
    faults: [
      {
        id: "a-path-with-a-comma-is-two",
        text: "if (divided !== undefined) {",
        instead: "if (false) {",
        tests: ["cli/permissions_test.ts"],
      },
      {
        id: "metrics-that-are-off-may-listen",
        text: "...metrics.enabled ? [hostAndPort(metrics.listenAddr)] : [],",
        instead: "hostAndPort(metrics.listenAddr),",
        tests: ["cli/permissions_test.ts"],
      },
      {
        id: "a-proxied-provider-is-reached-directly",
        text: "const url = proxyFor(base, proxies) ?? base;",
        instead: "const url = base;",
        tests: ["cli/permissions_test.ts"],
      },
      {
        id: "a-reload-tries-what-it-may-not-read",
        text: '    ...read.map((path) => ({ name: "read", path }) as const),\n',
        instead: "",
        tests: ["cli/permissions_test.ts"],
      },
      {
        id: "status-asks-an-address-that-is-none",
        text: 'hostname === "0.0.0.0" ? "127.0.0.1" : hostname;\n  return { read',
        instead: "hostname;\n  return { read",
        tests: ["e2e/status_test.ts"],
      },
    ],
  },
  {
    file: "src/config/host.ts",
    faults: [
      {
        id: "a-proxy-s-password-is-not-looked-at",
        text: "    return false;\n",
        instead: "    return true;\n",
        tests: ["upstream/proxy_test.ts", "config/load_test.ts"],
      },
      {
        id: "a-host-that-the-sandbox-does-not-take-is-configured",
        text: "/^[\\w-]+(\\.[\\w-]+)*\\.?$/.test(host)",
        instead: "true",
        tests: ["config/load_test.ts"],
      },
    ],
  },
  {
    file: "src/config/types.ts",
    faults: [
      {
        id: "a-table-with-a-date-is-told-to-be-none",
        text: "a table without dates, inf and nan",
        instead: "a table",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-store-s-password-is-not-looked-at",
        text: "hasReadableUser(url)",
        instead: "true",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-store-s-database-is-any-text",
        text: "/^(\\/\\d*)?$/.test(url.pathname)",
        instead: "true",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-provider-s-socket-is-relative",
        text: 'path === "" || path.startsWith("/")',
        instead: "true",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-mode-is-printed-as-another",
        text: 'mode.toString(8).padStart(3, "0")',
        instead: "mode.toString(8)",
        tests: ["config/load_test.ts"],
      },
    ],
  },
  {
    file: "src/config/variable.ts",
    faults: [
      {
        id: "a-key-that-is-no-text-is-printed",
        text: "if (!(error instanceof Deno.errors.InvalidData)) throw error;",
        instead: "if (error !== undefined) throw error;",
        tests: ["e2e/launch_test.ts"],
      },
    ],
  },
  {
    file: "tools/launch",
    faults: [
      {
        id: "the-end-of-a-variable-is-taken-for-its-name",
        text: "LC_ALL=C sed",
        instead: "sed",
        tests: ["e2e/launch_test.ts"],
      },
    ],
  },
  {
    file: "src/config/nearest.ts",
    faults: [
      {
        id: "a-name-is-its-characters-only",
        text: "words.isDisjointFrom(others) ?",
        instead: "true ?",
        tests: ["config/load_test.ts"],
      },
      {
        id: "names-without-a-common-word-are-near",
        text: "words.isDisjointFrom(others) ?",
        instead: "false ?",
        tests: ["config/load_test.ts"],
      },
      {
        id: "how-a-name-begins-does-not-count",
        text: "known.startsWith(written) ? 2 : Infinity",
        instead: "Infinity",
        tests: ["config/load_test.ts"],
      },
    ],
  },
  {
    file: "src/config/unknown_variables.ts",
    faults: [
      {
        id: "a-variable-that-is-misspelt-is-passed-over",
        text: "!known.includes(name) && ",
        instead: "false && ",
        tests: ["config/unknown_variables_test.ts", "e2e/launch_test.ts"],
      },
      {
        id: "another-program-s-variables-are-told-of",
        text: "ours.some((prefix) => name.startsWith(prefix))",
        instead: "true",
        tests: ["config/unknown_variables_test.ts"],
      },
    ],
  },
  {
    file: "tools/package/man.ts",
    faults: [
      {
        id: "a-man-page-loses-quotes",
        text: '.replaceAll(\'"\', "\\\\(dq")',
        instead: "",
        tests: ["readme_test.ts"],
      },
    ],
  },
  {
    file: "main.ts",
    faults: [
      {
        id: "a-check-overlooks-what-a-start-cannot-use",
        text: "  await plan(loaded.config);\n",
        instead: "",
        tests: ["e2e/launch_test.ts"],
      },
      {
        id: "try-needs-the-provider-s-key",
        text: "load({ ...place, flags: [] }, true)",
        instead: "load({ ...place, flags: [] })",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "a-try-connects-to-no-path",
        text: 'socketPath === undefined && path === ""',
        instead: "false",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "status-needs-the-provider-s-key",
        text: "await load({ ...command, flags: [] }, true)",
        instead: "await load({ ...command, flags: [] })",
        tests: ["e2e/status_test.ts"],
      },
      {
        id: "a-bad-configuration-exits-with-1",
        text: "return error instanceof ConfigError ? 2 : 1;",
        instead: "return 1;",
        tests: ["e2e/cli_test.ts"],
      },
      {
        id: "a-failed-try-exits-with-0",
        text: "  return whole ? 0 : 1;",
        instead: "  return 0;",
        tests: ["e2e/cli_test.ts"],
      },
    ],
  },
  {
    file: "src/config/load.ts",
    faults: [
      {
        id: "the-end-of-a-secret-is-taken-for-a-key",
        text: "allKeys().some(({ key }) => key.name === name) ? name",
        instead: "name !== undefined ? name",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-key-where-a-table-belongs-is-printed",
        text: "problem(origin, path, showNoTable(value), `a table, [${path}]`)",
        instead: "problem(origin, path, showValue(value), `a table, [${path}]`)",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-refused-secret-is-shown",
        text: 'key.secret ? "(hidden)" : shown',
        instead: "shown",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-described-secret-is-shown",
        text: "key.secret ? hide(getValue(config, place)) : getValue(config, place)",
        instead: "getValue(config, place)",
        tests: ["config/load_test.ts"],
      },
      {
        id: "passwords-in-urls-are-shown",
        text: '.replace(/\\/\\/[^\\s"]*@/g, "//(hidden)@")',
        instead: "",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-key-in-the-query-of-an-address-is-printed",
        text: '.replace(/(\\/\\/[^\\s"?]*\\?)[^\\s"]+/g, "$1(hidden)")',
        instead: "",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-restart-s-key-is-reloaded",
        text: "const taken = !same && !place.key.restart;",
        instead: "const taken = !same;",
        tests: ["config/load_test.ts"],
      },
      {
        id: "unknown-keys-are-passed-over",
        text: "    else if (!keys.some((place) => place.path.startsWith(`${path}.`))) {",
        instead: "    else if (false) {",
        tests: ["config/load_test.ts"],
      },
      {
        id: "two-sockets-with-one-path",
        text: "  if (streamSocketPath === socketPath) {",
        instead: "  if (false) {",
        tests: ["config/load_test.ts"],
      },
      {
        id: "a-configuration-can-be-changed",
        text: "    Object.freeze(value);\n",
        instead: "",
        tests: ["config/load_test.ts"],
      },
    ],
  },
];

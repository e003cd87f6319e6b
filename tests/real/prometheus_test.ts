/** Debian's Prometheus beside the daemon: it scrapes it, the dashboard's questions have answers, the alerts hold. */
import assert from "node:assert/strict";
import { freePort } from "../support/apache.ts";
import { answer, openaiDaemon } from "../support/openai_daemon.ts";
import { TestFolder } from "../support/folders.ts";

const EXAMPLES = new URL("../../examples/", import.meta.url).pathname;
const WAIT_MS = 30_000;
const POLL_MS = 100;

async function promtool(args: readonly string[], stdin = ""): Promise<{ code: number; text: string }> {
  const process = new Deno.Command("promtool", {
    args: [...args],
    cwd: `${EXAMPLES}prometheus`,
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = process.stdin.getWriter();
  const [{ code, stdout, stderr }] = await Promise.all([
    process.output(),
    writer.write(new TextEncoder().encode(stdin)).then(() => writer.close()),
  ]);
  return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

for (
  const [what, ...args] of [
    ["the configuration holds", "check", "config", "prometheus.yml"],
    ["the alert rules hold", "check", "rules", "alerts.yml"],
    ["each alert fires on what it is for, and not before", "test", "rules", "alerts_test.yml"],
  ] as const
) {
  Deno.test(`examples/prometheus: ${what}`, async () => {
    const { code, text } = await promtool(args);
    assert.equal(code, 0, text);
  });
}

Deno.test("examples/prometheus: each alert is tested, both ways", async () => {
  const read = (name: string): Promise<string> => Deno.readTextFile(`${EXAMPLES}prometheus/${name}`);
  const rules = (await read("alerts.yml")).match(/(?<=- alert: )\w+/g) ?? [];
  assert(rules.length > 5);
  const tests = await read("alerts_test.yml");
  assert.deepEqual(tests.match(/(?<=alertname: )\w+/g), rules);
  assert.deepEqual(tests.match(/(?<=alertname=")\w+/g), rules);
});

/** A Prometheus that scrapes one address several times a second; ends with its test. */
class Prometheus implements AsyncDisposable {
  readonly #url: string;
  readonly #process: Deno.ChildProcess;
  readonly #folder = new TestFolder();
  readonly #said: Promise<string>;

  constructor(target: string) {
    const addr = `127.0.0.1:${freePort()}`;
    this.#url = `http://${addr}`;
    const config = `${this.#folder.path}/prometheus.yml`;
    Deno.writeTextFileSync(
      config,
      `global: { scrape_interval: 250ms }\n` +
        `scrape_configs: [{ job_name: streaming-daemon-ts, static_configs: [{ targets: ["${target}"] }] }]\n`,
    );
    this.#process = new Deno.Command("prometheus", {
      args: [
        `--config.file=${config}`,
        `--web.listen-address=${addr}`,
        `--storage.tsdb.path=${this.#folder.path}/data`,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    this.#said = new Response(this.#process.stderr).text();
  }

  /** The values that an expression has now. */
  async query(expr: string): Promise<number[]> {
    const response = await fetch(`${this.#url}/api/v1/query?${new URLSearchParams({ query: expr })}`);
    if (response.status === 503) {
      await response.body?.cancel();
      return []; // it is starting
    }
    const { status, data, error } = await response.json();
    assert.equal(status, "success", `${expr}: ${error}`);
    return data.result.map(({ value }: { value: [number, string] }) => Number(value[1]));
  }

  /** Waits until an expression has values that `holds` is content with. */
  async until(expr: string, holds: (values: readonly number[]) => boolean): Promise<void> {
    let last: unknown = "nothing";
    for (let waitedMs = 0; waitedMs < WAIT_MS; waitedMs += POLL_MS) {
      try {
        const values = await this.query(expr);
        if (holds(values)) return;
        last = values;
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it does not listen yet
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    throw new Error(`${expr} has ${JSON.stringify(last)} after ${WAIT_MS} ms`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.kill("SIGTERM");
    await this.#said;
    await this.#process.status;
    this.#folder[Symbol.dispose]();
  }
}

Deno.test("Prometheus scrapes the daemon, and has an answer to each question of the dashboard", async (t) => {
  await using both = await openaiDaemon("h1", { env: { OPENAI_HTTP2_ENABLED: "false" } });
  const { daemon } = both;
  const { url, body } = await daemon.page("/metrics");
  await body?.cancel();
  await using prometheus = new Prometheus(new URL(url).host);
  const up = `up{job="streaming-daemon-ts"}`;
  await prometheus.until(up, (values) => values[0] === 1);

  // One of each that the dashboard counts, twice: a series has a rate from its second sample on.
  for (const round of [1, 2]) {
    assert.match(await answer(daemon, "plain"), /\[DONE\]/);
    assert.match(await answer(daemon, "status-500"), / 502 /);
    using mistaken = daemon.handOff({ prompt: 7 });
    assert.match(await mistaken.readAll(), / 400 /);
    const scraped = (values: readonly number[]) => values[0] === round;
    await prometheus.until(`sum(daemon_handoffs_failed{reason="bad_request"})`, scraped);
    await prometheus.until("sum(daemon_backend_errors)", scraped);
  }

  const dashboard = JSON.parse(await Deno.readTextFile(`${EXAMPLES}grafana/dashboard.json`));
  const variables: Record<string, string> = {
    $job: "streaming-daemon-ts",
    $__rate_interval: "1m",
    $__range: "1m",
  };
  assert.equal(dashboard.panels.length, 9);
  for (const { title, targets } of dashboard.panels) {
    await t.step(title, async () => {
      assert(targets.length > 0);
      for (const { expr } of targets as { expr: string }[]) {
        const question = expr.replace(/\$\w+/g, (name) => variables[name] ?? name);
        const values = await prometheus.query(question);
        assert(values.length > 0 && values.every(Number.isFinite), `${question}: ${JSON.stringify(values)}`);
      }
    });
  }

  await t.step(
    "promtool finds fault with the names that are older than this daemon, and no others",
    async () => {
      const { text } = await promtool(["check", "metrics"], await (await daemon.page("/metrics")).text());
      assert.deepEqual(
        text.trim().split("\n").sort(),
        [
          "daemon_backend_errors",
          "daemon_backend_requests",
          "daemon_handoffs_failed",
          "daemon_handoffs_received",
          "daemon_stream_bytes_sent",
        ].map((name) => `${name} counter metrics should have "_total" suffix`),
      );
    },
  );
});

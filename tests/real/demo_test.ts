/** `deno task demo` as a user meets it: in a real browser. Needs chromium. Screenshots go to tests/real/out/. */
import assert from "node:assert/strict";
import type { Browser, Page } from "playwright-core";
import { Front } from "../../demo/front.ts";
import { mockPieces } from "../support/mock_answer.ts";
import { openPage, startBrowser } from "../support/chromium.ts";
import { TextLineStream } from "../support/lines.ts";
import { until } from "../support/until.ts";

const ROOT = new URL("../../", import.meta.url);
const OUT = new URL("./out/", import.meta.url);
const START_TIMEOUT_MS = 60_000;

/** The demo as a process of its own, on any free port. */
class Demo implements AsyncDisposable {
  readonly url: string;
  readonly #metricsUrl: string;
  readonly #process: Deno.ChildProcess;
  readonly #rest: Promise<void>;

  private constructor(process: Deno.ChildProcess, url: string, metricsUrl: string, rest: Promise<void>) {
    this.#process = process;
    this.url = url;
    this.#metricsUrl = metricsUrl;
    this.#rest = rest;
  }

  static async start(tokenDelayMs: number): Promise<Demo> {
    const process = new Deno.Command(Deno.execPath(), {
      args: ["task", "--quiet", "demo", "--port", "0"],
      cwd: ROOT,
      env: { DAEMON_TOKEN_DELAY_MS: String(tokenDelayMs), DAEMON_LOG_LEVEL: "warning" },
      stdin: "null",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const timer = setTimeout(() => process.kill("SIGTERM"), START_TIMEOUT_MS);
    const lines = process.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream())
      .getReader();
    const urls: string[] = [];
    while (urls.length < 2) {
      const { done, value } = await lines.read();
      if (done) throw new Error("The demo did not start; what it says is above");
      urls.push(...value.match(/http:\S+/g) ?? []);
    }
    clearTimeout(timer);
    const rest = (async () => {
      while (!(await lines.read()).done);
    })();
    return new Demo(process, urls[0] as string, urls[1] as string, rest);
  }

  /** Of the daemon itself. */
  async metric(name: string): Promise<number> {
    const text = await (await fetch(this.#metricsUrl)).text();
    return Number(new RegExp(`^${name}(?:{.*})? (.*)$`, "m").exec(text)?.[1] ?? NaN);
  }

  /** Ctrl-C. Returns the exit code. */
  async end(): Promise<number> {
    this.#process.kill("SIGINT");
    await this.#rest;
    return (await this.#process.status).code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.end().catch((error) => {
      if (!(error instanceof TypeError)) throw error; // it has ended
    });
  }
}

/** The texts that the answer has had, one after another, as a MutationObserver in the page sees them. */
async function recordAnswer(page: Page): Promise<() => Promise<{ text: string; atMs: number }[]>> {
  await page.evaluate(`{
    const answer = document.getElementById("answer");
    globalThis.answers = [];
    new MutationObserver(() => answers.push({ text: answer.textContent, atMs: performance.now() }))
      .observe(answer, { subtree: true, childList: true, characterData: true });
  }`);
  return () => page.evaluate(`answers.filter(({ text }) => text !== "")`);
}

function status(page: Page, wanted: RegExp): Promise<unknown> {
  return page.getByRole("status").filter({ hasText: wanted }).waitFor();
}

function choose(page: Page, count: number): Promise<void> {
  return page.getByRole("radio", { name: String(count), exact: true }).check({ force: true });
}

function tiles(page: Page, state: string): Promise<number> {
  return page.locator(`.tile[data-state="${state}"]`).count();
}

// The driver keeps its pipe to the browser, and timers, beyond the steps that start them.
const options = { sanitizeOps: false, sanitizeResources: false };

Deno.test("the demo in a browser", options, async (t) => {
  await Deno.mkdir(OUT, { recursive: true });
  const shot = (page: Page, name: string): Promise<unknown> =>
    page.screenshot({ path: new URL(`${name}.png`, OUT).pathname });
  const tokenDelayMs = 300;
  await using demo = await Demo.start(tokenDelayMs);
  await using browser = await startBrowser();
  const { page, complaints } = await openPage(browser, demo.url, "light");

  await t.step("says what it is for", async () => {
    await page.getByText("Demo for developing. Listens on loopback only.").waitFor();
  });

  await t.step("a prompt is typed, and the answer comes word by word", async () => {
    const recorded = await recordAnswer(page);
    const prompt = "Wie geht's?\nGut & <b>munter</b>.";
    await page.getByLabel("Prompt").fill("");
    await page.getByLabel("Prompt").pressSequentially(prompt.split("\n")[0] as string);
    await page.keyboard.press("Shift+Enter");
    await page.getByLabel("Prompt").pressSequentially(prompt.split("\n")[1] as string);
    await page.keyboard.press("Enter");
    await status(page, /^Streaming\.$/);
    await until("a few words", async () => (await recorded()).length >= 6);
    await shot(page, "light-one");
    await status(page, /^Finished\.$/);
    const pieces = mockPieces(prompt);
    const log = await recorded();
    assert.deepEqual(
      log.map(({ text }) => text),
      pieces.map((_, index) => pieces.slice(0, index + 1).join("")),
    );
    const lastedMs = (log.at(-1)?.atMs ?? 0) - (log[0]?.atMs ?? 0);
    assert(lastedMs > 10 * tokenDelayMs, `all within ${lastedMs} ms`);
    const figures = await page.locator(".figures").innerText();
    assert.match(figures, /Time to first event\s+\d+(\.\d)? ms/);
    assert.match(figures, /Events per second\s+\d\.\d\s+18 events in \d\.\d s/);
  });

  for (
    const [how, stop] of [
      ["Escape", () => page.keyboard.press("Escape")],
      ["the button", () => page.getByRole("button", { name: "Stop" }).click()],
    ] as const
  ) {
    await t.step(`${how} stops it, in the daemon too`, async () => {
      await page.getByRole("button", { name: "Send" }).click();
      await page.locator("#answer", { hasText: "Hello!" }).waitFor();
      assert.equal(await demo.metric("daemon_streams_active"), 1);
      await stop();
      await status(page, /^Stopped\.$/);
      await until("the daemon's stream to end", async () => await demo.metric("daemon_streams_active") === 0);
      assert.doesNotMatch(await page.locator("#answer").innerText(), /DONE-CONTENT/);
    });
  }

  for (const count of [10, 100]) {
    await t.step(`${count} streams are open at once, as the daemon counts`, async () => {
      await choose(page, count);
      await page.getByRole("button", { name: "Send" }).click();
      await until(`${count} streams`, async () => await demo.metric("daemon_streams_active") === count);
      await until(`${count} tiles`, async () => await tiles(page, "streaming") === count);
      assert.equal(await demo.metric("daemon_streams_active"), count);
      await page.getByText(`at most ${count} at once`).waitFor();
      await until(
        "words in each tile",
        async () => await page.locator(".tile", { hasText: "This answer" }).count() === count,
      );
      await shot(page, `light-${count}`);
      await page.keyboard.press("Escape");
      await status(page, new RegExp(`^Stopped ${count} of ${count} streams\\.$`));
      await until(
        "the daemon's streams to end",
        async () => await demo.metric("daemon_streams_active") === 0,
      );
    });
  }

  await t.step("100 streams run to their end", async () => {
    await page.keyboard.press("Enter");
    await status(page, /^All 100 streams finished\.$/);
    assert.equal(await tiles(page, "done"), 100);
    assert.match(await page.locator(".figures").innerText(), /1,800 events/);
  });

  await t.step("in the dark", async () => {
    const dark = await openPage(browser, demo.url, "dark");
    await dark.page.locator("#prompt").press("Enter"); // a key before the page has put the focus there is lost
    await dark.page.locator("#answer", { hasText: "This answer was" }).waitFor();
    await shot(dark.page, "dark-one");
    await choose(dark.page, 100);
    await dark.page.keyboard.press("Enter");
    await dark.page.locator(".tile", { hasText: "This answer was" }).nth(99).waitFor();
    await shot(dark.page, "dark-100");
    assert.deepEqual(dark.complaints, []);
    await dark.page.close();
  });

  await t.step("nothing complained in the console", () => assert.deepEqual(complaints, []));

  await t.step("Ctrl-C ends it in order, and the page says that it is gone", async () => {
    assert.equal(await demo.end(), 0);
    await page.keyboard.press("Enter");
    await status(page, /The front does not answer\. Is `deno task demo` still running\?$/);
    await shot(page, "light-away");
  });
});

Deno.test("no daemon: the page shows the front's 503 in words", options, async () => {
  await using front = await Front.start({
    port: 0,
    socketPath: "/tmp/no-daemon-listens-here.sock",
    lanes: 1,
  });
  await using browser: Browser = await startBrowser();
  const { page } = await openPage(browser, front.url, "light");
  await page.locator("#prompt").press("Enter");
  await status(page, /^503: The daemon does not take handoffs: .*no such file or directory\.$/);
});

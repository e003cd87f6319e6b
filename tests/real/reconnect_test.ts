/** `EventSource` in a real browser that loses its connection again and again, and goes on by itself. Needs chromium. */
import assert from "node:assert/strict";
import { Front } from "../../demo/front.ts";
import { openPage, startBrowser } from "../support/chromium.ts";
import { CuttingProxy } from "../support/cutting_proxy.ts";
import { startDaemon } from "../support/daemon.ts";
import { mockPieces } from "../support/mock_answer.ts";

// The driver keeps its pipe to the browser, and timers, beyond the test.
const options = { sanitizeOps: false, sanitizeResources: false };

/** Head and some five events. */
const CUT_BYTES = 450;

/** A page that does nothing about it: it does not even close the source at the end. */
const PAGE = `new Promise((resolve) => {
  const source = new EventSource("/stream?prompt=Hi&stream=from-a-page");
  const seen = { contents: [], ids: [], done: 0, errors: 0 };
  source.onmessage = ({ data, lastEventId }) => {
    seen.ids.push(Number(lastEventId));
    if (data === "[DONE]") seen.done++;
    else seen.contents.push(JSON.parse(data).content);
  };
  source.onerror = () => {
    seen.errors++;
    if (source.readyState === EventSource.CLOSED) resolve(seen);
  };
})`;

Deno.test("EventSource goes on by itself after each cut, and stops at the end", options, async () => {
  await using browser = await startBrowser();
  await using daemon = await startDaemon({ env: { DAEMON_WORKERS: "2", DAEMON_TOKEN_DELAY_MS: "100" } });
  await using front = await Front.start({ port: 0, socketPath: daemon.socketPath, lanes: 0 });
  await using proxy = new CuttingProxy(Number(new URL(front.url).port), "/stream", CUT_BYTES);
  const { page } = await openPage(browser, `http://127.0.0.1:${proxy.port}/`, "light");
  const seen = await page.evaluate(PAGE) as Record<string, unknown>;
  assert.deepEqual(seen["contents"], mockPieces("Hi"));
  assert.deepEqual(seen["ids"], Array.from({ length: 19 }, (_, index) => index + 1));
  assert.equal(seen["done"], 1);
  assert(proxy.cuts >= 2, `${proxy.cuts} cuts`);
  // The last one is the 204, after which it connects no more.
  assert.equal(await daemon.metric("daemon_resume_requests_total", { outcome: "nothing" }), 1);
  assert.equal(await daemon.metric("daemon_backend_requests", { backend: "mock" }), 1);
  await page.close();
});

/**
 * Pages in a real browser read what the daemon writes: with `EventSource` and with `fetch`, signs of life and included
 * events in between. Needs chromium.
 */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { clientFd } from "../../demo/client_fd.ts";
import { Front } from "../../demo/front.ts";
import { handOff } from "../../src/native/sender.ts";
import { openPage, startBrowser } from "../support/chromium.ts";
import { mockPieces } from "../support/mock_answer.ts";
import { startDaemon } from "../support/daemon.ts";
import { HELLO, openaiDaemon } from "../support/openai_daemon.ts";

// The driver keeps its pipe to the browser, and timers, beyond the steps that start them.
const options = { sanitizeOps: false, sanitizeResources: false };

/** A page that knows the plain answer alone, as many have it. */
const EVENT_SOURCE = `new Promise((resolve, reject) => {
  const source = new EventSource("/stream?prompt=Hi");
  const seen = { contents: [], named: [] };
  for (const name of ["reasoning", "tool_calls", "finish", "usage"]) {
    source.addEventListener(name, ({ data }) => seen.named.push(JSON.parse(data)));
  }
  source.onmessage = ({ data }) => {
    if (data === "[DONE]") {
      source.close();
      resolve(seen);
    } else seen.contents.push(JSON.parse(data).content);
  };
  source.onerror = () => reject(new Error("the stream broke off"));
})`;

/** The reader of examples/php/page.php, on a request of its own. */
const EXAMPLE = Deno.readTextFileSync(new URL("../../examples/php/page.php", import.meta.url));
const READER = EXAMPLE.slice(EXAMPLE.indexOf("const reader = "), EXAMPLE.indexOf("    </script>"));

/** Reads an answer to this with `fetch`, by the example's code. */
const fetching = (data: Readonly<Record<string, unknown>>): string =>
  `(async () => {
    const response = await fetch("/stream", { method: "POST", body: ${
    JSON.stringify(JSON.stringify(data))
  } });
    const contents = [];
    async function* ask() {
      ${READER}
    for await (const { content } of ask()) contents.push(content);
    return contents;
  })()`;

/** A front with an origin of its own: an empty page, and what hands over the data that its address has. */
class Elsewhere implements AsyncDisposable {
  readonly #server: Server;

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(socketPath: string): Promise<Elsewhere> {
    const server = createServer((request, response) => {
      const data = new URL(request.url ?? "", "http://elsewhere").searchParams.get("data");
      if (data === null) return void response.setHeader("Content-Type", "text/html").end("<!doctype html>");
      using client = clientFd(request.socket);
      handOff(socketPath, "seqpacket", new TextEncoder().encode(data), client);
      request.socket.destroy();
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return new Elsewhere(server);
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/`;
  }

  urlFor(data: Readonly<Record<string, unknown>>): string {
    return `${this.url}?data=${encodeURIComponent(JSON.stringify(data))}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

Deno.test("a page with EventSource and one with fetch", options, async (t) => {
  await using browser = await startBrowser();

  await t.step("a plain answer", async () => {
    await using daemon = await startDaemon();
    await using front = await Front.start({ port: 0, socketPath: daemon.socketPath, lanes: 0 });
    const { page, complaints } = await openPage(browser, front.url, "light");
    assert.deepEqual(await page.evaluate(EVENT_SOURCE), { contents: mockPieces("Hi"), named: [] });
    assert.deepEqual(await page.evaluate(fetching({ prompt: "Hi" })), mockPieces("Hi"));
    assert.deepEqual(complaints, []);
    await page.close();
  });

  await t.step("signs of life before it and in it", async () => {
    await using daemon = await startDaemon({
      env: { DAEMON_HEARTBEAT_SECS: "0.02", DAEMON_TOKEN_DELAY_MS: "150" },
    });
    await using front = await Front.start({ port: 0, socketPath: daemon.socketPath, lanes: 0 });
    const { page, complaints } = await openPage(browser, front.url, "light");
    assert.deepEqual(await page.evaluate(EVENT_SOURCE), { contents: mockPieces("Hi"), named: [] });
    assert.deepEqual(await page.evaluate(fetching({ prompt: "Hi" })), mockPieces("Hi"));
    using client = daemon.handOff({ prompt: "Hi" });
    assert.match(await client.readAll(), /\n\n:\n\n/, "there were none");
    assert.deepEqual(complaints, []);
    await page.close();
  });

  await t.step("included events: for those who listen to their names, never in the plain ones", async () => {
    await using both = await openaiDaemon("h1", {
      env: {
        DAEMON_RESPONSE_INCLUDE: "reasoning,tool_calls,finish,usage",
        OPENAI_HEADERS: `{"X-Test-Pattern":"agent"}`,
      },
    });
    await using front = await Front.start({ port: 0, socketPath: both.daemon.socketPath, lanes: 0 });
    const { page, complaints } = await openPage(browser, front.url, "light");
    assert.deepEqual(await page.evaluate(EVENT_SOURCE), {
      contents: ["It is ", "sunny."],
      named: [
        { reasoning: "Let me " },
        { reasoning: "think. 🤔" },
        { tool_calls: [{ index: 0, id: "call_a", name: "weather", arguments: "" }] },
        { tool_calls: [{ index: 0, arguments: '{"city":"Zü' }] },
        { tool_calls: [{ index: 0, arguments: 'rich"}' }] },
        { tool_calls: [{ index: 1, id: "call_b", name: "time", arguments: "{}" }] },
        { finish: "tool_calls" },
        { usage: { input_tokens: 11, output_tokens: 22 } },
      ],
    });
    assert.deepEqual(await page.evaluate(fetching({ prompt: "Hi" })), ["It is ", "sunny."]);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  await t.step("response_headers let a page of another origin read an answer, and a failure", async () => {
    await using both = await openaiDaemon("h1");
    await using own = await Elsewhere.start(both.daemon.socketPath);
    await using other = await Elsewhere.start(both.daemon.socketPath);
    const { page } = await openPage(browser, own.url, "light");
    const read = (data: Readonly<Record<string, unknown>>): Promise<unknown> =>
      page.evaluate(`fetch(${JSON.stringify(other.urlFor(data))}).then(
        async (response) => [response.status, response.headers.get("X-Trace"), await response.text()],
        (error) => error.name,
      )`);
    const response_headers = {
      "Access-Control-Allow-Origin": "*",
      "Access-Control-Expose-Headers": "X-Trace",
      "X-Trace": "t1",
    };
    const [, body] = HELLO.split("\r\n\r\n");
    assert.deepEqual(await read({ response_headers }), [200, "t1", body]);
    assert.deepEqual(await read({ response_headers, test_pattern: "status-500" }), [
      502,
      "t1",
      "Backend unavailable\n",
    ]);
    assert.equal(await read({}), "TypeError");
    await page.close();
  });
});

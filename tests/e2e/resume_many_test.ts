/** A thousand streams with an id, cut at random bytes and resumed at random, until each has its end. */
import assert from "node:assert/strict";
import { tcpEnds } from "../support/clients.ts";
import { startDaemon, type TestDaemon } from "../support/daemon.ts";
import { mockPieces } from "../support/mock_answer.ts";
import { randomInts } from "../support/random.ts";
import { STREAM_HEAD } from "../support/wire.ts";

const STREAMS = 1000;
const AT_ONCE = 200;

/** One that reads events as `EventSource` does: what is not whole when the connection breaks is forgotten. */
class Reader {
  events = "";
  connections = 0;
  readonly #daemon: TestDaemon;
  readonly #data: Record<string, unknown>;

  constructor(daemon: TestDaemon, data: Record<string, unknown>) {
    this.#daemon = daemon;
    this.#data = data;
  }

  /** Reads until so many bytes have come, or the end. */
  async connect(mostBytes: number): Promise<void> {
    this.connections++;
    const ends = await tcpEnds();
    const lastId = [...this.events.matchAll(/^id: (\d+)$/gm)].at(-1)?.[1] ?? "";
    using client = this.#daemon.handOff({ ...this.#data, last_event_id: lastId }, { ends });
    const decoder = new TextDecoder();
    let text = "";
    let left = mostBytes;
    while (left > 0) {
      const bytes = await client.read();
      if (bytes === undefined) break;
      text += decoder.decode(bytes.subarray(0, left), { stream: true });
      left -= bytes.length;
    }
    if (text.length < STREAM_HEAD.length) return;
    assert.equal(text.slice(0, STREAM_HEAD.length), STREAM_HEAD);
    this.events += text.slice(STREAM_HEAD.length, Math.max(STREAM_HEAD.length, text.lastIndexOf("\n\n") + 2));
  }

  get isWhole(): boolean {
    return this.events.endsWith("data: [DONE]\n\n");
  }
}

Deno.test("a thousand streams cut at random bytes and resumed at random are whole, in the same bytes", async () => {
  const seed = Math.floor(Math.random() * 2 ** 31);
  const random = randomInts(seed);
  await using daemon = await startDaemon({ env: { DAEMON_WORKERS: "2", DAEMON_TOKEN_DELAY_MS: "20" } });
  let next = 0;
  let connections = 0;
  const one = async (): Promise<void> => {
    const prompt = `ü${next}`;
    const data = { stream_id: `s:${next++}`, prompt, on_disconnect: "continue" };
    const reader = new Reader(daemon, data);
    while (!reader.isWhole) {
      await reader.connect(random(2) === 0 ? random(400) : random(2000));
      assert(reader.connections < 200, `seed ${seed}, ${data.stream_id}: ${reader.events}`);
    }
    const contents = [...mockPieces(prompt).map((content) => JSON.stringify({ content })), "[DONE]"];
    const whole = contents.map((each, index) => `id: ${index + 1}\ndata: ${each}\n\n`).join("");
    assert.equal(reader.events, `retry: 1000\n${whole}`, `seed ${seed}, ${data.stream_id}`);
    connections += reader.connections;
  };
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (next < STREAMS) await one();
  }));
  assert(connections > 2 * STREAMS);
  assert.equal(await daemon.metric("daemon_backend_requests", { backend: "mock" }), STREAMS);
  assert.equal(await daemon.metric("daemon_resume_streams_kept"), STREAMS);
});

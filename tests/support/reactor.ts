/**
 * A reactor in this process, and what it tells.
 * @module
 */
import { type ClientEvents, type Handoff, makeReactor, Reactor } from "../../src/native/reactor.ts";
import { END } from "../../src/protocol/sse.ts";
import type { TestAcceptor } from "./acceptor.ts";
import type { TestClient } from "./clients.ts";

/** A handoff as it was when it came. */
export type SeenHandoff = Omit<Handoff, "payload"> & { readonly text: string };

/** See the module. */
export class TestReactor implements AsyncDisposable {
  readonly acceptor: TestAcceptor;
  readonly reactor: Reactor;
  readonly handoffs: SeenHandoff[] = [];
  /** `[client, "writable" or the errno of its end]`. */
  readonly events: [number, "writable" | number][] = [];
  /** How many of either came in each uninterrupted stretch. */
  readonly stretches: number[] = [];
  /** Called for each of either, first. */
  work: (client: number) => void = () => {};
  readonly running: Promise<void>;
  #inStretch = false;
  #news = Promise.withResolvers<void>();

  constructor(acceptor: TestAcceptor) {
    this.acceptor = acceptor;
    this.reactor = new Reactor(makeReactor(acceptor.acceptor.handle));
    this.running = this.reactor.run({ handoff: (handoff) => this.#handoff(handoff) });
  }

  #handoff({ payload, ...handoff }: Handoff): ClientEvents {
    this.handoffs.push({ ...handoff, text: new TextDecoder().decode(payload) });
    const { client } = handoff;
    this.#tell(client);
    const note = (what: "writable" | number) => {
      this.events.push([client, what]);
      this.#tell(client);
    };
    return { gone: note, writable: () => note("writable") };
  }

  #tell(client: number): void {
    this.work(client);
    if (!this.#inStretch) {
      this.#inStretch = true;
      this.stretches.push(0);
      queueMicrotask(() => this.#inStretch = false);
    }
    this.stretches.push((this.stretches.pop() as number) + 1);
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }

  /** Waits until something holds that can begin to hold only as the reactor tells something. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await this.#news.promise;
  }

  /** Hands over and waits for the handoff. */
  async accept(...args: Parameters<TestAcceptor["handOff"]>): Promise<{ near: TestClient; client: number }> {
    const before = this.handoffs.length;
    const near = this.acceptor.handOff(...args);
    await this.until(() => this.handoffs.length > before);
    return { near, client: this.handoffs[before]?.client as number };
  }

  /** One entry for each text; `end` marks the last ones. */
  send(...entries: (readonly [client: number, text: string, end?: boolean])[]): number[] {
    const data = new TextEncoder().encode(entries.map(([, text]) => text).join(""));
    let offset = 0;
    const words = entries.flatMap(([client, text, end]) => {
      const entry = [client, offset, text.length, end ? END : 0];
      offset += text.length;
      return entry;
    });
    const batch = { entries: Uint32Array.from(words), count: entries.length, data, dataBytes: data.length };
    return [...this.reactor.send(batch).subarray(0, entries.length)];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.reactor.shutDown();
    await this.running;
  }
}

/**
 * One connection to a Valkey or Redis server, which comes back by itself.
 * @module
 */
import { Buffer } from "node:buffer";
import { within } from "../timing/within.ts";
import type { createClient } from "./redis_client.ts";

/** What a command is made of, and what may come back (RESP 2): texts come as bytes. */
export type Argument = string | Buffer;
/** See {@linkcode Argument}. */
export type Reply = null | number | Buffer | string | readonly Reply[];

/** Is told what becomes of it. Must not throw. */
export interface LinkEvents {
  up(): void;
  /** It was up, or could not be opened. @param error says why, and holds no secret */
  down(error: Error): void;
}

const ANSWER_MS = 1000;
const CONNECT_MS = 5000;
/** Longer than a blocking read lasts, and than it takes to the next renewal of a lease. */
const SILENCE_MS = 8000;
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5000;
/** The type of a RESP bulk string, by which the library names what its replies are. */
const BULK_STRING = 36;

/** See the module. While it is down commands fail at once. */
export class RedisLink {
  #client: ReturnType<typeof createClient> | undefined;
  #up = false;
  #closed = false;

  /** Whether commands have somewhere to go. */
  get up(): boolean {
    return this.#up;
  }

  /**
   * Opens it, and keeps it open until {@linkcode RedisLink.close}.
   *
   * @param caFile PEM file of the certificates to trust in place of Mozilla's list; "": that list
   */
  async open(url: string, caFile: string, events: LinkEvents): Promise<void> {
    const { createClient } = await import("./redis_client.ts");
    let tls = {};
    try {
      if (caFile !== "") tls = { tls: true, ca: await Deno.readTextFile(caFile) };
    } catch (error) {
      return events.down(error as Error); // it was there at the daemon's start
    }
    if (this.#closed) return;
    const client = createClient({
      url,
      RESP: 2,
      disableOfflineQueue: true,
      disableClientInfo: true,
      socket: {
        connectTimeout: CONNECT_MS,
        socketTimeout: SILENCE_MS,
        ...tls,
        reconnectStrategy: (tries) => Math.min(FIRST_PAUSE_MS * 2 ** tries, LONGEST_PAUSE_MS),
      },
    });
    this.#client = client as unknown as ReturnType<typeof createClient>;
    client.on("ready", () => {
      if (this.#closed) return client.destroy(); // it was being opened, which nothing breaks off
      this.#up = true;
      events.up();
    });
    client.on("error", (error: Error) => {
      this.#up = false;
      if (!this.#closed) events.down(error);
    });
    // Its errors have been told.
    await client.connect().catch(() => {});
  }

  /**
   * Sends a command; those of one turn go out together.
   *
   * @throws {Error} if the server says so, or it is down
   */
  async send(...command: Argument[]): Promise<Reply> {
    if (this.#client === undefined) throw new Error("The connection is not open yet");
    return await this.#client.sendCommand(command, { typeMapping: { [BULK_STRING]: Buffer } }) as Reply;
  }

  /**
   * Sends a command whose answer shows that the server is there. Without one the connection is opened anew: a host that
   * goes without a word is noticed by nothing else, since each write begins the socket's own time-out again.
   *
   * @throws {Error} if the server says so, says nothing, or it is down
   */
  async sendProbe(...command: Argument[]): Promise<Reply> {
    return await within(this.send(...command), SILENCE_MS, () => {
      this.#openAnew();
      throw new Error(`The store gave no answer for ${SILENCE_MS} ms`);
    });
  }

  #openAnew(): void {
    if (!this.#up) return; // it comes back by itself
    this.#up = false;
    this.#client?.destroy(); // what waits for an answer fails
    void this.#client?.connect().catch(() => {}); // its errors are told
  }

  /** Closes it at once. Later calls do nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#up = false;
    this.#client?.destroy();
  }
}

/** Gives up a wait for the server after a second. @throws {Error} then, and if the wait fails */
export function inTime<Value>(wait: Promise<Value>): Promise<Value> {
  return within(wait, ANSWER_MS, () => {
    throw new Error(`The store gave no answer for ${ANSWER_MS} ms`);
  });
}

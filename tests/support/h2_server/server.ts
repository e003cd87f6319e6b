/** A raw HTTP/2 server, which says what a test gives it and notes what the client does. */

const PREFACE_BYTES = 24;
const HEAD_BYTES = 9;
const [HEADERS, RST_STREAM, PING, GOAWAY] = [1, 3, 6, 7];
const ACK = 1;
/** How long the client may take for what a test waits for. */
const WAIT_MS = 10_000;
const ASK = Uint8Array.of(0, 0, 8, PING, 0, 0, 0, 0, 0, ...new TextEncoder().encode("the-test"));

/** @returns the bytes, so many times */
export function unhex(hex: string, times = 1): Uint8Array<ArrayBuffer> {
  const once = Uint8Array.from(hex.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  const all = new Uint8Array(once.length * times);
  for (let at = 0; at < all.length; at += once.length) all.set(once, at);
  return all;
}

/** One connection of the client's. */
export class RawH2Connection {
  readonly #connection: Deno.Conn;
  readonly #reading: Promise<void>;
  readonly #opened = new Set<number>();
  #pongs = 0;
  #ended = false;
  #news = Promise.withResolvers<void>();
  /** What the client has reset, with which code. */
  readonly resets = new Map<number, number>();
  /** The code of its GOAWAY. */
  goaway: number | null = null;

  constructor(connection: Deno.Conn) {
    this.#connection = connection;
    this.#reading = this.#read();
  }

  /** Sends bytes; a client that has closed takes none, which the test sees elsewhere. */
  async say(...all: Uint8Array<ArrayBuffer>[]): Promise<void> {
    try {
      for (let bytes of all) {
        while (bytes.length > 0) bytes = bytes.subarray(await this.#connection.write(bytes));
      }
    } catch (error) {
      if (!isClosed(error)) throw error;
    }
  }

  /** Settles when the client has opened this stream. */
  async asked(id: number): Promise<void> {
    await this.#until(() => this.#opened.has(id));
    if (!this.#opened.has(id)) throw new Error(`the connection ended before stream ${id}`);
  }

  /** Settles when the client has reset this stream. */
  async refused(id: number): Promise<void> {
    await this.#until(() => this.resets.has(id));
  }

  /** Settles when the client has answered to a PING, or the connection has ended. */
  async answersPing(): Promise<void> {
    const pongs = this.#pongs;
    await this.say(ASK);
    await this.#until(() => this.#pongs > pongs);
  }

  async #until(holds: () => boolean): Promise<void> {
    while (!holds() && !this.#ended) await soon(this.#news.promise);
  }

  /** Closes it, and settles when nothing of it is left. */
  async close(): Promise<void> {
    try {
      this.#connection.close();
    } catch (error) {
      if (!isClosed(error)) throw error;
    }
    await this.#reading;
  }

  async #read(): Promise<void> {
    let have = new Uint8Array(0);
    let skipped = false;
    try {
      for await (const chunk of this.#connection.readable) {
        const all = new Uint8Array(have.length + chunk.length);
        all.set(have);
        all.set(chunk, have.length);
        have = all;
        if (!skipped && have.length >= PREFACE_BYTES) {
          have = have.subarray(PREFACE_BYTES);
          skipped = true;
        }
        if (skipped) have = this.#frames(have);
      }
    } catch (error) {
      if (!isClosed(error)) throw error;
    }
    this.#ended = true;
    this.#tell();
  }

  #frames(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    let at = 0;
    while (bytes.length - at >= HEAD_BYTES) {
      const length = view.getUint32(at) >>> 8;
      if (at + HEAD_BYTES + length > bytes.length) break;
      const [type, flags, id] = [bytes[at + 3], bytes[at + 4] ?? 0, view.getUint32(at + 5)];
      const start = at + HEAD_BYTES;
      if (type === HEADERS) this.#opened.add(id);
      else if (type === RST_STREAM) this.resets.set(id, view.getUint32(start));
      else if (type === GOAWAY) this.goaway = view.getUint32(start + 4);
      else if (type === PING && (flags & ACK) !== 0) {
        if (new TextDecoder().decode(bytes.subarray(start, start + 8)) === "the-test") this.#pongs++;
      }
      at = start + length;
    }
    this.#tell();
    return bytes.slice(at);
  }

  #tell(): void {
    this.#news.resolve();
    this.#news = Promise.withResolvers();
  }
}

/** It listens on loopback, and begins each connection with the same bytes. */
export class RawH2Server implements AsyncDisposable {
  /** What it says first, its SETTINGS if all is well. */
  opening: Uint8Array<ArrayBuffer>;
  readonly #listener = Deno.listen({ port: 0, hostname: "127.0.0.1" });
  readonly #open: RawH2Connection[] = [];
  readonly #waiting: RawH2Connection[] = [];
  readonly #accepting: Promise<void>;
  #news = Promise.withResolvers<void>();
  /** How many it has accepted. */
  connections = 0;

  constructor(opening: Uint8Array<ArrayBuffer>) {
    this.opening = opening;
    this.#accepting = this.#accept();
  }

  /** For `api_base`. */
  get base(): string {
    return `http://127.0.0.1:${this.#listener.addr.port}/v1`;
  }

  /** The next connection, in the order in which they are made. */
  async next(): Promise<RawH2Connection> {
    for (;;) {
      const first = this.#waiting.shift();
      if (first !== undefined) return first;
      await soon(this.#news.promise);
    }
  }

  /** Closes what is open. */
  async closeAll(): Promise<void> {
    this.#waiting.length = 0;
    for (const connection of this.#open.splice(0)) await connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#accepting;
    await this.closeAll();
  }

  async #accept(): Promise<void> {
    for await (const accepted of this.#listener) {
      this.connections++;
      accepted.setNoDelay();
      const connection = new RawH2Connection(accepted);
      this.#open.push(connection);
      await connection.say(this.opening);
      this.#waiting.push(connection);
      this.#news.resolve();
      this.#news = Promise.withResolvers();
    }
  }
}

async function soon(news: Promise<void>): Promise<void> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(() => late.reject(new Error(`the client let ${WAIT_MS} ms pass`)), WAIT_MS);
  try {
    await Promise.race([news, late.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function isClosed(error: unknown): boolean {
  return [
    Deno.errors.BadResource,
    Deno.errors.ConnectionReset,
    Deno.errors.BrokenPipe,
    Deno.errors.Interrupted,
  ]
    .some((each) => error instanceof each);
}

/**
 * A browser's two ends: the one that is handed over, and the one that reads the answer.
 * @module
 */
import { type AddressInfo, createServer } from "node:net";
import { clientFd } from "../../demo/client_fd.ts";
import { ShimError } from "../../src/errors.ts";
import { openShim, openTools } from "../../src/native/library.ts";
import { type OwnedFd, socketPair } from "../../src/native/sender.ts";

// Opened once and for all before any test, whose sanitizer would take it for a leak.
openShim();
openTools();

/** How long a read may take before the test fails. */
const READ_TIMEOUT_MS = 20_000;
const EAGAIN = -11;

/** The browser's end. */
export interface TestClient extends Disposable {
  /** What comes next; `undefined` at the end. Fails if nothing comes for 20 s or the connection is reset. */
  read(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** All until the end, as text; fails on bytes that are not UTF-8. */
  readAll(): Promise<string>;
  /** Reads until the text so far holds `wanted`, and returns all of it. */
  readUntil(wanted: string): Promise<string>;
  /** Sends something to the daemon, which does not want to know. */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<void>;
  /** Goes away. Later calls do nothing. */
  close(): void;
}

/** Both ends of a connection. `far` is to be handed over and then closed by its owner. */
export interface ClientEnds {
  readonly near: TestClient;
  readonly far: OwnedFd;
}

type Edges = Pick<TestClient, "read" | "write" | "close">;

class Near implements TestClient {
  readonly read: Edges["read"];
  readonly write: Edges["write"];
  readonly close: Edges["close"];
  readonly #decoder = new TextDecoder("utf-8", { fatal: true });
  #text = "";

  constructor({ read, write, close }: Edges) {
    this.read = read;
    this.write = write;
    this.close = close;
  }

  async readAll(): Promise<string> {
    for (let chunk = await this.read(); chunk !== undefined; chunk = await this.read()) {
      this.#text += this.#decoder.decode(chunk, { stream: true });
    }
    return this.#text + this.#decoder.decode();
  }

  async readUntil(wanted: string): Promise<string> {
    while (!this.#text.includes(wanted)) {
      const chunk = await this.read();
      if (chunk === undefined) {
        throw new Error(`The answer ended without ${JSON.stringify(wanted)}: ${this.#text}`);
      }
      this.#text += this.#decoder.decode(chunk, { stream: true });
    }
    return this.#text;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Over a Unix socketpair. */
export function pairEnds(): ClientEnds {
  const [near, far] = socketPair();
  const client = new Near({
    read: () => near.read(READ_TIMEOUT_MS),
    write: (bytes) => Promise.resolve(void near.send(bytes)),
    close: () => near.close(),
  });
  return { near: client, far };
}

/** Over TCP on loopback, to a client that reads so many bytes at a time at most. */
export async function tcpEnds(readBytes = 64 * 1024): Promise<ClientEnds> {
  const accepted = Promise.withResolvers<OwnedFd>();
  const server = createServer((socket) => {
    accepted.resolve(clientFd(socket));
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const near = await Deno.connect({ hostname: "127.0.0.1", port: (server.address() as AddressInfo).port });
  const far = await accepted.promise;
  await new Promise((resolve) => server.close(resolve));
  const buffer = new Uint8Array(readBytes);
  let closed = false;
  const close = (): void => {
    if (!closed) near.close();
    closed = true;
  };
  const read = async (): Promise<Uint8Array<ArrayBuffer> | undefined> => {
    const timer = setTimeout(close, READ_TIMEOUT_MS);
    const bytes = await near.read(buffer);
    clearTimeout(timer);
    return bytes === null ? undefined : buffer.slice(0, bytes);
  };
  const write = async (bytes: Uint8Array<ArrayBuffer>): Promise<void> => {
    for (let sent = 0; sent < bytes.length;) sent += await near.write(bytes.subarray(sent));
  };
  return { near: new Near({ read, write, close }), far };
}

/** The browsers go away. */
export function closeAll(clients: readonly TestClient[]): void {
  for (const client of clients) client.close();
}

/** Fills, with the letter f, what the kernel keeps for a connection. Returns how many bytes that took. */
export function fill({ far }: ClientEnds): number {
  const chunk = new Uint8Array(16 * 1024).fill(0x66);
  for (let bytes = 0;;) {
    try {
      bytes += far.send(chunk);
    } catch (error) {
      if (error instanceof ShimError && error.status === EAGAIN) return bytes;
      throw error;
    }
  }
}

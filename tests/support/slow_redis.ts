/**
 * A server that speaks as Redis does, and answers when a test says so.
 * @module
 */

export type Reply = string | number | null | readonly Reply[];

/** RESP 2. */
function encode(reply: Reply): string {
  if (reply === null) return "$-1\r\n";
  if (typeof reply === "number") return `:${reply}\r\n`;
  if (typeof reply === "string") return `$${new TextEncoder().encode(reply).length}\r\n${reply}\r\n`;
  return `*${reply.length}\r\n${reply.map(encode).join("")}`;
}

/** A command that waits for its answer. */
export interface Asked {
  readonly words: readonly string[];
  answer(reply: Reply): Promise<void>;
}

/**
 * A server that answers XRANGE and XREAD as the test says, in its order for each connection, and all else with 1, unless
 * it has fallen silent on that connection.
 */
export class SlowRedis implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #connections: Deno.Conn[] = [];
  readonly #silent = new Set<Deno.Conn>();
  readonly #asked: Asked[] = [];
  /** All commands, in the order in which they came. */
  readonly heard: (readonly string[])[] = [];
  readonly #serving: Promise<void>[] = [];
  #heard = Promise.withResolvers<void>();

  constructor() {
    this.#serving.push(this.#accept());
  }

  get url(): string {
    return `redis://127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
  }

  /** The next command of that name that waits. */
  async next(name: string, about: string): Promise<Asked> {
    while (true) {
      const heard = this.#heard.promise;
      const at = this.#asked.findIndex(({ words }) => words[0] === name && words.includes(about));
      if (at >= 0) return this.#asked.splice(at, 1)[0] as Asked;
      await heard;
    }
  }

  /** Says nothing any more on the connections that there are, as a host does that has gone without a word. */
  fallSilent(): void {
    for (const connection of this.#connections) this.#silent.add(connection);
  }

  async #accept(): Promise<void> {
    for await (const connection of this.#listener) {
      this.#connections.push(connection);
      this.#serving.push(this.#serve(connection).catch(() => {})); // closed by either side
    }
  }

  async #serve(connection: Deno.Conn): Promise<void> {
    const send = async (reply: Reply) => void await connection.write(new TextEncoder().encode(encode(reply)));
    const decoder = new TextDecoder();
    let text = "";
    for await (const bytes of connection.readable) {
      text += decoder.decode(bytes, { stream: true });
      for (let command; (command = /^\*(\d+)\r\n/.exec(text)) !== null;) {
        const words: string[] = [];
        let rest = text.slice(command[0].length);
        for (let left = Number(command[1]); left > 0; left--) {
          const [head = "", length = "0"] = /^\$(\d+)\r\n/.exec(rest) ?? [];
          words.push(rest.slice(head.length, head.length + Number(length)));
          rest = rest.slice(head.length + Number(length) + 2);
        }
        text = rest;
        this.heard.push(words);
        if (this.#silent.has(connection)) continue;
        if (words[0] !== "XREAD" && words[0] !== "XRANGE") await send(1);
        else {
          this.#asked.push({ words, answer: send });
          this.#heard.resolve();
          this.#heard = Promise.withResolvers();
        }
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) {
      try {
        connection.close();
      } catch {
        // The other side was first.
      }
    }
    await Promise.all(this.#serving);
  }
}

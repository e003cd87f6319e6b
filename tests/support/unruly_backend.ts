/**
 * The mock backend with the bugs that a backend may have. A daemon of {@linkcode DaemonSetup.unruly} has it in the
 * place of the mock backend; the prompt says what it does. While there is a file `no-start` beside the daemon's socket,
 * none can be made; while there is a file `wait-start`, none is.
 * @module
 */
import { MockBackend as OrderlyBackend, type MockOptions } from "../../src/backend/mock.ts?orderly";
import type { Answer, BackendRequest, Recipient } from "../../src/backend/backend.ts";

export { MOCK_PIECES } from "../../src/backend/mock.ts?orderly";

/** How long `busy` keeps its isolate. */
export const BUSY_MS = 1500;
const HOUR_MS = 3_600_000;

/** Keeps the isolate, and no core. */
function sleep(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const BUGS: Readonly<Record<string, () => void>> = {
  /** Never gives its isolate another turn, and takes a core until the process ends. */
  loop: () => {
    while (true);
  },
  /** Does not give its isolate another turn either, and takes no core. */
  hang: () => sleep(HOUR_MS),
  /** Takes its time, once. */
  busy: () => sleep(BUSY_MS),
  /** An error where none may be, after the first piece. */
  "throw-late": () => {
    throw new Error("as the prompt said");
  },
  /** An error that nobody catches. */
  die: () => {
    setTimeout(() => {
      throw new Error("as the prompt said");
    });
  },
};

/** See the module. */
export class MockBackend extends OrderlyBackend {
  constructor(options: MockOptions) {
    super(options);
    const folder = (Deno.env.get("DAEMON_SOCKET_PATH") as string).replace(/[^/]*$/, "");
    const has = (file: string): boolean => [...Deno.readDirSync(folder)].some(({ name }) => name === file);
    if (has("no-start")) throw new Error("no start");
    while (has("wait-start")) sleep(10);
  }

  override ask(request: BackendRequest, recipient: Recipient): Answer {
    const prompt = request.messages.at(-1)?.content;
    if (prompt === "throw") throw new Error("as the prompt said");
    const answer = super.ask(request, recipient);
    if (typeof prompt === "string") BUGS[prompt]?.();
    return answer;
  }
}

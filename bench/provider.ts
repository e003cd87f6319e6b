/**
 * A provider of the OpenAI API for the time of a step.
 * @module
 */

const START_LIMIT_MS = 10_000;
const STOP_LIMIT_MS = 5_000;

/** Where the provider is, and what tells the daemon so. */
export interface Provider {
  readonly address: string;
  readonly env: Record<string, string>;
}

/**
 * Starts `line` with `{intervalMs}` and `{port}` filled in, waits until the port accepts, runs `body`, and stops it.
 *
 * @throws Error if it does not accept within 10 s or ends before
 */
export async function withProvider<T>(
  line: string,
  intervalMs: number,
  signal: AbortSignal,
  body: (provider: Provider) => Promise<T>,
): Promise<T> {
  const port = freePort();
  const filled = line.replaceAll("{intervalMs}", String(intervalMs)).replaceAll("{port}", String(port));
  const command = new Deno.Command("sh", {
    args: ["-c", `exec env ${filled}`],
    stdin: "null",
    stdout: "null",
    stderr: "inherit",
    signal,
  });
  const child = command.spawn();
  let ended = false;
  const status = child.status.then((status) => {
    ended = true;
    return status;
  });
  try {
    const limit = Date.now() + START_LIMIT_MS;
    while (!await accepts(port)) {
      if (ended || Date.now() > limit) {
        throw new Error(
          `the provider ${ended ? "ended" : `did not accept within ${START_LIMIT_MS} ms`}: ${filled}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const address = `127.0.0.1:${port}`;
    return await body({
      address,
      env: {
        DAEMON_BACKEND_PROVIDER: "openai",
        OPENAI_API_BASE: `http://${address}/v1`,
        OPENAI_API_KEY: "bench",
      },
    });
  } finally {
    if (!ended) {
      child.kill("SIGTERM");
    }
    const kill = setTimeout(() => child.kill("SIGKILL"), STOP_LIMIT_MS);
    await status;
    clearTimeout(kill);
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

async function accepts(port: number): Promise<boolean> {
  try {
    using _connection = await Deno.connect({ hostname: "127.0.0.1", port });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) {
      return false;
    }
    throw error;
  }
}

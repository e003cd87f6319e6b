/**
 * The daemon with a configuration that a test writes, and providers for its backends:
 *
 * ```ts
 * await using provider = await mockLlm({ protocol: "h1" });
 * await using site = await startSite(`[backends.a]\n${openaiTable("a", provider)}`);
 * ```
 * @module
 */
import { startDaemon, type TestDaemon } from "./daemon.ts";
import { TestFolder } from "./folders.ts";
import type { MockLlm } from "./mock_llm.ts";

/** A daemon and its file. */
export interface Site extends AsyncDisposable {
  readonly daemon: TestDaemon;
  /** Writes another file and waits until the daemon has read it. Returns what it says of it. */
  reload(toml: string): Promise<Readonly<Record<string, unknown>>>;
}

/** `[backends.NAME]` for a provider on HTTP/1.1, which is asked once. @param more further keys of the first table */
export function openaiBackend(name: string, { base }: Pick<MockLlm, "base">, more = ""): string {
  return `[backends.${name}]\nprovider = "openai"\n${more}\n` +
    `[backends.${name}.openai]\napi_base = "${base}"\nhttp2 = false\nmax_retries = 0\n`;
}

/** Starts it. The mock backend gives an answer at once. @param files that it may read, besides */
export async function startSite(
  toml: string,
  env: Readonly<Record<string, string>> = {},
  permissions: readonly string[] = [],
  files: readonly string[] = [],
): Promise<Site> {
  const folder = new TestFolder();
  const path = `${folder.path}/daemon.toml`;
  Deno.writeTextFileSync(path, toml);
  const daemon = await startDaemon({
    args: [path],
    permissions: [...permissions, `--allow-read=${[folder.path, "src", ...files]}`],
    env: { DAEMON_TOKEN_DELAY_MS: "0", ...env },
  });
  return {
    daemon,
    async reload(toml) {
      Deno.writeTextFileSync(path, toml);
      const ends = () =>
        daemon.log.filter(({ message }) => /^Configuration reloaded|does not hold/.test(message));
      const before = ends().length;
      daemon.signal("SIGHUP");
      await daemon.until("the reload", () => ends().length > before);
      return ends()[before]?.fields ?? {};
    },
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]();
      folder[Symbol.dispose]();
    },
  };
}

/** What a client reads. */
export async function ask(
  { daemon }: Pick<Site, "daemon">,
  data: Readonly<Record<string, unknown>> = {},
): Promise<string> {
  using client = daemon.handOff(data);
  return await client.readAll();
}

/**
 * Debian's Apache as a process of its own, on a port of its own, that reads nothing of the machine's configuration.
 * @module
 */
import { comeUp } from "./come_up.ts";
import { ServerProcess } from "./server_process.ts";

/** Debian's. */
export const APACHE = "/usr/sbin/apache2";
const MODULES = "/usr/lib/apache2/modules";
/** Whom Apache's workers run as where the test runs as root. */
export const APACHE_GROUP = "www-data";

/** What is put between Apache's modules and its end. */
export interface ApacheSetup {
  /** Names without `mod_` and `.so`; the MPM and authz_core are always there. */
  readonly modules: readonly string[];
  /** Directives. */
  readonly config: string;
}

/** What `apache2 -t` says of a configuration. */
export async function checkApacheConfig(setup: ApacheSetup): Promise<{ valid: boolean; says: string }> {
  const folder = serverRoot(setup, 1);
  try {
    const { success, stderr } = await new Deno.Command(APACHE, {
      args: ["-t", "-f", `${folder}/apache.conf`],
      stdout: "null",
      stderr: "piped",
    }).output();
    return { valid: success, says: new TextDecoder().decode(stderr) };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Starts Apache and waits until it answers. Its ServerRoot is a folder of its own below /tmp. */
export function startApache(setup: ApacheSetup): Promise<TestApache> {
  const port = freePort();
  const folder = serverRoot(setup, port);
  const process = new ServerProcess([APACHE, "-D", "FOREGROUND", "-f", `${folder}/apache.conf`], folder);
  const apache = new TestApache(process, folder, `http://127.0.0.1:${port}`);
  return comeUp(apache, () => process.logged("resuming normal operations"));
}

/** An Apache that ends with its test. */
export class TestApache implements AsyncDisposable {
  readonly url: string;
  readonly #process: ServerProcess;
  readonly #folder: string;

  constructor(process: ServerProcess, folder: string, url: string) {
    this.#process = process;
    this.#folder = folder;
    this.url = url;
  }

  /** Ends it and removes its folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.signal("SIGTERM");
    await this.#process.exit();
    await Deno.remove(this.#folder, { recursive: true });
  }
}

/** Makes a ServerRoot below /tmp, with an `apache.conf` that listens on the port. @returns its path */
export function serverRoot({ modules, config }: ApacheSetup, port: number): string {
  const folder = Deno.makeTempDirSync({ prefix: "apache-test-" });
  const lines = [
    `ServerRoot "${folder}"`,
    "ServerName localhost",
    `Listen 127.0.0.1:${port}`,
    `PidFile "${folder}/pid"`,
    `DefaultRuntimeDir "${folder}"`,
    'ErrorLog "/dev/stderr"',
    ...["mpm_event", "authz_core", ...modules].map((name) =>
      `LoadModule ${name}_module ${MODULES}/mod_${name}.so`
    ),
    // Apache's workers do not run as root.
    ...Deno.uid() === 0 ? ["User www-data", `Group ${APACHE_GROUP}`] : [],
    config,
  ];
  Deno.writeTextFileSync(`${folder}/apache.conf`, lines.join("\n") + "\n");
  return folder;
}

/** A port on loopback that nobody listened on a moment ago. */
export function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return (listener.addr as Deno.NetAddr).port;
}

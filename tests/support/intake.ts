/**
 * The daemon's parts in this process: an intake on a socket of its own, and a configuration.
 * @module
 */
import { type Config, loadConfig } from "../../src/config/load.ts";
import { Intake, type IntakePolicy, type SocketKind } from "../../src/native/intake.ts";
import { handOff } from "../../src/native/sender.ts";
import { type ClientEnds, pairEnds, type TestClient } from "./clients.ts";

/** An intake that listens on both kinds of socket, and who hands over to it. */
export class TestIntake implements Disposable {
  readonly folder = Deno.makeTempDirSync();
  readonly intake: Intake;

  constructor(policy: Partial<IntakePolicy> = {}) {
    this.intake = new Intake({
      maxConnections: 1000,
      handoffTimeoutMs: 5000,
      handoffBufferBytes: 4096,
      clientTimeoutMs: 30_000,
      maxPending: 16,
      allowedUids: [],
      ...policy,
    });
    for (const kind of ["seqpacket", "stream"] as const) {
      this.intake.listen(kind, { path: this.pathOf(kind), mode: 0o600, group: "" });
    }
  }

  pathOf(kind: SocketKind): string {
    return `${this.folder}/${kind}.sock`;
  }

  /** Plays Apache. */
  handOff(
    data: Readonly<Record<string, unknown>> = {},
    { near, far }: ClientEnds = pairEnds(),
    kind: SocketKind = "seqpacket",
  ): TestClient {
    handOff(this.pathOf(kind), kind, new TextEncoder().encode(JSON.stringify(data)), far);
    far.close();
    return near;
  }

  [Symbol.dispose](): void {
    this.intake.close();
    Deno.removeSync(this.folder, { recursive: true });
  }
}

/** The default configuration with some environment variables. */
export async function testConfig(env: Readonly<Record<string, string>> = {}): Promise<Config> {
  const { config } = await loadConfig({
    env: (name) => env[name],
    readTextFile: (path) => Promise.reject(new Error(`nobody reads ${path}`)),
  });
  return config;
}

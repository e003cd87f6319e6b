/**
 * A Debian of its own, booted by systemd-nspawn(1): real systemd, Apache and PHP, with a network of its own that has
 * nothing but loopback. What it is made from is made once, in `target/system/`, and copied for each machine.
 *
 * It needs root, and Debian's `systemd-container` and `mmdebstrap`. Where it cannot boot, the test that wants it fails.
 * @module
 */
import assert from "node:assert/strict";
import denoJson from "../../deno.json" with { type: "json" };

const ROOT = new URL("../../", import.meta.url).pathname;
/** Releases of Debian that the package is for. */
export type Suite = "bookworm" | "trixie";
const PACKAGES = ["systemd", "systemd-sysv", "dbus", "apache2", "libapache2-mod-php", "php-cli", "curl"];
/** The package's file in `dist/`. */
export const PACKAGE = `streaming-daemon-ts_${denoJson.version}_amd64.deb`;
const STOP_LIMIT_MS = 140_000; // the unit's TimeoutStopSec= and a bit
const BOOT_LIMIT_MS = 60_000;
const COMMAND_LIMIT_SECS = 180;
const POLL_MS = 50;

/** Where this side's own Debian comes from. */
async function mirror(): Promise<string> {
  const own = /^VERSION_CODENAME=(.*)$/m.exec(await Deno.readTextFile("/etc/os-release"))?.[1];
  const repositories = await host("apt-get indextargets --format $(CODENAME)|$(REPO_URI)");
  const line = repositories.split("\n").find((each) => each.startsWith(`${own}|`));
  assert(line !== undefined, `apt knows no repository of ${own}, the Debian that runs here`);
  return line.split("|")[1] as string;
}

/** What a command in the machine came to. */
export interface Outcome {
  readonly code: number;
  /** Standard output and error, in the order they came. */
  readonly text: string;
}

/** A machine that ends with its test. */
export class Machine implements AsyncDisposable {
  readonly #folder: string;
  #process: Deno.ChildProcess;
  /** What nspawn itself says. */
  #said: Promise<string>;
  #leader = 0;

  private constructor(folder: string) {
    this.#folder = folder;
    this.#process = start(folder);
    this.#said = new Response(this.#process.stderr).text();
  }

  /** Makes one and waits until it has booted. */
  static async boot(suite: Suite = "bookworm"): Promise<Machine> {
    assert.equal(Deno.uid(), 0, "the system's tests boot a machine with systemd-nspawn, which takes root");
    const folder = await Deno.makeTempDir({ dir: `${ROOT}target`, prefix: "machine-" });
    await Deno.remove(folder);
    await host(`cp --archive --reflink=auto ${await base(suite)} ${folder}`);
    const machine = new Machine(folder);
    try {
      await machine.#booted();
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
    return machine;
  }

  /** A path in the machine as this side sees it. Sockets can be connected to. */
  path(path: string): string {
    return `/proc/${this.#leader}/root${path}`;
  }

  /** {@linkcode host} in the machine's network: a program of this side that talks to its servers. */
  async inNetwork(command: string): Promise<string> {
    return await host(`nsenter --target=${this.#leader} --net ${command}`);
  }

  /** Runs a script with sh(1). */
  async run(script: string): Promise<Outcome> {
    const { code, stdout, stderr } = await new Deno.Command("nsenter", {
      args: [
        `--target=${this.#leader}`,
        "--all",
        "timeout",
        `${COMMAND_LIMIT_SECS}`,
        "sh",
        "-c",
        `exec 2>&1; ${script}`,
      ],
      env: {
        PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        HOME: "/root",
        LANG: "C.UTF-8",
        DEBIAN_FRONTEND: "noninteractive",
      },
      clearEnv: true,
      stdin: "null",
    }).output();
    return { code, text: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
  }

  /** The same for a script that must succeed. Returns what it said, without white space at the end. */
  async ok(script: string): Promise<string> {
    const { code, text } = await this.run(script);
    assert.equal(code, 0, `exit code ${code} of: ${script}\n${text}`);
    return text.trimEnd();
  }

  /** A property of the daemon's unit, or of another. */
  async show(property: string, unit = "streaming-daemon-ts.service"): Promise<string> {
    return await this.ok(`systemctl show --property=${property} --value ${unit}`);
  }

  /** Waits until a script succeeds, asked again and again. */
  async until(script: string, limitMs = 30_000): Promise<void> {
    const begin = performance.now();
    for (let last = await this.run(script); last.code !== 0; last = await this.run(script)) {
      if (performance.now() - begin > limitMs) {
        throw new Error(`Waited ${limitMs} ms for: ${script}\n${last.text}`);
      }
      await pause();
    }
  }

  /** Puts the package of this checkout into it and installs that, which starts the daemon. */
  async install(): Promise<void> {
    await Deno.copyFile(`${ROOT}dist/${PACKAGE}`, `${this.path("/root")}/${PACKAGE}`);
    await this.ok(`apt-get install --yes /root/${PACKAGE}`);
  }

  /** Waits until a unit does not run any more. */
  async untilGone(unit: string): Promise<void> {
    await this.until(`[ "$(systemctl is-active ${unit})" = inactive ]`, STOP_LIMIT_MS);
  }

  /** Turns it off in order and on again. */
  async reboot(): Promise<void> {
    await this.run("systemctl poweroff"); // the connection may end before its answer
    await this.#process.status;
    await this.#said;
    this.#process = start(this.#folder);
    this.#said = new Response(this.#process.stderr).text();
    await this.#booted();
  }

  /** Waits for the first process of a boot, and for the boot's end. */
  async #booted(): Promise<void> {
    const deadline = performance.now() + BOOT_LIMIT_MS;
    const { pid } = this.#process;
    let state = "no process";
    while (performance.now() < deadline) {
      const ended = await Promise.race([this.#process.status, pause()]);
      if (ended !== undefined) throw new Error(`systemd-nspawn cannot boot here:\n${await this.#said}`);
      const child =
        (await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`)).split(" ").map(Number)[0] ?? 0;
      if (child === 0) continue;
      this.#leader = child;
      state = (await this.run("systemctl is-system-running --wait")).text.trim();
      if (state === "running") return;
      if (state === "degraded") {
        throw new Error(`Units failed:\n${(await this.run("systemctl --failed")).text}`);
      }
    }
    throw new Error(`The machine has not booted within ${BOOT_LIMIT_MS} ms; its state is: ${state}`);
  }

  /** Turns it off and removes it. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL"); // the machine's first process dies with its parent, and all others with it
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended
    }
    await this.#process.status;
    await this.#said;
    await host(`rm --recursive --force --one-file-system ${this.#folder}`);
  }
}

function start(folder: string): Deno.ChildProcess {
  // With the end of this process, however it comes, the machine ends.
  return new Deno.Command("setpriv", {
    args: [
      "--pdeathsig=KILL",
      "systemd-nspawn",
      "--quiet",
      `--directory=${folder}`,
      "--boot",
      "--register=no",
      "--keep-unit",
      "--private-network",
      "--console=pipe",
      "--rlimit=RLIMIT_NOFILE=65536",
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
}

/** The folder that machines are copied from. */
async function base(suite: Suite): Promise<string> {
  const folder = `${ROOT}target/system/${suite}`;
  try {
    await Deno.stat(folder);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    const making = `${folder}.new`;
    await Deno.mkdir(`${ROOT}target/system`, { recursive: true });
    await host(`rm --recursive --force ${making}`);
    await host(
      `mmdebstrap --quiet --variant=minbase --include=${PACKAGES} ${suite} ${making} ${await mirror()}`,
    );
    await Deno.rename(making, folder);
  }
  return folder;
}

/** Runs a program on this side, in the checkout; words are separated by spaces. */
export async function host(command: string): Promise<string> {
  const [program = "", ...args] = command.split(" ");
  const { success, stdout, stderr } = await new Deno.Command(program, { args, cwd: ROOT, stdin: "null" })
    .output();
  const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);
  assert(success, `${command} failed:\n${text(stdout)}${text(stderr)}`);
  return text(stdout);
}

function pause(): Promise<undefined> {
  return new Promise((resolve) => setTimeout(() => resolve(undefined), POLL_MS));
}

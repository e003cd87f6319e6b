/**
 * Descriptors that nobody would hand over on purpose, and a daemon without any.
 * @module
 */
import { connect, OwnedFd } from "../../src/native/sender.ts";
import type { TestDaemon } from "./daemon.ts";

/** Looks a descriptor up by what `/proc/self/fd` says it is. It stays its owner's: do not close the result. */
function fdOf(link: string): OwnedFd {
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      if (Deno.readLinkSync(`/proc/self/fd/${name}`) === link) return new OwnedFd(Number(name));
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error; // the descriptor of the listing itself
    }
  }
  throw new Error(`No descriptor is ${link}`);
}

/** Calls back with a regular file's descriptor. */
export function withFile(use: (file: OwnedFd) => void): void {
  const path = Deno.makeTempFileSync();
  using _file = Deno.openSync(path);
  try {
    use(fdOf(path));
  } finally {
    Deno.removeSync(path);
  }
}

/** Calls back with the descriptor of a Unix socket that listens. */
export function withListener(use: (listener: OwnedFd) => void): void {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/l.sock`;
  using _listener = Deno.listen({ transport: "unix", path });
  try {
    // Its line in proc_pid_net(5): "Num: RefCount Protocol Flags Type St Inode Path".
    const line = Deno.readTextFileSync("/proc/net/unix").split("\n").find((each) =>
      each.endsWith(` ${path}`)
    );
    use(fdOf(`socket:[${line?.trim().split(/\s+/)[6]}]`));
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

const WAITING = 20;

/**
 * Takes every descriptor that a daemon may have, by handoff connections that say nothing. The first ones are accepted,
 * and some wait for what becomes free.
 */
export async function takeAllFds(daemon: TestDaemon): Promise<OwnedFd[]> {
  const noRoom = () => daemon.log.some(({ message }) => message === "Cannot accept handoffs for a moment");
  const silent: OwnedFd[] = [];
  const another = () => silent.push(connect(daemon.socketPath, "seqpacket"));
  while (!noRoom()) {
    another();
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  for (let waiting = 0; waiting < WAITING; waiting++) another();
  return silent;
}

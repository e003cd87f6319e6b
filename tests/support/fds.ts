/**
 * Descriptors of this process that nobody would hand over on purpose.
 * @module
 */
import { OwnedFd } from "../../src/native/sender.ts";

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

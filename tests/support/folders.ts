/**
 * Folders and small files of tests.
 * @module
 */

/** A folder that goes with its test. */
export class TestFolder implements Disposable {
  readonly path = Deno.makeTempDirSync();

  /** The names in it, in order. */
  get names(): string[] {
    return namesIn(this.path);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path, { recursive: true });
  }
}

/** The names in a folder, in order. */
export function namesIn(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** Since the machine's start, in microseconds. */
export function uptimeUsec(): number {
  return Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]) * 1e6;
}

/**
 * A small fault in the code, and who should notice it.
 * @module
 */

/** One fault. */
export interface Fault {
  /** Unique; says what goes wrong. */
  readonly id: string;
  /** What is replaced: occurs exactly once in its file. */
  readonly text: string;
  /** What stands in its place. It is to compile. */
  readonly instead: string;
  /** Files below `tests/` that should be red, those first that are likely to be. */
  readonly tests?: readonly string[];
  /** Tests of the shim that should be red: names of files of `shim/tests`, or `lib` for those beside the code. */
  readonly cargo?: readonly string[];
  /** For a fault that nothing can notice: why. */
  readonly survives?: string;
}

/** The faults of one file. */
export interface FaultyFile {
  /** From the repository's root. */
  readonly file: string;
  readonly faults: readonly Fault[];
}

/**
 * The file with the fault in it.
 *
 * @throws {Error} if the text is not there once
 */
export function withFault(source: string, { id, text, instead }: Fault, file: string): string {
  const parts = source.split(text);
  if (parts.length !== 2) {
    throw new Error(
      `fault ${id}: its text occurs ${parts.length - 1} times in ${file}; expected once. ` +
        "Where the code has changed, change the fault in tools/mutants/faults/, or take it out",
    );
  }
  return parts.join(instead);
}

/** A head's fields as text, which the daemon never needs all of. */

import { readBlock } from "../../src/upstream/h2/hpack.ts";
import type { Field } from "../../src/upstream/h2/static_table.ts";

/** All fields of a block; throws as {@linkcode readBlock} does. */
export function decodeFields(block: Uint8Array): Field[] {
  const fields: Field[] = [];
  let name = "";
  readBlock(block, {
    name(bytes: Uint8Array, length: number): boolean {
      name = "";
      for (const byte of bytes.subarray(0, length)) name += String.fromCharCode(byte);
      return true;
    },
    value(value: string): void {
      fields.push([name, value]);
    },
  });
  return fields;
}

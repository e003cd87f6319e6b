/**
 * What a connection to a provider reads from and writes to.
 * @module
 */

/** Bytes in both directions, as `Deno.Conn` has them. */
export interface ByteStream {
  /** @returns how many bytes came, or null at the end */
  read(into: Uint8Array): Promise<number | null>;
  /** @returns how many bytes were taken */
  write(bytes: Uint8Array): Promise<number>;
  /** Idempotent; a read or write under way rejects. */
  close(): void;
}

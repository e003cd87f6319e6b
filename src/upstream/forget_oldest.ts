/**
 * What is remembered of others' names and numbers has a bound.
 * @module
 */

/** A `Map` or a `Set`, which keep the order in which keys came. */
interface Known<Key> {
  readonly size: number;
  keys(): IteratorObject<Key>;
  delete(key: Key): boolean;
}

/** Takes out the key that came first, if there is one more than there may be. To be called after each that is put in. */
export function forgetOldest<Key>(known: Known<Key>, most: number): void {
  if (known.size <= most) return;
  for (const oldest of known.keys().take(1)) known.delete(oldest);
}

/**
 * A wait with a time limit.
 * @module
 */

/** What a promise gives, or what `late` gives or throws if that takes longer than `ms` milliseconds. */
export async function within<Value>(given: Promise<Value>, ms: number, late: () => Value): Promise<Value> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const over = new Promise<void>((resolve) => timer = setTimeout(resolve, ms));
  try {
    return await Promise.race([given, over.then(late)]);
  } finally {
    clearTimeout(timer);
  }
}

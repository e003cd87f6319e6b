/**
 * What is started for a test.
 * @module
 */

/** Waits until it has come up. Where it does not, nothing of it is left over. */
export async function comeUp<Started extends AsyncDisposable>(
  started: Started,
  begin: (started: Started) => Promise<unknown>,
): Promise<Started> {
  try {
    await begin(started);
  } catch (error) {
    await started[Symbol.asyncDispose]();
    throw error;
  }
  return started;
}

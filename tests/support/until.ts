/**
 * The wait for what nothing tells of.
 * @module
 */

/** How long it may take; a test that meets it has failed. */
const WAIT_MS = 20_000;
const POLL_MS = 5;

/** Waits until `holds`, asked again and again. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + WAIT_MS;
  while (!await holds()) {
    if (performance.now() > endMs) throw new Error(`Waited ${WAIT_MS} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/**
 * Whom TLS trusts: Deno's default is Mozilla's list alone, and a company's own authority is in the system's store.
 * @module
 */

/** A variable of Deno's, read at the first TLS connection of the process. */
const VARIABLE = "DENO_TLS_CA_STORE";
const STORES = "system,mozilla";

/**
 * Has the system's store trusted besides Mozilla's list, in all isolates. To be called before anything connects. What
 * the user has set stays; so it does where the sandbox withholds the variable.
 */
export function trustSystemStore(): void {
  try {
    if (Deno.env.get(VARIABLE) === undefined) Deno.env.set(VARIABLE, STORES);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
  }
}

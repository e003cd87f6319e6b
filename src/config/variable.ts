/**
 * A variable of the environment.
 * @module
 */
import { ConfigError } from "../errors.ts";

/** @throws {ConfigError} if it is no text. Deno's own error has the value, which may be a secret. */
export function variable(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch (error) {
    if (!(error instanceof Deno.errors.InvalidData)) throw error;
    throw new ConfigError(`environment ${name} = (hidden): expected text in UTF-8`);
  }
}

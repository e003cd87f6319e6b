/**
 * Objects in JSON that PHP has made. Pure.
 * @module
 */

/** The members of an object, or `undefined` for anything else. PHP encodes an empty array as `[]`, which is none. */
export function phpObject(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  if (!Array.isArray(value)) return value as Readonly<Record<string, unknown>>;
  return value.length === 0 ? {} : undefined;
}

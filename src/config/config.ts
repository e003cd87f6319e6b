/**
 * The configuration's type, made of the table of keys.
 * @module
 */
import type { Key, KEYS } from "./keys.ts";

type ValuesOf<Group> = {
  readonly [Name in keyof Group]: Group[Name] extends Key<infer Value> ? Value : ValuesOf<Group[Name]>;
};

/**
 * All that can be configured: `KEYS` of `config/keys.ts` with a value in the place of each key. Durations are in
 * milliseconds. Plain data: it can be sent to a worker.
 */
export type Config = ValuesOf<typeof KEYS> & {
  /** Those of `[backends.NAME]`, by name. */
  readonly backends: Readonly<Record<string, BackendConfig>>;
};

/** What is configured for one backend. */
export type BackendConfig = Omit<ValuesOf<typeof KEYS.backend>, "selectable">;

/**
 * The head of a request whose body is JSON and whose answer is a stream of events.
 * @module
 */

import type { RequestHead } from "../../upstream/exchange.ts";
import type { Field } from "../../upstream/h2/static_table.ts";
import type { HttpOptions } from "./options.ts";

/**
 * @param path below the base of the API, with its first slash
 * @param own the provider's fields, names in lower case; one with the value "" is left out
 * @returns the head, in which the headers of the configuration win over all others
 */
export function jsonHead(
  { apiBase, headers }: Pick<HttpOptions, "apiBase" | "headers">,
  path: string,
  own: readonly Field[],
): RequestHead {
  const fields = new Map<string, string>([
    ["accept", "text/event-stream"],
    // No header would mean any coding.
    ["accept-encoding", "identity"],
    ["content-type", "application/json"],
    ["user-agent", "streaming-daemon-ts"],
    ...own,
    ...Object.entries(headers).map(([name, value]): Field => [name.toLowerCase(), value]),
  ]);
  return {
    method: "POST",
    url: new URL(apiBase.replace(/\/$/, "") + path),
    headers: [...fields].filter(([, value]) => value !== ""),
  };
}

/**
 * The environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in capitals or not.
 * @module
 */

import type { ProxySettings } from "./proxy.ts";

/** @returns what is set and may be read: a variable that the sandbox withholds is not meant for this process */
export function proxyFromEnvironment(): ProxySettings {
  return {
    httpProxy: variable("HTTP_PROXY"),
    httpsProxy: variable("HTTPS_PROXY"),
    noProxy: variable("NO_PROXY"),
  };
}

function variable(name: string): string {
  try {
    return Deno.env.get(name) ?? Deno.env.get(name.toLowerCase()) ?? "";
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return "";
    throw error;
  }
}

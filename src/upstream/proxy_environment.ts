/**
 * The environment's HTTP_PROXY, HTTPS_PROXY and NO_PROXY, in capitals or not.
 * @module
 */

import { variable } from "../config/variable.ts";
import type { ProxySettings } from "./proxy.ts";

/** @returns what is set and may be read: a variable that the sandbox withholds is not meant for this process */
export function proxyFromEnvironment(): ProxySettings {
  return {
    httpProxy: proxyVariable("HTTP_PROXY"),
    httpsProxy: proxyVariable("HTTPS_PROXY"),
    noProxy: proxyVariable("NO_PROXY"),
  };
}

function proxyVariable(name: string): string {
  try {
    return variable(name) ?? variable(name.toLowerCase()) ?? "";
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return "";
    throw error;
  }
}

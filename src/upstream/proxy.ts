/**
 * Which proxy a request goes through, from the values of HTTP_PROXY, HTTPS_PROXY and NO_PROXY, read the way curl(1)
 * does. A pure function of its arguments.
 * @module
 */

import { BlockList, isIP } from "node:net";
import { hasReadableUser, isHost } from "../config/host.ts";
import { ConfigError } from "../errors.ts";

/** The three variables' values; empty or absent means none. */
export interface ProxySettings {
  readonly httpProxy?: string;
  readonly httpsProxy?: string;
  readonly noProxy?: string;
}

/**
 * @param url where the request goes
 * @returns the proxy's address, or null for none
 * @throws ConfigError the value is not an http:// address
 */
export function proxyFor(url: URL, settings: ProxySettings): URL | null {
  const [name, value] = url.protocol === "https:"
    ? ["HTTPS_PROXY", settings.httpsProxy]
    : ["HTTP_PROXY", settings.httpProxy];
  if (value === undefined || value === "" || isExempt(url, settings.noProxy ?? "")) return null;
  const address = URL.parse(value.includes("://") ? value : `http://${value}`);
  if (address === null || !isHost(address.hostname) || !hasReadableUser(address)) {
    throw new ConfigError(
      `${name} is not an address; expected http://[user:password@]host[:port], with %25 for a "%"`,
    );
  }
  if (address.protocol !== "http:") {
    throw new ConfigError(
      `${name} names a proxy of kind ${address.protocol}//, which is not supported; expected http://host[:port], ` +
        `or ${url.hostname} in NO_PROXY`,
    );
  }
  return address;
}

/** NO_PROXY: names, which stand for their subdomains too, each with or without a port; networks; `*` for all. */
function isExempt(url: URL, noProxy: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, "").toLowerCase();
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  for (const entry of noProxy.split(/[\s,]+/)) {
    if (entry === "*" || isInNetwork(host, entry)) return true;
    const match = /^\.?(?:\[([^\]]+)\]|([^:]+|[0-9a-f:]{3,}))(?::(\d+))?$/i.exec(entry.toLowerCase());
    const name = match?.[1] ?? match?.[2];
    if (name === undefined || (match?.[3] !== undefined && match[3] !== port)) continue;
    if (host === name || host.endsWith(`.${name}`)) return true;
  }
  return false;
}

/** Whether it is an address in `network/bits`, such as 10.0.0.0/8. */
function isInNetwork(host: string, entry: string): boolean {
  const [, network = "", bits] = /^([^/]+)\/(\d{1,3})$/.exec(entry) ?? [];
  const version = isIP(host);
  if (version === 0 || isIP(network) !== version || Number(bits) > (version === 4 ? 32 : 128)) return false;
  const family = version === 4 ? "ipv4" : "ipv6";
  const networks = new BlockList();
  networks.addSubnet(network, Number(bits), family);
  return networks.check(host, family);
}

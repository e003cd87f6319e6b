/**
 * What can be a host, or stand before one. Pure, and a module of its own, so that a worker does without what reads a configuration.
 * @module
 */

/** Whether it can be asked for, and Deno's sandbox takes it: a name of labels, an IPv4 address, `[IPv6]`. */
export function isHost(host: string): boolean {
  return host.startsWith("[") ? URL.canParse(`http://${host}`) : /^[\w-]+(\.[\w-]+)*\.?$/.test(host);
}

/** Whether user and password of a URL can be decoded: "%" has two digits behind it, and what they stand for is UTF-8. */
export function hasReadableUser({ username, password }: URL): boolean {
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}

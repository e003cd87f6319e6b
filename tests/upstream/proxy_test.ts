import assert from "node:assert/strict";
import { ConfigError } from "../../src/errors.ts";
import { proxyFor } from "../../src/upstream/proxy.ts";

const through = (url: string, noProxy = ""): string | undefined =>
  proxyFor(new URL(url), { httpProxy: "http://plain:1", httpsProxy: "secure:2", noProxy })?.host;

Deno.test("proxy: by the scheme of the request", () => {
  assert.equal(through("http://a/"), "plain:1");
  assert.equal(through("https://a/"), "secure:2");
  assert.equal(proxyFor(new URL("https://a/"), { httpProxy: "http://plain:1" }), null);
  assert.equal(proxyFor(new URL("https://a/"), { httpsProxy: "" }), null);
});

Deno.test("proxy: NO_PROXY", () => {
  const exempt: [noProxy: string, url: string, is: boolean][] = [
    ["*", "http://a/", true],
    ["a.com", "http://a.com/", true],
    ["a.com", "http://x.A.com/", true],
    [".a.com", "http://x.a.com/", true],
    ["a.com", "http://ba.com/", false],
    ["b, a.com c", "http://a.com/", true],
    ["a.com:80", "http://a.com/", true],
    ["a.com:81", "http://a.com/", false],
    ["a.com:8000", "https://a.com:8000/", true],
    ["127.0.0.1", "http://127.0.0.1:9/", true],
    ["::1", "http://[::1]:9/", true],
    ["[::1]:9", "http://[::1]:9/", true],
    [",", "http://a/", false],
    ["127.0.0.1,10.0.0.0/8", "http://10.1.2.3:8000/", true],
    ["10.0.0.0/8", "http://11.1.2.3/", false],
    ["10.1.2.3/31", "http://10.1.2.2/", true],
    ["10.1.2.3/31", "http://10.1.2.4/", false],
    ["fd00::/8", "http://[fdab::1]:8000/", true],
    ["fd00::/8", "http://[fc00::1]/", false],
    ["0.0.0.0/0", "http://[fd00::1]/", false],
    ["10.0.0.0/8", "http://10.example/", false],
    ["10.0.0.0/33 10.0.0.0/ /8 a/8 10.0.0.0/x", "http://10.1.2.3/", false],
  ];
  for (const [noProxy, url, is] of exempt) {
    assert.equal(through(url, noProxy) === undefined, is, `${noProxy} ${url}`);
  }
});

Deno.test("proxy: an address that cannot be used is refused, without its password", () => {
  const addresses = [
    "https://u:secret@p:1",
    "socks5://u:secret@p:1",
    "http://",
    "http://u:secret@p:x",
    "http://u:100%secret@p:1",
    "http://u:secret@p..q:1",
  ];
  for (const address of addresses) {
    assert.throws(
      () => proxyFor(new URL("https://a/"), { httpsProxy: address }),
      (error) =>
        error instanceof ConfigError && error.message.startsWith("HTTPS_PROXY") &&
        !error.message.includes("secret"),
    );
  }
});

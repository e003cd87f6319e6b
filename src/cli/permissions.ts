/**
 * Which permissions of Deno's sandbox a command needs under its configuration, and no more: the hosts, sockets and
 * files that the configuration names.
 * @module
 */
import { allBackends, type BackendConfig, type Config, httpTable } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import { shimPath, toolsPath } from "../native/library.ts";
import { MODULES } from "../places.ts";
import { proxyFor, type ProxySettings } from "../upstream/proxy.ts";

/** What is granted, by the name of Deno's flag: `read` is `--allow-read`. */
export interface Permissions {
  readonly ffi?: readonly string[];
  readonly read?: readonly string[];
  readonly write?: readonly string[];
  readonly net?: readonly string[];
  readonly env: readonly string[];
}

const CONFIGURED = ["DAEMON_*", "OPENAI_*", "ANTHROPIC_*", "LANGGRAPH_*"];
const FROM_SYSTEMD = [
  "NOTIFY_SOCKET",
  "WATCHDOG_USEC",
  "WATCHDOG_PID",
  "LISTEN_FDS",
  "LISTEN_PID",
  "LISTEN_FDNAMES",
  "JOURNAL_STREAM",
];
/** Of Deno's own: see `src/upstream/trust.ts`. */
const TRUST = ["DENO_TLS_CA_STORE"];
const PROXIES = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"];

/** A place that a command works with. */
export interface Place {
  /** The file that the configuration comes from, if it comes from one. */
  readonly configPath?: string | undefined;
}

/** What a command needs that does nothing but read the configuration. */
export function readerPermissions({ configPath }: Place): Permissions {
  return { read: given(configPath), env: [...CONFIGURED, ...PROXIES] };
}

/** What `--check` needs: it reads the files that are named, and loads the modules of backends, which may connect. */
export function checkPermissions({ config, configPath }: Place & { readonly config: Config }): Permissions {
  const backends = allBackends(config).map(([, backend]) => backend);
  return {
    read: [
      ...given(configPath),
      ...backends.flatMap((backend) => backendNeeds(backend, {}).files),
      ...storeFiles(config),
    ],
    net: backends.flatMap(({ provider, module }) => provider === "module" ? module.allowNet : []),
    env: [...CONFIGURED, ...TRUST, ...PROXIES],
  };
}

/** What `try` needs. */
export function tryPermissions({ configPath }: Place): Permissions {
  return { ffi: [toolsPath()], read: given(configPath), env: CONFIGURED };
}

/** What `status` needs. */
export function statusPermissions({ config, configPath }: Place & { readonly config: Config }): Permissions {
  const { hostname, port } = config.metrics.listenAddr;
  const asked = hostname === "0.0.0.0" ? "127.0.0.1" : hostname;
  return { read: given(configPath), net: [hostAndPort({ hostname: asked, port })], env: CONFIGURED };
}

/**
 * What the daemon needs.
 *
 * @throws {ConfigError} if a proxy's address is none
 */
export function daemonPermissions(
  { config, proxies, configPath }: Place & { readonly config: Config; readonly proxies: ProxySettings },
): Permissions {
  const { metrics, resume } = config;
  const needs = allBackends(config).map(([, backend]) => backendNeeds(backend, proxies));
  const all = (of: (needs: BackendNeeds) => readonly string[]): string[] => [...new Set(needs.flatMap(of))];
  const sockets = all(({ sockets }) => sockets);
  return {
    ffi: [shimPath()],
    read: [
      ...given(configPath),
      MODULES.replace(/\/$/, ""),
      ...all(({ files }) => files),
      ...sockets,
      ...storeFiles(config),
    ],
    write: sockets, // to connect to a Unix socket is to write to it
    net: [
      ...metrics.enabled ? [hostAndPort(metrics.listenAddr)] : [],
      ...all(({ hosts }) => hosts),
      ...resume.store === "redis" ? [redisHost(resume.redisUrl)] : [],
    ],
    env: [...CONFIGURED, ...FROM_SYSTEMD, ...TRUST, ...PROXIES],
  };
}

function storeFiles({ resume: { store, redisCaFile } }: Config): readonly string[] {
  return store === "redis" ? given(redisCaFile) : [];
}

function redisHost(redisUrl: string): string {
  const { hostname, port } = new URL(redisUrl);
  return `${hostname}:${port || 6379}`;
}

/** What one backend reads, connects to and asks. */
interface BackendNeeds {
  readonly files: readonly string[];
  readonly sockets: readonly string[];
  readonly hosts: readonly string[];
}

function backendNeeds(backend: BackendConfig, proxies: ProxySettings): BackendNeeds {
  const { provider, module } = backend;
  if (provider === "module") {
    return { files: [module.path, ...module.allowRead], sockets: [], hosts: module.allowNet };
  }
  const settings = httpTable(backend)?.settings;
  if (settings === undefined) return { files: [], sockets: [], hosts: [] };
  return {
    files: given(settings.caFile),
    sockets: given(settings.apiSocket),
    hosts: [providerHost(settings, proxies)],
  };
}

/**
 * The flags for `deno run`; none for what is not granted.
 *
 * @throws {ConfigError} if a path has a comma, at which Deno would take it for two
 */
export function permissionFlags(permissions: Permissions): string[] {
  const flags = [];
  for (const [name, values] of Object.entries(permissions) as [string, readonly string[]][]) {
    const divided = values.find((value) => value.includes(","));
    if (divided !== undefined) {
      throw new ConfigError(
        `${divided}: expected a path without a comma, which no permission can be given for`,
      );
    }
    if (values.length > 0) flags.push(`--allow-${name}=${values.join(",")}`);
  }
  return flags;
}

/** What of `wanted` this process was not granted, as flags with the missing values alone. */
export async function missingPermissions(
  { net = [], read = [], write = [] }: Permissions,
): Promise<string[]> {
  const wanted: Deno.PermissionDescriptor[] = [
    ...net.map((host) => ({ name: "net", host }) as const),
    ...read.map((path) => ({ name: "read", path }) as const),
    ...write.map((path) => ({ name: "write", path }) as const),
  ];
  const missing = [];
  for (const each of wanted) {
    if ((await Deno.permissions.query(each)).state !== "granted") {
      missing.push(`--allow-${each.name}=${"host" in each ? each.host : "path" in each ? each.path : ""}`);
    }
  }
  return missing;
}

function providerHost(
  { apiSocket, apiBase }: { readonly apiSocket: string; readonly apiBase: string },
  proxies: ProxySettings,
): string {
  if (apiSocket !== "") return `unix:${apiSocket}`;
  const base = new URL(apiBase);
  const url = proxyFor(base, proxies) ?? base;
  return `${url.hostname}:${url.port || (url.protocol === "https:" ? 443 : 80)}`;
}

function hostAndPort({ hostname, port }: { readonly hostname: string; readonly port: number }): string {
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}

/** The value in a list, or an empty list where there is none. */
function given(value: string | undefined): string[] {
  return value === undefined || value === "" ? [] : [value];
}

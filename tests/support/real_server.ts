/**
 * Real web servers as what stands between the daemon and its provider: Debian's nginx, Apache and Caddy, each as a
 * process of its own that reads nothing of the machine's configuration. They allow few streams and requests on a
 * connection (Caddy 250 streams, and any number of requests), and close one that idles for a second.
 * @module
 */
import { APACHE, freePort, serverRoot } from "./apache.ts";
import { comeUp } from "./come_up.ts";
import type { Certificate } from "./mock_llm.ts";
import { ServerProcess } from "./server_process.ts";

/** Streams at the same time on a connection of HTTP/2 to nginx. */
const STREAMS = 20;
/** Requests on a connection, one after the other or not. */
const REQUESTS = 10;
/** Of each of Apache's processes, more than a test has streams. */
const THREADS = 640;

export type ServerName = "nginx" | "apache" | "caddy";
/** How the daemon speaks to it: `h2` is over TLS. */
export type ServerProtocol = "h1" | "h2c" | "h2";

/** Where it listens and what it passes requests on to. */
interface Place {
  readonly protocol: ServerProtocol;
  readonly port: number;
  readonly provider: number;
  readonly certificate: Certificate | undefined;
}

/** What is particular to a server. */
interface Kind {
  /** Makes a folder with its configuration. @returns its path */
  folder(place: Place): string;
  command(folder: string): readonly [program: string, ...args: string[]];
  /** What it logs whenever it has begun to take connections, at the start and after a reload. */
  readonly begins: string;
  /** What has it begin anew, as softly as it can; null: that is not soft enough for a test. */
  readonly reloadSignal: Deno.Signal | null;
}

const KINDS: Readonly<Record<ServerName, Kind>> = {
  nginx: {
    folder: ({ protocol, port, provider, certificate }) => {
      const listen = { h1: "", h2c: " http2", h2: " ssl http2" }[protocol];
      const folder = Deno.makeTempDirSync({ prefix: "nginx-test-" });
      Deno.writeTextFileSync(`${folder}/cert.pem`, certificate?.cert ?? "");
      Deno.writeTextFileSync(`${folder}/key.pem`, certificate?.key ?? "");
      Deno.writeTextFileSync(
        `${folder}/nginx.conf`,
        `
          daemon off;
          ${Deno.uid() === 0 ? "user www-data;" : ""}
          worker_processes 1;
          pid pid;
          error_log stderr notice;
          events { worker_connections 4096; }
          http {
            access_log off;
            client_body_temp_path client_body;
            proxy_temp_path proxy;
            fastcgi_temp_path fastcgi;
            uwsgi_temp_path uwsgi;
            scgi_temp_path scgi;
            http2_max_concurrent_streams ${STREAMS};
            keepalive_requests ${REQUESTS};
            keepalive_timeout 1s;
            server {
              listen 127.0.0.1:${port}${listen};
              ${protocol === "h2" ? "ssl_certificate cert.pem; ssl_certificate_key key.pem;" : ""}
              location / {
                proxy_pass http://127.0.0.1:${provider};
                proxy_http_version 1.1;
                proxy_buffering off;
              }
            }
          }`,
      );
      return folder;
    },
    command: (folder) => ["/usr/sbin/nginx", "-p", folder, "-c", `${folder}/nginx.conf`, "-e", "stderr"],
    begins: "start worker process ",
    reloadSignal: "SIGHUP",
  },
  apache: {
    folder: ({ protocol, port, provider }) =>
      serverRoot({
        modules: ["proxy", "proxy_http", "http2"],
        config: `
          Protocols ${protocol === "h2c" ? "h2c" : "http/1.1"}
          # It works on six of a connection's streams to begin with, whatever it allows.
          H2MaxSessionStreams 5
          H2MaxWorkers 600
          MaxKeepAliveRequests ${REQUESTS}
          KeepAliveTimeout 1
          # All threads from the start, and room for those of the time before a reload: it makes more at leisure.
          # Each of its processes has one for every stream of a test: one whose threads are all taken by streams
          # without an end does not even look at the connections that idle there, and a request on one waits with them.
          ServerLimit 4
          StartServers 2
          ThreadLimit ${THREADS}
          ThreadsPerChild ${THREADS}
          MinSpareThreads ${2 * THREADS}
          MaxSpareThreads ${2 * THREADS}
          MaxRequestWorkers ${2 * THREADS}
          ProxyPass / http://127.0.0.1:${provider}/ flushpackets=on disablereuse=on`,
      }, port),
    command: (folder) => [APACHE, "-D", "FOREGROUND", "-f", `${folder}/apache.conf`],
    begins: "resuming normal operations",
    reloadSignal: "SIGUSR1",
  },
  caddy: {
    folder: ({ protocol, port, provider, certificate }) => {
      const folder = Deno.makeTempDirSync({ prefix: "caddy-test-" });
      Deno.writeTextFileSync(`${folder}/cert.pem`, certificate?.cert ?? "");
      Deno.writeTextFileSync(`${folder}/key.pem`, certificate?.key ?? "");
      const handler = {
        handler: "reverse_proxy",
        flush_interval: -1,
        upstreams: [{ dial: `127.0.0.1:${provider}` }],
      };
      const server = {
        listen: [`127.0.0.1:${port}`],
        protocols: ["h1", "h2", "h2c"],
        idle_timeout: "1s",
        automatic_https: { disable: true },
        routes: [{ handle: [handler] }],
        ...(protocol === "h2" ? { tls_connection_policies: [{}] } : {}),
      };
      const files = [{ certificate: "cert.pem", key: "key.pem" }];
      const config = {
        admin: { disabled: true, config: { persist: false } },
        storage: { module: "file_system", root: `${folder}/storage` },
        apps: {
          http: { servers: { server } },
          ...(protocol === "h2" ? { tls: { certificates: { load_files: files } } } : {}),
        },
      };
      Deno.writeTextFileSync(`${folder}/caddy.json`, JSON.stringify(config));
      return folder;
    },
    command: (folder) => ["/usr/bin/caddy", "run", "--config", `${folder}/caddy.json`],
    begins: '"server running"',
    // Version 2.6 then cuts all that is under way, and at times its process dies of a panic.
    reloadSignal: null,
  },
};

/** Starts one in front of a provider's port and waits until it takes connections. */
export function startServer(
  name: ServerName,
  protocol: ServerProtocol,
  provider: number,
  certificate?: Certificate,
): Promise<RealServer> {
  const port = freePort();
  const folder = KINDS[name].folder({ protocol, port, provider, certificate });
  const base = `${protocol === "h2" ? "https" : "http"}://127.0.0.1:${port}/v1`;
  const server = new RealServer(KINDS[name], folder, base);
  return comeUp(server, () => server.start());
}

/** A server that ends with its test. */
export class RealServer implements AsyncDisposable {
  /** For `api_base`. */
  readonly base: string;
  readonly #kind: Kind;
  readonly #folder: string;
  #process: ServerProcess | null = null;
  /** How often the process has begun. */
  #begun = 0;

  constructor(kind: Kind, folder: string, base: string) {
    this.#kind = kind;
    this.#folder = folder;
    this.base = base;
  }

  /** Starts it, the first time or after {@linkcode kill}. */
  async start(): Promise<void> {
    this.#process = new ServerProcess(this.#kind.command(this.#folder), this.#folder);
    this.#begun = 0;
    await this.#begins();
  }

  /** Has it begin anew: what is under way goes on, on its old connections. */
  async reload(): Promise<void> {
    const { reloadSignal } = this.#kind;
    if (reloadSignal === null) throw new Error("It is not reloaded");
    this.#process?.signal(reloadSignal);
    await this.#begins();
  }

  /** Ends it and its workers at once, and whatever is under way with them. */
  async kill(): Promise<void> {
    const process = this.#process;
    if (process === null) return;
    this.#process = null;
    // By SIGTERM, Apache waits many seconds for workers whose provider says nothing. None is made any more by then.
    process.signal("SIGSTOP");
    const workers = await Deno.readTextFile(`/proc/${process.pid}/task/${process.pid}/children`);
    for (const pid of workers.split(" ").filter((each) => each !== "")) Deno.kill(Number(pid), "SIGKILL");
    process.signal("SIGKILL");
    await process.exit();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.kill();
    await Deno.remove(this.#folder, { recursive: true });
  }

  /** Waits until it says once more that it has begun. */
  async #begins(): Promise<void> {
    await this.#process?.logged(this.#kind.begins, ++this.#begun);
  }
}

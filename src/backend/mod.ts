/**
 * The registry of backends: name to backend. A new one is added here.
 * @module
 */
import type { Config } from "../config/load.ts";
import type { Backend } from "./backend.ts";
import { proxyFromEnvironment } from "../upstream/proxy_environment.ts";
import { mockBackend, type Pauses } from "./mock.ts";
import { type Arrivals, openaiBackend } from "./openai/openai.ts";

/** What backends get from their worker. */
export interface BackendParts {
  readonly pauses: Pauses;
  readonly arrivals: Arrivals;
}

/** The backend that the configuration names. */
export function makeBackend(config: Config["backend"], parts: BackendParts): Backend {
  switch (config.provider) {
    case "mock":
      return mockBackend({ tokenDelayMs: config.mock.tokenDelayMs, pauses: parts.pauses });
    case "openai":
      return openaiBackend({
        ...config.openai,
        headTimeoutMs: config.timeoutMs,
        proxy: proxyFromEnvironment(),
        arrivals: parts.arrivals,
      });
  }
}

/**
 * The registry of backends: name to backend. A new one is added here.
 * @module
 */
import type { Config } from "../config/load.ts";
import type { ReadCoalescer } from "../timing/read_coalescer.ts";
import type { TimerWheel } from "../timing/timer_wheel.ts";
import { proxyFromEnvironment } from "../upstream/proxy_environment.ts";
import type { Backend } from "./backend.ts";
import { fromStreams } from "./from_streams.ts";
import { MockBackend } from "./mock.ts";
import { openaiBackend } from "./openai/openai.ts";

/** What backends get from their worker. */
export interface BackendParts {
  /** For pauses of milliseconds. */
  readonly wheel: TimerWheel;
  /** Is told of what goes to a provider and what comes from it. */
  readonly arrivals: ReadCoalescer;
}

/**
 * The backend that the configuration names. It opens nothing before its first request.
 *
 * @throws {ConfigError} if it cannot be made so
 */
export function makeBackend(config: Config["backend"], parts: BackendParts): Backend {
  switch (config.provider) {
    case "mock":
      return new MockBackend({ tokenDelayMs: config.mock.tokenDelayMs, wheel: parts.wheel });
    case "openai":
      return fromStreams(openaiBackend({
        ...config.openai,
        headTimeoutMs: config.timeoutMs,
        proxy: proxyFromEnvironment(),
        arrivals: parts.arrivals,
      }));
  }
}

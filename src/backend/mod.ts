/**
 * The registry of backends: name to backend. A new one is added here.
 * @module
 */
import { allBackends, type BackendConfig, type Config, DEFAULT_BACKEND } from "../config/load.ts";
import { ConfigError } from "../errors.ts";
import type { ReadCoalescer } from "../timing/read_coalescer.ts";
import type { TimerWheel } from "../timing/timer_wheel.ts";
import { proxyFromEnvironment } from "../upstream/proxy_environment.ts";
import { trustSystemStore } from "../upstream/trust.ts";
import type { Backend } from "./backend.ts";
import { MockBackend } from "./mock.ts";
import type { Arrivals } from "./http/answer.ts";
import { HttpBackend } from "./http/http.ts";
import { OpenAi } from "./openai/openai.ts";
import type { OpenAiOptions } from "./openai/options.ts";
import type { RequestTemplate } from "./openai/template.ts";

/** A backend's configuration, with what is made of it once for all workers: plain data. */
export type BackendPlan = BackendConfig & {
  /** For the provider "openai". */
  readonly template?: RequestTemplate;
};

/** What backends get from their worker. */
export interface BackendParts {
  /** For pauses of milliseconds. */
  readonly wheel: TimerWheel;
  /** Is told of what goes to a provider and what comes from it. */
  readonly arrivals: ReadCoalescer;
}

/**
 * The configuration as the workers get it: each backend of it as {@linkcode planBackend} makes it.
 *
 * @throws {ConfigError} if one cannot be made; the message names its key
 */
export async function planBackends(config: Config): Promise<Config> {
  const plans: Record<string, BackendPlan> = {};
  for (const [name, each] of allBackends(config)) {
    try {
      plans[name] = await planBackend(each);
    } catch (error) {
      if (!(error instanceof ConfigError) || name === DEFAULT_BACKEND) throw error;
      throw new ConfigError(error.message.replaceAll(/\bbackend\./g, `backends.${name}.`), { cause: error });
    }
  }
  const { [DEFAULT_BACKEND]: plan, ...backends } = plans;
  return { ...config, backend: { ...config.backend, ...plan }, backends };
}

/**
 * Makes what the workers' backends have in common, and tries whether they can be made.
 *
 * @throws {ConfigError} if they cannot
 */
export async function planBackend(config: BackendConfig): Promise<BackendPlan> {
  if (config.provider === "mock") return config;
  trustSystemStore();
  // The SDK that makes it is loaded where it is needed only: 12 MiB.
  const { requestTemplate } = await import("./openai/template.ts");
  const plan = { ...config, template: await requestTemplate(openAiOptions(config)) };
  makeHttpBackend(plan, { requested() {}, received() {} });
  return plan;
}

/**
 * The backend that the configuration names. It opens nothing before its first request.
 *
 * @throws {ConfigError} if it cannot be made so
 */
export function makeBackend(plan: BackendPlan, parts: BackendParts): Backend {
  if (plan.provider === "mock") {
    return new MockBackend({ tokenDelayMs: plan.mock.tokenDelayMs, wheel: parts.wheel });
  }
  return makeHttpBackend(plan, parts.arrivals);
}

function makeHttpBackend(plan: BackendPlan, arrivals: Arrivals): HttpBackend {
  if (plan.template === undefined) throw new Error("the provider openai needs the template of its requests");
  const options = openAiOptions(plan);
  return new HttpBackend(new OpenAi(options, plan.template), options, "backend.openai", arrivals);
}

function openAiOptions(config: BackendConfig): OpenAiOptions {
  return { ...config.openai, headTimeoutMs: config.timeoutMs, proxy: proxyFromEnvironment() };
}

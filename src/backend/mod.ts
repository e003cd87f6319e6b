/**
 * The registry of backends: name to backend. A new one is added here.
 * @module
 */
import {
  allBackends,
  type BackendConfig,
  type Config,
  DEFAULT_BACKEND,
  httpTable,
} from "../config/config.ts";
import { ConfigError } from "../errors.ts";
import type { Log } from "../ops/log/log.ts";
import type { ReadCoalescer } from "../timing/read_coalescer.ts";
import type { TimerWheel } from "../timing/timer_wheel.ts";
import { proxyFromEnvironment } from "../upstream/proxy_environment.ts";
import { trustSystemStore } from "../upstream/trust.ts";
import { Anthropic } from "./anthropic/anthropic.ts";
import type { Backend } from "./backend.ts";
import { MockBackend } from "./mock.ts";
import type { Hooks } from "./http/answer.ts";
import type { Dialect } from "./http/dialect.ts";
import { HttpBackend } from "./http/http.ts";
import { checkOptions, type HttpOptions, readCaCerts } from "./http/options.ts";
import { LangGraph } from "./langgraph/langgraph.ts";
import { moduleBackend, tryModule } from "./module.ts";
import { OpenAi } from "./openai/openai.ts";
import { OpenAiResponses } from "./openai_responses/openai_responses.ts";
import type { RequestTemplate } from "./openai/template.ts";

/** A backend's configuration, with what is made of it once for all workers: plain data. */
export type BackendPlan = BackendConfig & {
  /** For a provider whose requests its SDK makes. */
  readonly template?: RequestTemplate;
  /** For one that is asked over HTTP: what is in its `ca_file`, which a worker that starts later may not find. */
  readonly caCerts?: readonly string[];
};

/** The table and the path of {@linkcode OpenAiResponses}. */
const RESPONSES = { table: "backend.openai_responses", path: "/responses" };

/** What backends get from their worker. */
export interface BackendParts {
  /** For pauses of milliseconds. */
  readonly wheel: TimerWheel;
  /** Is told of what comes from a provider. */
  readonly arrivals: ReadCoalescer;
  readonly log: Log;
}

/**
 * The configuration as the workers get it: each backend of it as {@linkcode planBackend} makes it.
 *
 * @throws {ConfigError} if one cannot be made; the message names its key
 */
export async function planBackends(config: Config): Promise<Config> {
  const plans: Record<string, BackendPlan> = {};
  for (const [name, each] of allBackends(config)) {
    plans[name] = await withPlace(name, () => planBackend(each));
  }
  const { [DEFAULT_BACKEND]: plan, ...backends } = plans;
  return { ...config, backend: { ...config.backend, ...plan }, backends };
}

/** What is wrong with one backend names its own table. */
async function withPlace<Result>(name: string, check: () => Promise<Result>): Promise<Result> {
  try {
    return await check();
  } catch (error) {
    if (!(error instanceof ConfigError) || name === DEFAULT_BACKEND) throw error;
    throw new ConfigError(error.message.replace(/^backend\./, `backends.${name}.`), { cause: error });
  }
}

/**
 * Makes what the workers' backends have in common, and tries whether they can be made.
 *
 * @throws {ConfigError} if they cannot
 */
async function planBackend(config: BackendConfig): Promise<BackendPlan> {
  if (config.provider === "mock") return config;
  trustSystemStore();
  if (config.provider === "module") {
    await tryModule(config.module);
    return config;
  }
  const template = await templateFor(config);
  const { name, settings } = httpTable(config) ?? {};
  const caCerts = readCaCerts(settings?.caFile ?? "", `backend.${name}`);
  const plan = { ...config, ...(template === undefined ? {} : { template }), caCerts };
  makeHttpBackend(plan, { arrivals: { received() {} }, log: { debug() {} } });
  return plan;
}

/** The SDK that makes it is loaded where it is needed only: 12 MiB. */
async function templateFor(config: BackendConfig): Promise<RequestTemplate | undefined> {
  const { provider } = config;
  if (provider !== "openai" && provider !== "openai-responses") return undefined;
  const { requestTemplate } = await import("./openai/template.ts");
  return provider === "openai"
    ? requestTemplate({ ...config.openai, ...common(config) })
    : requestTemplate({ ...config.openai_responses, ...common(config) }, RESPONSES);
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
  if (plan.provider === "module") return moduleBackend(plan.module);
  return makeHttpBackend(plan, parts);
}

function makeHttpBackend(plan: BackendPlan, hooks: Hooks): HttpBackend {
  const { name, settings } = httpTable(plan) ?? {};
  if (settings === undefined) throw new Error(`the provider ${plan.provider} is not asked over HTTP`);
  const options = { ...settings, ...common(plan) };
  checkOptions(options, `backend.${name}`);
  return new HttpBackend(dialectOf(plan), options, plan.caCerts ?? [], hooks);
}

function dialectOf(plan: BackendPlan): Dialect {
  switch (plan.provider) {
    case "mock":
    case "module":
      throw new Error(`the provider ${plan.provider} has no API`);
    case "openai":
      return new OpenAi(plan.openai, templateOf(plan));
    case "openai-responses":
      return new OpenAiResponses(plan.openai_responses, templateOf(plan));
    case "anthropic":
      return new Anthropic(plan.anthropic);
    case "langgraph":
      return new LangGraph(plan.langgraph);
  }
}

function templateOf({ provider, template }: BackendPlan): RequestTemplate {
  if (template === undefined) throw new Error(`the provider ${provider} needs the template of its requests`);
  return template;
}

function common(config: BackendConfig): Pick<HttpOptions, "headTimeoutMs" | "proxy"> {
  return { headTimeoutMs: config.timeoutMs, proxy: proxyFromEnvironment() };
}

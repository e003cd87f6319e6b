/** Options of the OpenAI backend for tests and benchmarks, as the configuration's defaults have them. */

import type { OpenAiOptions } from "../../src/backend/openai/options.ts";

/** @returns the defaults, with what the caller sets */
export function openaiOptions(set: Partial<OpenAiOptions>): OpenAiOptions {
  return {
    apiKey: "sk-test-key-0123456789",
    apiBase: "http://127.0.0.1:9/v1",
    apiSocket: "",
    http2: true,
    insecureSsl: false,
    caFile: "",
    poolMaxIdlePerHost: 100,
    idleTimeoutMs: 90_000,
    pingIntervalMs: 30_000,
    organization: "",
    project: "",
    headers: {},
    body: {},
    includeUsage: true,
    maxRetries: 2,
    headTimeoutMs: 120_000,
    proxy: {},
    ...set,
  };
}

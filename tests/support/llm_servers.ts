/**
 * Real servers that speak OpenAI's language, as processes of their own: LiteLLM's proxy in front of a provider, and
 * llama.cpp's server with the model of `tiny_gguf.ts`. `tests/real/llm/install` puts both below `target/llm`.
 * @module
 */
import { freePort } from "./apache.ts";
import { comeUp } from "./come_up.ts";
import { ServerProcess } from "./server_process.ts";
import { tinyGguf } from "./tiny_gguf.ts";

const INSTALLED = new URL("../../target/llm/", import.meta.url).pathname;
/** The only key that LiteLLM takes. */
export const LITELLM_KEY = "sk-litellm-0123456789";

/** LiteLLM loads for long. */
const START_MS = 120_000;

type Command = readonly [program: string, ...args: string[]];

/** LiteLLM's models: those of the stand-in, one whose provider is not there, one with a limit of requests. */
function litellmConfig(provider: number): string {
  const model = (name: string, port: number, further = {}) => ({
    model_name: name,
    litellm_params: {
      model: "openai/mock",
      api_base: `http://127.0.0.1:${port}/v1`,
      api_key: "x",
      ...further,
    },
  });
  // JSON is YAML.
  return JSON.stringify({
    model_list: [model("mock", provider), model("dead", 1), model("limited", provider, { rpm: 1 })],
    router_settings: {
      num_retries: 0,
      optional_pre_call_checks: ["enforce_model_rate_limits"],
      disable_cooldowns: true,
    },
    general_settings: { master_key: LITELLM_KEY, forward_client_headers_to_llm_api: true },
  });
}

/** LiteLLM in front of a provider; it closes a connection that idles for a second. */
export async function startLiteLlm(provider: number): Promise<LlmServer> {
  const folder = Deno.makeTempDirSync({ prefix: "litellm-test-" });
  Deno.writeTextFileSync(`${folder}/config.yaml`, litellmConfig(provider));
  const port = freePort();
  return await started(folder, port, "Uvicorn running on", [
    "env",
    ...["LITELLM_LOCAL_MODEL_COST_MAP=True", "DO_NOT_TRACK=1"],
    `${INSTALLED}litellm/bin/litellm`,
    ...["--config", "config.yaml", "--host", "127.0.0.1", "--port", String(port)],
    ...["--telemetry", "False", "--keepalive_timeout", "1"],
  ]);
}

/** What llama.cpp's server is started with. */
export interface LlamaOptions {
  /** Answers at the same time; further requests wait for one of them to end. */
  readonly slots: number;
  /** Tokens of each, its question included. */
  readonly contextLength: number;
}

/** llama.cpp's server, from Debian's package that is unpacked beside this system. */
export async function startLlama({ slots, contextLength }: LlamaOptions): Promise<LlmServer> {
  const folder = Deno.makeTempDirSync({ prefix: "llama-test-" });
  Deno.writeFileSync(`${folder}/tiny.gguf`, tinyGguf(contextLength));
  const port = freePort();
  const root = `${INSTALLED}llama/usr`;
  const libraries = `${root}/lib/x86_64-linux-gnu`;
  return await started(folder, port, "listening on", [
    "env",
    `GGML_BACKEND_PATH=${libraries}/ggml/backends0/libggml-cpu-x64.so`,
    `${libraries}/ld-linux-x86-64.so.2`,
    ...["--library-path", `${libraries}:${libraries}/llama`, `${root}/bin/llama-server`],
    ...[
      "--model",
      "tiny.gguf",
      "--host",
      "127.0.0.1",
      "--port",
      String(port),
      "--no-webui",
      "--threads",
      "1",
    ],
    ...["--parallel", String(slots), "--ctx-size", String(slots * contextLength)],
  ]);
}

function started(folder: string, port: number, begins: string, command: Command): Promise<LlmServer> {
  const server = new LlmServer(folder, `http://127.0.0.1:${port}/v1`, begins, command);
  return comeUp(server, () => server.start());
}

/** A server that ends with its test. */
export class LlmServer implements AsyncDisposable {
  /** For `api_base`. */
  readonly base: string;
  readonly #folder: string;
  readonly #begins: string;
  readonly #command: Command;
  #process: ServerProcess | null = null;

  constructor(folder: string, base: string, begins: string, command: Command) {
    this.base = base;
    this.#folder = folder;
    this.#begins = begins;
    this.#command = command;
  }

  /** Starts it, the first time or after {@linkcode stop}; it takes connections then. */
  async start(): Promise<void> {
    this.#process = new ServerProcess(this.#command, this.#folder);
    await this.#process.logged(this.#begins, 1, START_MS);
  }

  /** Ends it, and waits until it has. */
  async stop(signal: Deno.Signal): Promise<void> {
    this.#process?.signal(signal);
    await this.#process?.exit();
    this.#process = null;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop("SIGKILL");
    await Deno.remove(this.#folder, { recursive: true });
  }
}

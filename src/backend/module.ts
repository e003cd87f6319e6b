/**
 * A backend of the site's own: a module that the configuration names by its path. What it gives is looked at before it
 * goes on, since nobody else has checked it.
 * @module
 */
import { pathToFileURL } from "node:url";
import type { BackendConfig } from "../config/load.ts";
import { asBackendError, BackendError, ConfigError } from "../errors.ts";
import { within } from "../timing/within.ts";
import type { Backend, BackendRequest, StreamEvent } from "./backend.ts";
import { fromStreams, type StreamSource } from "./from_streams.ts";
import { type Wanted, wantedOf } from "./http/dialect.ts";
import { isCount } from "./http/event_reader.ts";

/** The keys of `backend.module`. */
export type ModuleOptions = BackendConfig["module"];

/** What the module's default export gives, as `examples/backend/types.ts` says it; not checked. */
interface OwnBackend {
  stream(request: BackendRequest, signal: AbortSignal): unknown;
  close?(): unknown;
}

/** The backend of that module. It is loaded in the background; requests wait for it. */
export function moduleBackend(options: ModuleOptions): Backend {
  return fromStreams(new ModuleSource(options));
}

/** From the import of a module to the end of its close. */
const TRY_MS = 10_000;

/**
 * Loads the module as a worker will, and lets it go.
 *
 * @param mostMs what all of that may take
 * @throws {ConfigError} if it cannot be used; the message says why
 */
export async function tryModule(options: ModuleOptions, mostMs = TRY_MS): Promise<void> {
  await within(loadAndClose(options), mostMs, () => {
    throw wrong(options, `the module is not loaded, made and closed within ${mostMs} ms`);
  });
}

async function loadAndClose(options: ModuleOptions): Promise<void> {
  const own = await load(options);
  try {
    await own.close?.();
  } catch (cause) {
    throw wrong(options, `the module's close() failed: ${messageOf(cause)}`, cause);
  }
}

function wrong({ path }: ModuleOptions, what: string, cause?: unknown): ConfigError {
  return new ConfigError(`backend.module.path = ${JSON.stringify(path)}: ${what}`, { cause });
}

class ModuleSource implements StreamSource {
  readonly name = "module";
  readonly #loading: Promise<OwnBackend>;

  constructor(options: ModuleOptions) {
    this.#loading = load(options);
    this.#loading.catch(() => {}); // each request tells of it
  }

  async stream(request: BackendRequest, signal: AbortSignal): Promise<ReadableStream<StreamEvent>> {
    const stream = await (await this.#loading).stream(request, signal);
    if (stream instanceof ReadableStream) return stream;
    throw new BackendError("malformed", `its stream() gave ${typeof stream}, expected a ReadableStream`);
  }

  vet(request: BackendRequest): (event: unknown) => StreamEvent | undefined {
    const wanted = wantedOf(request);
    return (event) => vetted(event, wanted);
  }

  async close(): Promise<void> {
    const own = await this.#loading.catch(() => undefined);
    await own?.close?.();
  }
}

/** @throws {ConfigError} if it cannot be used */
async function load(module: ModuleOptions): Promise<OwnBackend> {
  const { path, options } = module;
  let make: unknown;
  try {
    make = (await import(pathToFileURL(path).href)).default;
  } catch (cause) {
    throw wrong(module, `the module cannot be loaded: ${messageOf(cause)}`, cause);
  }
  if (typeof make !== "function") {
    throw wrong(
      module,
      `the module's default export is ${typeof make}, expected a function that makes a backend`,
    );
  }
  let own: unknown;
  try {
    own = await make(options);
  } catch (cause) {
    throw wrong(module, `the module's function failed: ${messageOf(cause)}`, cause);
  }
  if (typeof (own as Partial<OwnBackend> | null | undefined)?.stream !== "function") {
    throw wrong(module, "the module's function gave no backend, expected { stream(request, signal) }");
  }
  return own as OwnBackend;
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n", 1)[0] as string;
}

/** The event that it is; `undefined` for what its client has not asked for. @throws {BackendError} if it is none */
function vetted(given: unknown, wanted: Wanted): StreamEvent | undefined {
  if (typeof given === "string") return textOf(given);
  const event = (given ?? {}) as Record<string, unknown>;
  switch (event["kind"]) {
    case "open":
    case "alive":
    case "end":
      return { kind: event["kind"] };
    case "text":
      if (typeof event["text"] === "string") return textOf(event["text"]);
      break;
    case "reasoning":
      if (typeof event["text"] !== "string") break;
      return wanted.reasoning && event["text"] !== ""
        ? { kind: "reasoning", text: event["text"] }
        : undefined;
    case "finish":
      if (typeof event["reason"] === "string") return { kind: "finish", reason: event["reason"] };
      break;
    case "usage":
      if (!isCount(event["inputTokens"]) || !isCount(event["outputTokens"])) break;
      return { kind: "usage", inputTokens: event["inputTokens"], outputTokens: event["outputTokens"] };
    case "tool_call":
      if (!isCount(event["index"]) || typeof event["arguments"] !== "string") break;
      if (!isOptionalText(event["id"]) || !isOptionalText(event["name"])) break;
      return wanted.toolCalls ? given as StreamEvent : undefined;
    case "source":
      if (typeof event["url"] !== "string" || !isOptionalText(event["title"])) break;
      return wanted.sources ? given as StreamEvent : undefined;
    case "chunk":
      if (typeof event["data"] !== "string" || /[\r\n]/.test(event["data"])) break;
      return wanted.chunks ? { kind: "chunk", data: event["data"] } : undefined;
    case "error":
      return { kind: "error", error: asBackendError(event["error"]) };
  }
  throw new BackendError("malformed", `its stream gave what is no event: ${shown(given)}`);
}

function textOf(text: string): StreamEvent | undefined {
  return text === "" ? undefined : { kind: "text", text: text.toWellFormed() };
}

function isOptionalText(value: unknown): boolean {
  return value === undefined || typeof value === "string";
}

/** Its kind and the names of its members, not what is in them: that is somebody's answer. */
function shown(given: unknown): string {
  if (typeof given !== "object" || given === null) return given === null ? "null" : typeof given;
  const { kind } = given as { readonly kind?: unknown };
  return `kind ${JSON.stringify(kind)?.slice(0, 40)} with ${Object.keys(given).slice(0, 8).join(", ")}`;
}

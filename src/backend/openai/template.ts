/**
 * What all requests have in common, from `npm:openai`. Importing the package costs an isolate 12 MiB, so one makes
 * the template and gives it, plain data, to the others.
 * @module
 */

import OpenAI from "openai";
import type { Field } from "../../upstream/h2/static_table.ts";
import { checkOptions } from "../http/options.ts";
import type { OpenAiOptions } from "./options.ts";

/** Plain data: it can be sent to another isolate. */
export interface RequestTemplate {
  readonly url: string;
  readonly headers: readonly Field[];
}

/** Chat completions, and their table in the configuration. */
const CHAT = { table: "backend.openai", path: "/chat/completions" };

/**
 * Has the SDK make a request.
 *
 * @param where the table of the options in the configuration, and the path below `api_base`
 * @throws ConfigError see {@linkcode checkOptions}
 */
export async function requestTemplate(
  options: Omit<OpenAiOptions, "includeUsage">,
  { table, path }: { readonly table: string; readonly path: string } = CHAT,
): Promise<RequestTemplate> {
  checkOptions(options, table);
  const client = new OpenAI({
    // Every value is given, so that the SDK reads no environment.
    apiKey: options.apiKey || "none", // it takes no empty one, and its header is taken off below
    adminAPIKey: null,
    baseURL: options.apiBase,
    organization: options.organization || null,
    project: options.project || null,
    webhookSecret: null,
    logLevel: "off",
    defaultHeaders: { ...(options.apiKey === "" ? { Authorization: null } : {}), ...options.headers },
  });
  const { req, url } = await client.buildRequest({ method: "post", path, body: {} });
  // No header would mean any coding.
  const headers: Field[] = [["accept-encoding", "identity"]];
  new Headers(req.headers).forEach((value, name) => {
    // These tell about the machine it runs on, and of time-outs and tries that are not the SDK's here.
    if (!name.startsWith("x-stainless-") && name !== "content-length") headers.push([name, value]);
  });
  return { url, headers };
}

/**
 * From what a handoff asks for to what writes its answer. Pure.
 * @module
 */
import type { HandoffRequest } from "../handoff_request.ts";
import type { AnswerFormat } from "../stream_event.ts";
import { AiSdkFormat } from "./ai_sdk.ts";
import { ContentFormat } from "./content.ts";
import { OpenAiFormat } from "./openai.ts";

/**
 * The format of one answer; null for the plain `content`, which needs no object.
 *
 * @param created seconds since 1970
 */
export function formatFor(
  request: Pick<HandoffRequest, "format" | "include" | "requestId" | "model">,
  created: number,
): AnswerFormat | null {
  const { format, include, requestId, model } = request;
  switch (format) {
    case "content":
      return include.length === 0 ? null : new ContentFormat(include);
    case "openai":
      return new OpenAiFormat({ id: `chatcmpl-${requestId}`, created, model }, include.includes("usage"));
    case "ai-sdk":
      return new AiSdkFormat(include);
  }
}

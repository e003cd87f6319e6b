/**
 * What an answer is to be: the choices that a handoff has, and their names. Pure.
 * @module
 */

/** What an answer can be written as. */
export const RESPONSE_FORMATS = ["content", "openai", "ai-sdk"] as const;
/** One of {@linkcode RESPONSE_FORMATS}. */
export type ResponseFormat = typeof RESPONSE_FORMATS[number];

/** What can go to the client besides the text. */
export const INCLUDES = ["usage", "finish", "reasoning", "tool_calls"] as const;
/** One of {@linkcode INCLUDES}. */
export type Include = typeof INCLUDES[number];

/**
 * What an answer is to be: the choices that a handoff has, and their names. Pure.
 * @module
 */

/** What can go to the client besides the text. */
export const INCLUDES = ["usage", "finish", "reasoning", "tool_calls"] as const;
/** One of {@linkcode INCLUDES}. */
export type Include = typeof INCLUDES[number];

/**
 * The words that the configuration has for the log. A module of its own, so that a worker, which logs and reads no
 * configuration, does without what reads one.
 * @module
 */

/** The levels of the log, the most talkative first. */
export const LOG_LEVELS = ["debug", "info", "warning", "error"] as const;
/** One of {@linkcode LOG_LEVELS}. */
export type LogLevel = typeof LOG_LEVELS[number];

/**
 * The parts of the log: `daemon` (start, end, reloads, workers), `handoff` (what was refused or could not be accepted),
 * `stream` (how each ended), `backend` (what failed there), `log` (lines that were dropped).
 */
export const LOG_PARTS = ["daemon", "handoff", "stream", "backend", "log"] as const;
/** One of {@linkcode LOG_PARTS}. */
export type LogPart = typeof LOG_PARTS[number];

/**
 * `status`: asks a running daemon how it is, and shows it as one types it at three in the morning.
 * @module
 */
import { get, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { type ListenAddr } from "../config/load.ts";
import { StatusError } from "../errors.ts";
import type { Status } from "../ops/status.ts";

const ANSWER_LIMIT_MS = 5000;

/**
 * Asks the daemon whose metrics are at that address.
 *
 * @throws {StatusError} if none answers there, or not with its status
 */
export async function askStatus({ hostname, port }: ListenAddr): Promise<Status> {
  // A daemon on all addresses answers on loopback, too.
  const host = hostname === "0.0.0.0" ? "127.0.0.1" : hostname.includes(":") ? `[${hostname}]` : hostname;
  const url = `http://${host}:${port}/status`;
  const signal = AbortSignal.timeout(ANSWER_LIMIT_MS);
  try {
    // Not by fetch, which asks the environment's proxy for loopback, too.
    const answered = Promise.withResolvers<IncomingMessage>();
    get(url, { agent: false, signal }, answered.resolve).on("error", answered.reject);
    const response = await answered.promise;
    const body = await text(response);
    if (response.statusCode !== 200) {
      // Of a page of another server the first line is enough.
      const [said = ""] = body.trim().split("\n", 1);
      throw new Error(`status ${response.statusCode}: ${said.slice(0, 200)}`);
    }
    return JSON.parse(body);
  } catch (cause) {
    const why = signal.aborted
      ? `it timed out after ${ANSWER_LIMIT_MS / 1000} s`
      : cause instanceof Error
      ? cause.message
      : String(cause);
    throw new StatusError(
      `${url}: no daemon says how it is there (metrics.listen_addr; none does with metrics.enabled = false): ${why}`,
      { cause },
    );
  }
}

/** The status for people, in lines. */
export function statusText(status: Status): string {
  const { connections, max_connections, streams, streams_peak, oldest_secs } = status;
  const lines = [
    `streaming-daemon-ts ${status.version}, Deno ${status.deno}, pid ${status.pid}, up ${
      lasting(status.uptime_secs)
    }: ` +
    status.state,
    `clients    ${connections} of ${max_connections}`,
    `streams    ${streams}, at most ${streams_peak}; the oldest for ${lasting(oldest_secs)}`,
    ...status.workers.map(({ index, answers, streams, oldest_secs }) =>
      `worker ${index}   ${streams} streams, the oldest for ${lasting(oldest_secs)}${
        answers ? "" : "; DOES NOT ANSWER"
      }`
    ),
    ...Object.entries(status.providers).map(([name, { requests, errors }]) =>
      `${name.padEnd(10)} ${requests} requests${
        Object.entries(errors).map(([kind, count]) => `, ${count} × ${kind}`).join("")
      }`
    ),
  ];
  return `${lines.join("\n")}\n\n${status.config}`;
}

function lasting(secs: number): string {
  const whole = Math.round(secs);
  if (whole < 120) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 120) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/**
 * Why a handoff was refused, by the numbers of ABI.md, and what the detail of each reason is.
 * @module
 */
import type { HandoffFailure } from "../errors.ts";

const REASONS: readonly HandoffFailure[] = [
  "no_fd",
  "many_fds",
  "not_a_socket",
  "not_stream",
  "listening",
  "payload_truncated",
  "control_truncated",
  "timeout",
  "uid_not_allowed",
  "receive_error",
];

/** The reason of that number; `undefined` for 0, which stands for none. */
export function reasonOf(number: number): HandoffFailure | undefined {
  return REASONS[number - 1];
}

/** What a refusal's detail is, by the name of a log field; of the other reasons it is nothing. */
export const DETAIL_NAMES: Readonly<{ [_ in HandoffFailure]?: string }> = {
  many_fds: "fds",
  not_stream: "socket_type",
  payload_truncated: "limit_bytes",
  timeout: "limit_ms",
  uid_not_allowed: "uid",
  receive_error: "errno",
};

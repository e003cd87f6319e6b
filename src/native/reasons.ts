/**
 * Why a handoff was refused, by the numbers of ABI.md.
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

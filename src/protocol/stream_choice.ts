/**
 * The fields of a handoff about a stream that has an id of its own: docs/resume.md. Pure.
 * @module
 */
import { HandoffRequestError } from "../errors.ts";

/** What a handoff says about such a stream. */
export interface StreamChoice {
  readonly id: string;
  /**
   * The number of the last event that the client has; 0: none. Set, no answer is begun: there is one to go on with, or
   * nothing.
   */
  readonly lastEventId?: number;
  /** The answer is finished and kept, also when nobody watches it any more. */
  readonly continues: boolean;
  /** It is to be ended, and not watched. */
  readonly stops: boolean;
}

const STREAM_ID = /^[\w.~:-]{1,128}$/;
const EVENT_ID = /^\d{1,15}$/;

/**
 * Reads them; `undefined` where there is neither `stream_id` nor `action`, without which the others say nothing.
 *
 * @throws {HandoffRequestError} if one is not as it should be; the message names it
 */
export function streamChoice(fields: Readonly<Record<string, unknown>>): StreamChoice | undefined {
  const id = fields["stream_id"] ?? undefined;
  const action = fields["action"] ?? undefined;
  if (id === undefined && action === undefined) return undefined;
  if (action !== undefined && action !== "stop") {
    throw new HandoffRequestError('Field "action" is not "stop", the only one that there is');
  }
  if (typeof id !== "string" || !STREAM_ID.test(id)) {
    throw new HandoffRequestError(
      'Field "stream_id" is not 1 to 128 letters, digits or characters of . _ ~ : -',
    );
  }
  const onDisconnect = fields["on_disconnect"] ?? "cancel";
  if (onDisconnect !== "cancel" && onDisconnect !== "continue") {
    throw new HandoffRequestError('Field "on_disconnect" is not "cancel" or "continue"');
  }
  const lastEventId = eventNumber(fields["last_event_id"] ?? "");
  return {
    id,
    continues: onDisconnect === "continue",
    stops: action === "stop",
    ...(lastEventId === undefined ? {} : { lastEventId }),
  };
}

// PHP passes on what a header or a parameter has; an empty text is none.
function eventNumber(value: unknown): number | undefined {
  if (value === "") return undefined;
  const text = typeof value === "number" ? String(value) : value;
  if (typeof text !== "string" || !EVENT_ID.test(text)) {
    throw new HandoffRequestError('Field "last_event_id" is not the id of an event, a number from 0 up');
  }
  return Number(text);
}

/**
 * Server-Sent Events (WHATWG HTML, section 9.2): what a turn's events are as bytes, and the stream around it. Pure.
 * @module
 */
import type { BackendFailure, StreamFailure } from "../errors.ts";
import { DONE_EVENT, errorEvent, textEvent } from "./formats/content.ts";
import { plainResponse, streamHead } from "./http_response.ts";
import type { ClientEvent, EventBatch, Recipient } from "./stream_event.ts";

/** A turn's bytes, an entry for each client. The arrays belong to the encoder and are valid until the next batch. */
export interface SendBatch {
  readonly recipients: Recipient[];
  /** Four words each: client, offset into `data`, length, flags ({@linkcode END}). */
  readonly entries: Uint32Array<ArrayBuffer>;
  readonly count: number;
  readonly data: Uint8Array<ArrayBuffer>;
  readonly dataBytes: number;
}

/** Words of an entry. */
export const ENTRY_WORDS = 4;
/** Flag of an entry: the client's connection ends in order when its bytes are out. */
export const END = 1;

/** A comment, and the blank line that lets whoever reads events go on. */
export const HEARTBEAT = ":\n\n";

/** What a client reads when its stream breaks. */
export const FAILURE_TEXT: Record<StreamFailure, string> = {
  client_disconnected: "Client disconnected",
  write_timeout: "Write timeout",
  backend_timeout: "Backend timeout",
  backend_error: "Backend error",
  backend_busy: "Backend is busy",
  max_stream: "The answer took longer than is allowed",
  stopped: "Stopped",
  shutdown: "Server is shutting down",
  other: "Internal error",
};

/** How a stream ends by a backend's failure. */
export function failureOf(kind: BackendFailure): StreamFailure {
  return kind === "timeout" ? "backend_timeout" : "backend_error";
}

/** A whole response with the status that a failure before the head has. */
function failureResponse(failure: StreamFailure, headers: string): string {
  if (failure === "shutdown" || failure === "backend_busy") {
    return plainResponse(503, FAILURE_TEXT[failure], headers);
  }
  if (failure === "backend_timeout" || failure === "max_stream") {
    return plainResponse(504, FAILURE_TEXT[failure], headers);
  }
  return plainResponse(502, "Backend unavailable", headers);
}

const FIRST_DATA_BYTES = 64 * 1024;
const KEPT_DATA_BYTES = 1024 * 1024;

/** Encodes batch after batch into arrays that are used again. Never throws. */
export class SseEncoder {
  readonly #encoder = new TextEncoder();
  #entries = new Uint32Array(256 * ENTRY_WORDS);
  #data = new Uint8Array(FIRST_DATA_BYTES);

  /** All that a batch has for one client becomes one entry. Valid until the next call. */
  encode({ recipients, events }: EventBatch): SendBatch {
    const addressed: Recipient[] = [];
    for (let index = 0; index < events.length; index++) {
      const recipient = recipients[index] as Recipient;
      const event = events[index] as ClientEvent;
      if (!recipient.note(event)) continue;
      const text = render(recipient, event);
      if (text === "") continue;
      if (recipient.frame === "") addressed.push(recipient);
      recipient.frame += text;
    }
    return this.#pack(addressed);
  }

  #pack(recipients: Recipient[]): SendBatch {
    let text = "";
    for (const { frame } of recipients) text += frame;
    const dataBytes = this.#write(text);
    if (this.#entries.length < recipients.length * ENTRY_WORDS) {
      this.#entries = new Uint32Array(recipients.length * 2 * ENTRY_WORDS);
    }
    const entries = this.#entries;
    const ascii = text.length === dataBytes;
    let word = 0;
    let offset = 0;
    for (const recipient of recipients) {
      const bytes = ascii ? recipient.frame.length : utf8Length(recipient.frame);
      entries[word++] = recipient.id;
      entries[word++] = offset;
      entries[word++] = bytes;
      entries[word++] = recipient.frameEnds ? END : 0;
      recipient.frame = "";
      offset += bytes;
    }
    return { recipients, entries, count: recipients.length, data: this.#data, dataBytes };
  }

  // One call for the whole turn: the price of encodeInto is mostly in the call.
  #write(text: string): number {
    const longest = text.length * 3; // UTF-8 bytes per UTF-16 unit, at most
    if (this.#data.length < longest) this.#data = new Uint8Array(longest);
    else if (this.#data.length > KEPT_DATA_BYTES && longest * 4 < KEPT_DATA_BYTES) {
      this.#data = new Uint8Array(KEPT_DATA_BYTES);
    }
    return this.#encoder.encodeInto(text, this.#data).written;
  }
}

/** What goes over the wire for an event, "" for nothing. */
function render(recipient: Recipient, event: ClientEvent): string {
  const { format } = recipient;
  switch (event.kind) {
    case "text":
      return head(recipient) + (format === null ? textEvent(event.text) : format.text(event.text));
    case "alive":
      return "";
    case "open":
      return head(recipient);
    case "end":
      recipient.frameEnds = true;
      return head(recipient) + (format === null ? DONE_EVENT : format.end());
    case "error":
      return cut(recipient, failureOf(event.error.kind));
    case "cut":
      return cut(recipient, event.failure);
    case "heartbeat":
      return head(recipient) + HEARTBEAT;
    case "refusal":
      recipient.frameEnds = true;
      return plainResponse(event.status, event.line, recipient.headers);
    default:
      return head(recipient) + (format === null ? "" : format.further(event));
  }
}

/** The head of a stream, where it was not made yet; for what is sent past the encoder. */
export function takeHead(recipient: Recipient): string {
  return head(recipient);
}

function head(recipient: Recipient): string {
  if (recipient.headSent) return "";
  recipient.headSent = true;
  const { format, headers } = recipient;
  recipient.headers = ""; // so that nothing is kept of it while the stream lasts
  return streamHead(format === null ? headers : format.headers + headers);
}

function cut(recipient: Recipient, failure: StreamFailure): string {
  const { format, headSent, headers } = recipient;
  recipient.frameEnds = true;
  if (!headSent) return failureResponse(failure, headers);
  const text = FAILURE_TEXT[failure];
  return format === null ? errorEvent(text) : format.failure(failure, text);
}

/** How many bytes `TextEncoder` makes of a text. A lone surrogate becomes U+FFFD, which has three. */
export function utf8Length(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit < 0x80) continue;
    if (unit < 0x800) bytes += 1;
    else if (unit < 0xd800 || unit > 0xdbff) bytes += 2;
    else {
      const next = text.charCodeAt(index + 1);
      if (next >= 0xdc00 && next <= 0xdfff) index++; // two units, four bytes
      bytes += 2;
    }
  }
  return bytes;
}

/**
 * A turn's events in, their bytes out. The high-water marks keep at most one batch under way, which is what lets the
 * encoder use its arrays again.
 */
export class SseEncoderStream extends TransformStream<EventBatch, SendBatch> {
  constructor() {
    const encoder = new SseEncoder();
    super(
      { transform: (batch, controller) => controller.enqueue(encoder.encode(batch)) },
      { highWaterMark: 1 },
      { highWaterMark: 0 },
    );
  }
}

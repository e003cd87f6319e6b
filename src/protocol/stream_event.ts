/**
 * What flows from a backend to a client before it is bytes. Pure.
 * @module
 */
import type { BackendError, StreamFailure } from "../errors.ts";
import type { PlainStatus } from "./http_response.ts";

/**
 * One step of an answer, as a backend gives it. The set is closed; `text` is the only one whose content every browser
 * sees, those of {@linkcode FurtherEvent} are for those who ask for them.
 *
 * - `open`: the provider accepted the request, nothing to show yet.
 * - `text`: a piece of the answer, whole in Unicode (no half of a surrogate pair).
 * - `alive`: the provider sent something that says nothing to the browser; the answer's time-out begins anew.
 * - `usage`: what the answer cost, in tokens.
 * - `finish`: why the model stopped, in the words of chat completions (`stop`, `length`, `content_filter`, `tool_calls`), or
 *   in the provider's own where it has another.
 * - `reasoning`: a piece of what the model thinks before it answers. Given only where it is asked for, or the format is
 *   `openai`; so are calls.
 * - `tool_call`: a piece of a call of the tool number `index`; the first one has its id and name, and the pieces of
 *   `arguments` are JSON together, or any text where the call is `custom`, which each piece of it says.
 * - `source`: a page that the answer cites. Given only where the format is `ai-sdk`.
 * - `chunk`: JSON of a `chat.completion.chunk` as the provider sent it, in the place of texts, reasoning and calls. Given
 *   only where the format is `openai`, by providers of that style; one with counts of tokens alone only where `usage` is
 *   included.
 * - `end`: the provider marked the end. Nothing follows.
 * - `error`: any other end. Nothing follows.
 */
export type StreamEvent =
  | { readonly kind: "open" }
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "alive" }
  | FurtherEvent
  | { readonly kind: "end" }
  | { readonly kind: "error"; readonly error: BackendError };

/** What the browser does not see unless its format, or `include`, says so. */
export type FurtherEvent =
  | { readonly kind: "usage"; readonly inputTokens: number; readonly outputTokens: number }
  | { readonly kind: "finish"; readonly reason: string }
  | { readonly kind: "reasoning"; readonly text: string }
  | {
    readonly kind: "tool_call";
    readonly index: number;
    readonly id?: string;
    readonly name?: string;
    readonly arguments: string;
    readonly custom?: boolean;
  }
  | { readonly kind: "source"; readonly url: string; readonly title?: string }
  | { readonly kind: "chunk"; readonly data: string };

/**
 * What the daemon itself says. Nothing follows the first two either.
 *
 * - `refusal`: an answer that is no stream.
 * - `cut`: the stream ends early, by the daemon's will.
 * - `heartbeat`: a sign of life in silence, which every reader of the format passes over.
 */
export type OwnEvent =
  | { readonly kind: "refusal"; readonly status: PlainStatus; readonly line: string }
  | { readonly kind: "cut"; readonly failure: StreamFailure }
  | { readonly kind: "heartbeat" };

/** Whatever goes to a client. */
export type ClientEvent = StreamEvent | OwnEvent;

/** Events for several clients in the order they came: arrays of one length, whose and what. */
export interface EventBatch {
  readonly recipients: readonly Recipient[];
  readonly events: readonly ClientEvent[];
}

/**
 * Writes one client's answer in some format. Each method returns whole events of the stream, "" for none; the encoder
 * puts the head in front of the first. Must not throw.
 */
export interface AnswerFormat {
  /** Further lines of the stream's head, each with its CRLF. */
  readonly headers: string;
  text(text: string): string;
  /** What only those hear who ask for it. */
  further(event: FurtherEvent): string;
  /** The last words of an answer that ended as it should. */
  end(): string;
  /** The last words of one that broke off, `text` being what the client is told. */
  failure(failure: StreamFailure, text: string): string;
}

/** A client as the pipeline sees it. A backend only carries it. Its methods must not throw. */
export interface Recipient {
  /** The shim's number of the client, valid until {@linkcode Recipient.ended}. */
  readonly id: number;
  /** Its socket is closed: nothing may be sent. */
  readonly ended: boolean;
  /** It has not taken all that it was sent: what comes has to be appended to the rest. */
  readonly full: boolean;

  /** The encoder's: whether the response's head was made. */
  headSent: boolean;
  /** Further lines of the head, each with its CRLF; "" once it was made. */
  headers: string;
  /** How its answer is written; null: as `content` with nothing besides, which needs no object. */
  readonly format: AnswerFormat | null;
  /** The encoder's: the text for this client in the batch under way, and whether its connection ends after it. */
  frame: string;
  frameEnds: boolean;

  /** Takes note of an event before it is encoded. Returns whether it is still wanted. */
  note(event: ClientEvent): boolean;
  /**
   * What became of bytes that were to be sent.
   *
   * @param result the bytes taken, or a negative status
   * @param data where the bytes lie; copied if they must be kept
   */
  sent(result: number, data: Uint8Array<ArrayBuffer>, offset: number, length: number, end: boolean): void;
  /** Keeps bytes, by copy, that follow those which wait already. */
  append(bytes: Uint8Array<ArrayBuffer>, end: boolean): void;
}

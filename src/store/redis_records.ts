/**
 * What streams with an id are in Valkey or Redis: keys, entries, and how they are read.
 * @module
 */
import { Buffer } from "node:buffer";
import { STREAM_FAILURES, type StreamFailure } from "../errors.ts";
import {
  type Include,
  INCLUDES,
  RESPONSE_FORMATS,
  type ResponseFormat,
} from "../protocol/response_choice.ts";
import type { Argument, Reply } from "./redis_link.ts";

/** What there is to know of a stream besides its bytes. */
export interface StreamAbout {
  /** Of the worker that makes it. */
  readonly owner: string;
  readonly format: ResponseFormat;
  readonly include: readonly Include[];
  readonly requestId: string;
  readonly model: string;
}

/** A turn of a stream. */
export interface Said {
  /** The position in front of it. */
  readonly start: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly end: boolean;
  /** How it ended, if not as it should. */
  readonly failure: StreamFailure | undefined;
}

const PREFIX = "streaming-daemon:";

/** The key of a stream or a worker, by its id or name. */
export const aboutKey = (id: string): string => `${PREFIX}{${id}}:about`;
/** See {@linkcode aboutKey}. */
export const eventsKey = (id: string): string => `${PREFIX}{${id}}:events`;
/** See {@linkcode aboutKey}. */
export const leaseKey = (worker: string): string => `${PREFIX}worker:${worker}`;
/** See {@linkcode aboutKey}. */
export const askedKey = (worker: string): string => `${PREFIX}asked:${worker}`;

/** The stream whose events a key has. */
export function streamOf(key: string): string | undefined {
  return /\{(.*)\}:events$/.exec(key)?.[1];
}

/** The id in front of all entries. */
export const NO_ENTRY = "0-0";

/** The command that adds what was said to a stream's events, with a mark if it is the last. */
export function addCommand(id: string, { start, bytes, end, failure }: Said): Argument[] {
  const entry = `${start + bytes.length}-0`;
  return ["XADD", eventsKey(id), entry, "b", Buffer.from(bytes), ...(end ? ["e", failure ?? ""] : [])];
}

/** An entry of a stream's events. */
export function parseEntry(entry: Reply): { id: string; said: Said } {
  const [id, fields] = entry as [Buffer, readonly Buffer[]];
  const bytes = new Uint8Array(fields[1] as Buffer);
  const position = Number(String(id).split("-")[0]);
  const failure = STREAM_FAILURES.find((each) => each === String(fields[3]));
  return { id: String(id), said: { start: position - bytes.length, bytes, end: fields.length > 2, failure } };
}

/** What a stream's `about` says; `undefined` if there is none that can be read. */
export function parseAbout(json: Buffer | null): StreamAbout | undefined {
  if (json === null) return undefined;
  try {
    const { owner, format, include, requestId, model } = JSON.parse(String(json)) as Record<string, unknown>;
    return {
      owner: String(owner),
      format: RESPONSE_FORMATS.find((each) => each === format) ?? "content",
      include: INCLUDES.filter((each) => Array.isArray(include) && include.includes(each)),
      requestId: String(requestId),
      model: String(model),
    };
  } catch {
    return undefined; // not ours: as if there were none
  }
}

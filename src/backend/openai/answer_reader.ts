/**
 * What an OpenAI-style provider streams, as the daemon's events. Pure: bytes in, events out.
 * @module
 */

import { forgetOldest } from "../../upstream/forget_oldest.ts";
import { errorWords, EventReader, isCount } from "../http/event_reader.ts";
import { TextTemplate } from "../http/text_template.ts";

/** Indexes whose calls are remembered: those that came last. */
const MAX_CALLS = 1_000;
/** Chunks that say nothing yet: Azure's filter, and the role. */
const MAX_HELD = 4;

interface Annotation {
  readonly url_citation?: { readonly url?: unknown; readonly title?: unknown } | null;
}

/** The fields that are looked at, any of which may be missing, null or of another type. */
interface Chunk {
  readonly error?: unknown;
  readonly object?: unknown;
  readonly message?: unknown;
  readonly usage?: { readonly prompt_tokens?: unknown; readonly completion_tokens?: unknown } | null;
  readonly choices?: readonly (Choice | null)[] | null;
}
interface Choice {
  readonly index?: unknown;
  readonly finish_reason?: unknown;
  readonly delta?: Delta | null;
}
interface Delta {
  readonly content?: unknown;
  readonly refusal?: unknown;
  /** DeepSeek, vLLM, llama.cpp. */
  readonly reasoning_content?: unknown;
  /** OpenRouter, Groq. */
  readonly reasoning?: unknown;
  readonly tool_calls?: unknown;
  readonly annotations?: unknown;
}
/** Of content in parts, as Mistral's reasoning models have it. */
interface Part {
  readonly type?: unknown;
  readonly text?: unknown;
  readonly refusal?: unknown;
  readonly thinking?: unknown;
}
interface ToolCall {
  readonly index?: unknown;
  readonly id?: unknown;
  readonly function?: { readonly name?: unknown; readonly arguments?: unknown } | null;
  /** Of a tool that takes text, in the place of `function`. */
  readonly custom?: { readonly name?: unknown; readonly input?: unknown } | null;
}

/** Reads one answer. */
export class AnswerReader extends EventReader {
  readonly #template = new TextTemplate();
  /** The present call of each index: its number in the answer, and its id once it has come. */
  readonly #calls = new Map<number, { readonly number: number; id: string }>();
  /** No call has this number, nor one above it. */
  #nextCall = 0;
  /** The first chunks, until one says something: so long another provider can still be asked. Null from then on. */
  #held: string[] | null = [];

  /**
   * The body has ended, as it should. Some servers leave out the blank line after their end mark, some the mark: an answer
   * that has its finish reason is whole without.
   */
  end(): void {
    if (this.over) return;
    if (this.finished || this.unfinished()?.trim() === "[DONE]") this.#complete();
    else this.fail("truncated", "the stream ended before [DONE] and any finish reason");
  }

  sse(data: string, event: string): void {
    const plain = event === "" ? this.#template.match(data) : null;
    if (plain !== null) return this.wanted.chunks ? this.#passOn(data) : this.text(plain);
    if (data.startsWith("[DONE]")) return this.#complete();
    if (data === "") return;
    const chunk: Chunk | null = this.parse(data);
    if (chunk === null) return;
    if (chunk.error || event === "error" || chunk.object === "error") {
      return this.fail("stream_error", `the provider reports: ${errorWords(chunk.error ?? chunk, data)}`);
    }
    const choice = Array.isArray(chunk.choices) ? chunk.choices[0] : null;
    if (this.wanted.chunks && (choice || !chunk.usage || this.wanted.counts)) {
      if (this.#held !== null && this.#held.length < MAX_HELD && !chunk.usage && saysNothing(choice)) {
        this.#held.push(data);
      } else this.#passOn(data);
    }
    // Only one choice is asked for; another's words would be mixed into it.
    if (choice && (choice.index ?? 0) === 0) {
      const { delta, finish_reason: reason } = choice;
      let further = false;
      if (delta && !this.wanted.chunks) {
        further = this.reasoning(delta.reasoning_content || delta.reasoning);
        if (Array.isArray(delta.content)) { for (const part of delta.content) this.#part(part); }
        else this.text(delta.content);
        this.text(delta.refusal);
        if (this.wanted.toolCalls) further = this.#toolCalls(delta.tool_calls) || further;
        if (this.wanted.sources) further = this.#citations(delta.annotations) || further;
      }
      if (typeof reason === "string" && reason !== "") {
        this.finish(reason);
      } else if (
        typeof delta?.content === "string" && delta.content !== "" && !delta.refusal && !chunk.usage &&
        !further
      ) {
        this.#template.learn(data, delta.content, contentOf);
      }
    }
    if (chunk.usage) {
      // Some servers send a running count with every chunk: the last one holds.
      this.counted(chunk.usage.prompt_tokens, chunk.usage.completion_tokens);
    }
  }

  #part(part: Part | null): void {
    switch (part?.type) {
      case "text":
        return this.text(part.text);
      case "refusal":
        return this.text(part.refusal);
      case "thinking": {
        const texts: readonly (Part | null)[] = Array.isArray(part.thinking) ? part.thinking : [];
        for (const each of texts) this.reasoning(each?.text);
      }
    }
  }

  #toolCalls(calls: unknown): boolean {
    if (!Array.isArray(calls)) return false;
    for (const call of calls as readonly (ToolCall | null)[]) {
      if (typeof call !== "object" || call === null) continue;
      this.#toolCall(call);
    }
    return calls.length > 0;
  }

  /**
   * Servers that call one tool after the other leave the index out or give each call the same (Ollama, vLLM): a call is
   * another one where it has a name and an id of its own. An id alone says nothing: some have another in each piece.
   */
  #toolCall({ index: given, id, function: called, custom }: ToolCall): void {
    const name = (custom ?? called)?.name;
    const index = isCount(given) ? given : 0;
    const ownId = typeof id === "string" ? id : "";
    let call = this.#calls.get(index);
    const another = ownId !== "" && call?.id !== "" && ownId !== call?.id;
    if (call === undefined || another && name) {
      call = { number: Math.max(index, this.#nextCall), id: ownId };
      this.#nextCall = call.number + 1;
      this.#calls.set(index, call);
      forgetOldest(this.#calls, MAX_CALLS);
    } else if (call.id === "") call.id = ownId;
    const piece = custom ? custom.input : called?.arguments;
    this.toolCall(call.number, call.id === ownId ? id : undefined, name, piece, Boolean(custom));
  }

  #citations(annotations: unknown): boolean {
    if (!Array.isArray(annotations)) return false;
    for (const annotation of annotations as readonly (Annotation | null)[]) {
      this.source(annotation?.url_citation?.url, annotation?.url_citation?.title);
    }
    return annotations.length > 0;
  }

  #passOn(data: string): void {
    this.#begin();
    this.listener.event({ kind: "chunk", data });
  }

  #begin(): void {
    if (this.#held === null) return;
    for (const data of this.#held) this.listener.event({ kind: "chunk", data });
    this.#held = null;
  }

  #complete(): void {
    this.#begin();
    this.done();
  }
}

function saysNothing(choice: Choice | null | undefined): boolean {
  if (!choice) return true;
  return !choice.finish_reason &&
    Object.entries(choice.delta ?? {}).every(([name, value]) =>
      name === "role" || value === null || value === "" || Array.isArray(value) && value.length === 0
    );
}

const contentOf = (chunk: unknown): unknown => (chunk as Chunk).choices?.[0]?.delta?.content;

/**
 * A language model of 0.2 MB that says the same each time, as a GGUF file for llama.cpp: its weights let each token
 * follow from the one before, and from nothing else.
 *
 * It says `word0 ` to `word4 ` and stops; where the conversation holds "on and on", it says `again ` without end.
 * The format: docs/gguf.md of ggml, version 3.
 * @module
 */
import { randomInts } from "./random.ts";

const WIDTH = 64;
const ALIGN_BYTES = 32;
/** Types of metadata and of tensors. */
const [UINT32, INT32, FLOAT32, STRING, ARRAY] = [4, 5, 6, 8, 9];
const F32 = 0;
/** Types of tokens. */
const [NORMAL, UNKNOWN, CONTROL, BYTE] = [1, 2, 3, 6];

const BYTES = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).padStart(2, "0").toUpperCase()}>`);
const WORDS = ["word0▁", "word1▁", "word2▁", "word3▁", "word4▁"];
const TOKENS = ["<unk>", "<s>", "</s>", ...BYTES, "<|words|>", "<|again|>", ...WORDS, "again▁"];
const TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}" +
  "{% if 'on and on' in messages[-1].content %}<|again|>{% else %}<|words|>{% endif %}";

/** What follows what. */
const FOLLOWS: readonly (readonly [string, string])[] = [
  ...["<|words|>", ...WORDS].map((token, i) => [token, WORDS[i] ?? "</s>"] as const),
  ["<|again|>", "again▁"],
  ["again▁", "again▁"],
];

/** Bytes, little end first. */
class Writer {
  #bytes = new Uint8Array(1 << 20);
  #view = new DataView(this.#bytes.buffer);
  #at = 0;

  u32(value: number): this {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
    return this;
  }

  u64(value: number): this {
    return this.u32(value).u32(0);
  }

  f32(value: number): this {
    this.#view.setFloat32(this.#at, value, true);
    this.#at += 4;
    return this;
  }

  string(value: string): this {
    const { length } = new TextEncoder().encode(value);
    this.u64(length);
    new TextEncoder().encodeInto(value, this.#bytes.subarray(this.#at));
    this.#at += length;
    return this;
  }

  align(): this {
    this.#at = Math.ceil(this.#at / ALIGN_BYTES) * ALIGN_BYTES;
    return this;
  }

  done(): Uint8Array {
    return this.#bytes.slice(0, this.#at);
  }
}

/** @param contextLength tokens that a conversation may have, the answer included */
export function tinyGguf(contextLength: number): Uint8Array {
  const numbers: Readonly<Record<string, number>> = {
    "llama.context_length": contextLength,
    "llama.embedding_length": WIDTH,
    "llama.block_count": 1,
    "llama.feed_forward_length": WIDTH,
    "llama.attention.head_count": 2,
    "llama.attention.head_count_kv": 2,
    "llama.rope.dimension_count": WIDTH / 2,
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
    "tokenizer.ggml.unknown_token_id": 0,
  };
  const strings = {
    "general.architecture": "llama",
    "tokenizer.ggml.model": "llama",
    "tokenizer.chat_template": TEMPLATE,
  };
  const tensors = weights();
  const count = Object.keys(numbers).length + Object.keys(strings).length + 4;
  const out = new Writer().u32(0x46554747).u32(3).u64(tensors.length).u64(count);
  for (const [name, value] of Object.entries(strings)) out.string(name).u32(STRING).string(value);
  for (const [name, value] of Object.entries(numbers)) out.string(name).u32(UINT32).u32(value);
  out.string("llama.attention.layer_norm_rms_epsilon").u32(FLOAT32).f32(1e-5);
  const array = (name: string, type: number): Writer =>
    out.string(`tokenizer.ggml.${name}`).u32(ARRAY).u32(type).u64(TOKENS.length);
  array("tokens", STRING);
  for (const token of TOKENS) out.string(token);
  array("scores", FLOAT32);
  for (const _ of TOKENS) out.f32(0);
  array("token_type", INT32);
  for (const token of TOKENS) out.u32(typeOf(token));
  let at = 0;
  for (const { name, shape, values } of tensors) {
    out.string(name).u32(shape.length);
    for (const size of shape) out.u64(size);
    out.u32(F32).u64(at);
    at += Math.ceil(values.byteLength / ALIGN_BYTES) * ALIGN_BYTES;
  }
  for (const { values } of tensors) {
    out.align();
    for (const value of values) out.f32(value);
  }
  return out.done();
}

function typeOf(token: string): number {
  if (token === "<unk>") return UNKNOWN;
  if (BYTES.includes(token)) return BYTE;
  return token.startsWith("<") ? CONTROL : NORMAL;
}

interface Tensor {
  readonly name: string;
  /** The fastest first. */
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** Its one layer adds nothing, so that a token's own vector is what the next one is chosen by. */
function weights(): Tensor[] {
  const random = randomInts(1);
  const vectors = TOKENS.map(() => Float32Array.from({ length: WIDTH }, () => random(2) * 2 - 1));
  const output = new Float32Array(TOKENS.length * WIDTH);
  for (const [token, next] of FOLLOWS) {
    const vector = vectors[TOKENS.indexOf(token)] ?? [];
    const row = TOKENS.indexOf(next) * WIDTH;
    vector.forEach((value, i) => output[row + i] = (output[row + i] ?? 0) + value);
  }
  const square = [WIDTH, WIDTH];
  const nothing = new Float32Array(WIDTH * WIDTH);
  const ones = new Float32Array(WIDTH).fill(1);
  const embedding = Float32Array.from(vectors.flatMap((vector) => [...vector]));
  return [
    { name: "token_embd.weight", shape: [WIDTH, TOKENS.length], values: embedding },
    { name: "output.weight", shape: [WIDTH, TOKENS.length], values: output },
    ...["output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"].map((name) => (
      { name: `${name}.weight`, shape: [WIDTH], values: ones }
    )),
    ...["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"].map((name) => (
      { name: `blk.0.${name}.weight`, shape: square, values: nothing }
    )),
  ];
}

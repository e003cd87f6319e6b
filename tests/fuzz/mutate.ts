/** Mutations of bytes, repeatable by the seed of their random numbers. */

type Random = (below: number) => number;

/** Bytes that parsers tend to treat in a way of their own. */
const INTERESTING = [0, 1, 9, 10, 13, 32, 44, 58, 59, 127, 128, 255];
const MAX_BYTES = 4_096;

/** @returns one of the corpus, changed in one to five places */
export function mutant(corpus: readonly Uint8Array[], random: Random): Uint8Array {
  let bytes: Uint8Array = pick(corpus, random).slice();
  for (let left = 1 + random(5); left > 0; left--) bytes = changed(bytes, corpus, random);
  return bytes.subarray(0, MAX_BYTES);
}

function pick(corpus: readonly Uint8Array[], random: Random): Uint8Array {
  return corpus[random(corpus.length)] ?? new Uint8Array(0);
}

function changed(bytes: Uint8Array, corpus: readonly Uint8Array[], random: Random): Uint8Array {
  const at = random(bytes.length + 1);
  const end = Math.min(bytes.length, at + 1 + random(random(4) === 0 ? 64 : 4));
  switch (random(7)) {
    case 0:
      if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
      return bytes;
    case 1:
      if (at < bytes.length) bytes[at] = random(256);
      return bytes;
    case 2:
      if (at < bytes.length) bytes[at] = INTERESTING[random(INTERESTING.length)] ?? 0;
      return bytes;
    case 3:
      return joined(bytes.subarray(0, at), bytes.subarray(end));
    case 4:
      return joined(bytes.subarray(0, end), bytes.subarray(at));
    case 5: {
      const other = pick(corpus, random);
      const from = random(other.length + 1);
      return joined(bytes.subarray(0, at), other.subarray(from, from + random(128)), bytes.subarray(at));
    }
    default:
      return bytes.slice(0, at);
  }
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

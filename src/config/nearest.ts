/**
 * What somebody may have meant. Pure.
 * @module
 */

/** The candidate at the least distance; of several the first. There must be one. */
export function nearest<const Candidate>(
  candidates: readonly Candidate[],
  distance: (candidate: Candidate) => number,
): Candidate {
  return candidates.reduce((best, candidate) => distance(candidate) < distance(best) ? candidate : best);
}

/**
 * How unlike two names of words with `_` between are, the first being what somebody wrote: by characters, by words in
 * any order (`base_url`, where it is `api_base`), or by how the second begins (`socket`, where it is `socket_path`).
 */
export function nameDistance(written: string, known: string): number {
  const [words, others] = [new Set(written.split("_")), new Set(known.split("_"))];
  return Math.min(
    editDistance(written, known),
    words.isDisjointFrom(others) ? Infinity : 2 * words.symmetricDifference(others).size,
    known.startsWith(written) ? 2 : Infinity,
  );
}

/** Levenshtein's distance: how many characters to insert, delete or replace. */
export function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 0; i < a.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++) {
      const replaced = (row[j] ?? 0) + (a[i] === b[j] ? 0 : 1);
      next.push(Math.min(replaced, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

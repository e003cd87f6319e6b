/** Random numbers that a seed repeats, for property tests. */

/** @returns a function that gives whole numbers from 0 to `below`, without it (mulberry32) */
export function randomInts(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 4_294_967_296) * below);
  };
}

/** @returns the bytes in pieces of random lengths, some of them empty */
export function randomCuts(bytes: Uint8Array, random: (below: number) => number): Uint8Array[] {
  const longest = 1 + random(random(4) === 0 ? bytes.length : 8);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + random(longest + 1));
    // A copy, as the reader's buffer is another each time.
    pieces.push(bytes.slice(at, end));
    at = end;
  }
  return pieces;
}

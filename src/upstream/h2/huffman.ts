/**
 * HPACK's Huffman code (RFC 7541, section 5.2 and appendix B), four bits at a time. Pure.
 * @module
 */

/**
 * RFC 7541, appendix B: how many bits the code of each byte has, as base-36 digits from byte 0 on. The code is
 * canonical (shorter first, then by byte), so the lengths say it all; EOS is the one with 30 ones.
 */
const CODE_LENGTHS =
  "dnsssssssoussussssssssusssssssss6aacd68baa8b8666555666666678f6cad67777777777777777777777878djde6f" +
  "56565666577666567655677777fbedskmkkmmmnmnnnnnonoomnonnnnlmnmnnomlkmmnnlnmmolmnnllmlnmnnkmmmnmmnqq" +
  "kjmnmpqqqrrqopjlqrrqrollqqsrrrkoklmllnmmppooqnqrqqrrrrrsrrrrrq";

const EOS = 256;
const STEP_BITS = 4;
/** Longest padding of a string. */
const MAX_PADDING_BITS = 7;

/** In {@linkcode STEPS}: the next node is in the low byte; these and a symbol's byte from bit 16 on are above. */
const EMITS = 0x100;
const FAILS = 0x200;

/** `2 * node + bit` → the next node if positive, `~byte` (or `~EOS`) if negative. */
function codeTree(): number[] {
  const tree: number[] = [0, 0];
  const place = (code: number, bits: number, leaf: number): void => {
    let node = 0;
    for (let bit = bits - 1; bit >= 0; bit--) {
      const at = 2 * node + ((code >>> bit) & 1);
      if (bit === 0) tree[at] = ~leaf;
      else {
        if (tree[at] === 0) tree[at] = tree.push(0, 0) / 2 - 1;
        node = tree[at] ?? 0;
      }
    }
  };
  let code = 0;
  for (let bits = 5; bits <= 30; bits++) {
    for (let byte = 0; byte < 256; byte++) {
      if (parseInt(CODE_LENGTHS.charAt(byte), 36) === bits) place(code++, bits, byte);
    }
    if (bits === 30) place(code, bits, EOS);
    code <<= 1;
  }
  return tree;
}

const TREE = codeTree();
const NODES = TREE.length / 2;

/** `16 * node + four bits` → where they lead; no code is so short that they hold two. */
const STEPS = Uint32Array.from({ length: NODES << STEP_BITS }, (_, at) => stepOf(at >>> STEP_BITS, at & 0xf));

function stepOf(from: number, bits: number): number {
  let node = from;
  let step = 0;
  for (let bit = STEP_BITS - 1; bit >= 0; bit--) {
    const next = TREE[2 * node + ((bits >>> bit) & 1)] ?? 0;
    if (next > 0) node = next;
    else if (~next === EOS) return FAILS;
    else {
      step = EMITS | (~next << 16);
      node = 0;
    }
  }
  return step | node;
}

/** Where a string may end: at the root, or up to seven ones below. */
const ENDS = endNodes();

function endNodes(): Uint8Array {
  const ends = new Uint8Array(NODES);
  for (let node = 0, bits = 0; bits <= MAX_PADDING_BITS; bits++, node = TREE[2 * node + 1] ?? 0) {
    ends[node] = 1;
  }
  return ends;
}

/** @returns how many bytes {@linkcode huffmanDecode} needs at most */
export const decodedBytes = (encodedBytes: number): number => Math.floor((8 * encodedBytes) / 5);

/**
 * Decodes `bytes` from `start` to `end` into `out`.
 *
 * @returns how many bytes came out, or -1 if it is no string of this code
 */
export function huffmanDecode(bytes: Uint8Array, start: number, end: number, out: Uint8Array): number {
  let node = 0;
  let length = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    let step = STEPS[(node << STEP_BITS) | (byte >>> STEP_BITS)] as number;
    if ((step & FAILS) !== 0) return -1;
    if ((step & EMITS) !== 0) out[length++] = step >>> 16;
    step = STEPS[((step & 0xff) << STEP_BITS) | (byte & 0xf)] as number;
    if ((step & FAILS) !== 0) return -1;
    if ((step & EMITS) !== 0) out[length++] = step >>> 16;
    node = step & 0xff;
  }
  return ENDS[node] === 1 ? length : -1;
}

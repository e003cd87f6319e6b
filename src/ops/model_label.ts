/**
 * The models that metrics tell apart. Pure.
 * @module
 */

/**
 * A requested model as a label. The request's own word would let whoever hands over make as many series as he likes.
 *
 * @param known those that have series of their own; all others are `other`
 */
export function modelLabel(requested: string, known: readonly string[]): string {
  return known.includes(requested) ? requested : "other";
}

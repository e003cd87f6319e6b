/**
 * Whether a series of measurements rises. Pure.
 * @module
 */

/** The slope of a fitted line, and its standard error, in units of y per unit of x. */
export interface Slope {
  readonly value: number;
  readonly error: number;
}

/**
 * Fits a line by least squares. The error takes the points for independent.
 *
 * @throws {RangeError} for fewer than three points
 */
export function slope(points: readonly (readonly [x: number, y: number])[]): Slope {
  const count = points.length;
  if (count < 3) throw new RangeError(`${count} points: expected three or more`);
  const mean = (of: 0 | 1) => points.reduce((sum, point) => sum + point[of], 0) / count;
  const [meanX, meanY] = [mean(0), mean(1)];
  let squares = 0;
  let products = 0;
  for (const [x, y] of points) {
    squares += (x - meanX) ** 2;
    products += (x - meanX) * (y - meanY);
  }
  const value = products / squares;
  const rest = points.reduce((sum, [x, y]) => sum + (y - meanY - value * (x - meanX)) ** 2, 0);
  return { value, error: Math.sqrt(rest / (count - 2) / squares) };
}

/**
 * The largest of many numbers without sorting them.
 * @module
 */

/** What tells the `count` numbers of largest magnitude from the others. */
export interface MagnitudeCut {
  /** Magnitudes above this are among them. */
  readonly threshold: number;
  /** How many whose magnitude equals the threshold are, too: any of those. */
  readonly ties: number;
}

const LOW_BITS = 16;
/** Patterns of infinity and of what is not a number start here. */
const NOT_FINITE = 0x7f80;

/**
 * Finds the cut in two passes: magnitudes of floats sort as their bits do, so a histogram over the upper half of the
 * bits names the bin of the threshold and one over the lower half the threshold itself.
 *
 * @param count at least 1, at most the number of values
 * @throws RangeError if a value is not finite.
 */
export function largestMagnitudes(values: Float32Array, count: number): MagnitudeCut {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const upper = new Uint32Array(1 << 15);
  for (let i = 0; i < bits.length; i++) upper[(bits[i] & 0x7fffffff) >>> LOW_BITS]++;
  if (upper.subarray(NOT_FINITE).some((hits) => hits > 0))
    throw new RangeError('a weight is not a finite number: it cannot be compressed');
  const [high, above] = descend(upper, count);
  const lower = new Uint32Array(1 << LOW_BITS);
  for (let i = 0; i < bits.length; i++)
    if ((bits[i] & 0x7fffffff) >>> LOW_BITS === high) lower[bits[i] & 0xffff]++;
  const [low, aboveInBin] = descend(lower, count - above);
  const threshold = new Float32Array(Uint32Array.of((high << LOW_BITS) | low).buffer)[0];
  return { threshold, ties: count - above - aboveInBin };
}

/** From the top, the bin in which the `count`-th number lies, and how many numbers lie above that bin. */
function descend(histogram: Uint32Array, count: number): [bin: number, above: number] {
  let bin = histogram.length - 1;
  let above = 0;
  while (above + histogram[bin] < count) above += histogram[bin--];
  return [bin, above];
}

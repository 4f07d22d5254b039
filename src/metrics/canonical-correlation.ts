/**
 * Canonical correlation: how well the best linear views of two sets of vectors follow each other.
 * @module
 */
import { symmetricEigen } from './symmetric-eigen.js';

/** Directions whose variance is below this part of the largest carry no information. */
const RANK_TOLERANCE = 1e-7;

/**
 * Canonical correlations of two series of vectors over the same tokens, in descending order, each in [0, 1].
 *
 * Probability vectors sum to 1, so their covariance is singular: directions without variance are left out. There are as
 * many correlations as the smaller side has directions with variance; none when a side is constant.
 *
 * @param x `[tokens, sizeX]` row by row
 * @param y `[tokens, sizeY]`
 * @throws RangeError if the two sides have different numbers of tokens.
 */
export function canonicalCorrelations(
  x: ArrayLike<number>,
  sizeX: number,
  y: ArrayLike<number>,
  sizeY: number,
): number[] {
  const tokens = x.length / sizeX;
  if (tokens !== y.length / sizeY)
    throw new RangeError(`two series over the same tokens have ${tokens} and ${y.length / sizeY} vectors`);
  if (tokens < 2) return [];
  const [a, b] = [centered(x, sizeX), centered(y, sizeY)];
  const [whitenA, whitenB] = [
    whitening(covariance(a, sizeX, a, sizeX)),
    whitening(covariance(b, sizeY, b, sizeY)),
  ];
  if (whitenA.length === 0 || whitenB.length === 0) return [];
  const cross = covariance(a, sizeX, b, sizeY);
  // K = W_a C_ab W_bᵀ; its singular values are the roots of the eigenvalues of K Kᵀ.
  const columns = whitenB.map((right) => cross.map((row) => dot(row, right)));
  const k = whitenA.map((left) => columns.map((column) => dot(left, column)));
  const short = k.length <= whitenB.length ? k : whitenB.map((_, j) => k.map((row) => row[j]));
  const square = Float64Array.from(short.flatMap((row) => short.map((other) => dot(row, other))));
  const { values } = symmetricEigen(square, short.length);
  return Array.from(values, (value) => Math.min(1, Math.sqrt(Math.max(0, value))));
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

function centered(x: ArrayLike<number>, size: number): Float64Array {
  const means = new Float64Array(size);
  for (let i = 0; i < x.length; i++) means[i % size] += (x[i] * size) / x.length;
  return Float64Array.from({ length: x.length }, (_, i) => x[i] - means[i % size]);
}

function covariance(a: Float64Array, sizeA: number, b: Float64Array, sizeB: number): number[][] {
  const tokens = a.length / sizeA;
  const sums = Array.from({ length: sizeA }, () => new Float64Array(sizeB));
  for (let t = 0; t < tokens; t++) {
    for (let i = 0; i < sizeA; i++) {
      const left = a[t * sizeA + i];
      const row = sums[i];
      for (let j = 0; j < sizeB; j++) row[j] += left * b[t * sizeB + j];
    }
  }
  return sums.map((row) => Array.from(row, (sum) => sum / (tokens - 1)));
}

/** Rows `vᵢ / √λᵢ` of the directions that have variance. */
function whitening(matrix: readonly (readonly number[])[]): number[][] {
  const size = matrix.length;
  const { values, vectors } = symmetricEigen(Float64Array.from(matrix.flat()), size);
  return [...values].flatMap((value, i) =>
    value > RANK_TOLERANCE * values[0] && value > 1e-14
      ? [Array.from(vectors.subarray(i * size, (i + 1) * size), (entry) => entry / Math.sqrt(value))]
      : [],
  );
}

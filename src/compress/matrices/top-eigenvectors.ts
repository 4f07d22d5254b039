/**
 * The eigenvectors of the largest eigenvalues of a symmetric matrix, by matrix products.
 * @module
 */
import { add, input, matmul, multiply } from '../../graph/index.js';
import { symmetricEigen } from '../../metrics/index.js';
import { fillNormal, streamKey } from '../../nn/index.js';
import { largestSumBound, type RitzPairs } from './eigen-bound.js';
import { innerProducts, orthonormalize, timesSquare } from './orthonormalize.js';
import type { Products } from './products.js';

/** More vectors than are wanted, as a part of them and at least so many: they bear the slow convergence at the edge. */
const GUARD_SHARE = 0.25;
const LEAST_GUARDS = 8;

/** How much larger the first vector may grow than the last in one filter before float32 loses the last. */
const LARGEST_GROWTH = 1e4;
const HIGHEST_DEGREE = 8;

const MAX_ROUNDS = 12;

/** Plain powers before the first filter, which must know roughly where the eigenvalues that are wanted end. */
const FIRST_POWERS = 3;

/** Eigenvalues below this part of the largest are rounding errors of the matrix. */
const NOISE = 1e-6;

/** A basis of what is wanted, and the bound that ended the search. */
export interface TopEigenvectors {
  /** `[size, rank]`: orthonormal columns. */
  readonly vectors: Float32Array;
  /** The sum of the `rank` largest eigenvalues is at most this (with probability 1 − 2·10⁻¹⁰). */
  readonly sumBound: number;
}

/**
 * Chebyshev-filtered subspace iteration (Zhou, Saad, Tiago & Chelikowsky 2006): a block of random vectors, a polynomial
 * of the matrix that is small on the eigenvalues that are not wanted, Rayleigh–Ritz, and again, until the sum of the
 * eigenvalues found is near enough to its bound. A flat spectrum, as residuals have, needs a polynomial where plain
 * powers would take dozens of passes.
 *
 * @param matrix `[size, size]`, symmetric without negative eigenvalues
 * @param tolerance how far the bound may be from the sum that was found
 */
export async function topEigenvectors(
  products: Products,
  matrix: Float32Array,
  size: number,
  rank: number,
  tolerance: (sum: number) => number,
  seed: number,
): Promise<TopEigenvectors> {
  const guards = Math.max(LEAST_GUARDS, Math.ceil(GUARD_SHARE * rank));
  const count = Math.min(size, rank + guards);
  if (count === size) return allEigenvectors(matrix, size, rank);
  let block = new Float32Array(size * count) as Float32Array;
  fillNormal(seed, block);
  for (let power = 0; power < FIRST_POWERS; power++) {
    block = await orthonormalize(products, block, size, count);
    block = await step(products, matrix, size, count, { now: block, before: block, factors: [1, 0, 0] });
  }
  for (let round = 1; ; round++) {
    const pairs = await rayleighRitz(products, matrix, size, count, block);
    const { values, vectors } = pairs;
    const sum = values.subarray(0, rank).reduce((total, value) => total + value, 0);
    const exhausted = values[count - 1] <= NOISE * values[0];
    const bound = exhausted
      ? sum
      : await largestSumBound(
          products,
          matrix,
          pairs,
          rank,
          round === MAX_ROUNDS ? Infinity : tolerance(sum),
          streamKey(seed, round),
        );
    if (exhausted || bound - sum <= tolerance(sum) || round === MAX_ROUNDS)
      return { vectors: firstColumns(vectors, count, rank), sumBound: Math.max(sum, bound) };
    block = await filter(products, matrix, pairs);
  }
}

/** All of a small matrix. */
function allEigenvectors(matrix: Float32Array, size: number, rank: number): TopEigenvectors {
  const { values, vectors } = symmetricEigen(Float64Array.from(matrix), size);
  const columns = new Float32Array(size * rank);
  for (let i = 0; i < rank; i++) for (let j = 0; j < size; j++) columns[j * rank + i] = vectors[i * size + j];
  return { vectors: columns, sumBound: values.subarray(0, rank).reduce((total, value) => total + value, 0) };
}

/** The best eigenpairs in the space of a block. */
async function rayleighRitz(
  products: Products,
  matrix: Float32Array,
  size: number,
  count: number,
  block: Float32Array,
): Promise<RitzPairs> {
  const basis = await orthonormalize(products, block, size, count);
  const image = await step(products, matrix, size, count, { now: basis, before: basis, factors: [1, 0, 0] });
  const { values, vectors: rows } = symmetricEigen(
    await innerProducts(products, basis, image, size, count),
    count,
  );
  const rotation = new Float64Array(count * count);
  for (let i = 0; i < count; i++)
    for (let j = 0; j < count; j++) rotation[j * count + i] = rows[i * count + j];
  const vectors = await timesSquare(products, basis, rotation, size, count);
  const residuals = await timesSquare(products, image, rotation, size, count);
  for (let i = 0; i < residuals.length; i++) residuals[i] -= values[i % count] * vectors[i];
  return { size, count, values, vectors, residuals };
}

/**
 * The Chebyshev polynomial of the matrix that stays within ±1 up to the smallest Ritz value and grows beyond it, scaled
 * such that the first vector keeps its length.
 */
async function filter(
  products: Products,
  matrix: Float32Array,
  { size, count, values, vectors }: RitzPairs,
): Promise<Float32Array> {
  const half = values[count - 1] / 2;
  const largest = values[0] / half - 1;
  const growth = (degree: number): number => Math.cosh(degree * Math.acosh(largest));
  let degree = HIGHEST_DEGREE;
  while (degree > 1 && growth(degree) > LARGEST_GROWTH) degree--;
  let sigma = 1 / largest;
  let before = vectors;
  let now = await step(products, matrix, size, count, {
    now: vectors,
    before: vectors,
    factors: [sigma / half, -sigma, 0],
  });
  for (let k = 2; k <= degree; k++) {
    const next = 1 / (2 * largest - sigma);
    const factors = [(2 * next) / half, -2 * next, -sigma * next] as const;
    [before, now] = [now, await step(products, matrix, size, count, { now, before, factors })];
    sigma = next;
  }
  return now;
}

/** A step of a three-term recursion: `factors[0] · A now + factors[1] · now + factors[2] · before`. */
async function step(
  products: Products,
  matrix: Float32Array,
  size: number,
  count: number,
  { now, before, factors }: { now: Float32Array; before: Float32Array; factors: readonly number[] },
): Promise<Float32Array> {
  const make = () => {
    const a = input('a', 'float32', [size, size]);
    const [x, y] = ['now', 'before'].map((name) => input(name, 'float32', [size, count]));
    const [f, g, h] = ['f', 'g', 'h'].map((name) => input(name, 'float32', []));
    return add(multiply(f, matmul(a, x)), add(multiply(g, x), multiply(h, y)));
  };
  const [f, g, h] = factors.map((factor) => Float32Array.of(factor));
  return products.run(`step ${size} ${count}`, make, { a: matrix, now, before, f, g, h });
}

function firstColumns(matrix: Float32Array, columns: number, kept: number): Float32Array {
  const rows = matrix.length / columns;
  const part = new Float32Array(rows * kept);
  for (let row = 0; row < rows; row++)
    part.set(matrix.subarray(row * columns, row * columns + kept), row * kept);
  return part;
}

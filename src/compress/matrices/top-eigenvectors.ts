/**
 * The eigenvectors of the largest eigenvalues of a symmetric matrix, by matrix products.
 * @module
 */
import { add, input, matmul, multiply, subtract } from '../../graph/index.js';
import { symmetricEigen } from '../../metrics/index.js';
import { fillNormal, streamKey } from '../../nn/index.js';
import { columnNorms, largestSumBound, type RitzPairs } from './eigen-bound.js';
import { condition, innerProducts, orthonormalize, timesSquare } from './orthonormalize.js';
import type { Products } from './products.js';
import { estimateSpectrum } from './spectrum-estimate.js';

/** More vectors than are wanted, as a part of them and at least so many: they bear the slow convergence at the edge. */
const GUARD_SHARE = 0.1875;
const LEAST_GUARDS = 8;

/** How much larger the first vector may grow than the last in one filter before float32 loses the last. */
const LARGEST_GROWTH = 2e3;
const HIGHEST_DEGREE = 8;

/** How much the first filters let the last vector that is wanted grow against what is not wanted: then it is found. */
const FIRST_GROWTH = 500;
/** How many first filters there are at most: what is still missing is seen more cheaply from Ritz vectors. */
const FIRST_FILTERS = 8;

const MAX_ROUNDS = 20;

/**
 * A Ritz vector is found where its residual is at most this part of the smallest Ritz value, and far above that from here on:
 * trained experts have dozens of such, under which filters of a higher degree do in one round what takes three beside them.
 */
const FOUND = 0.2;
const FAR = 4;

/** Eigenvalues below this part of the largest are rounding errors of the matrix. */
const NOISE = 1e-6;

/** What float32 may lose of the sum of all eigenvalues. */
const ROUNDING = 4e-7;

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
  let block = await firstBlock(products, matrix, size, rank, count, seed);
  let trace = 0;
  for (let i = 0; i < size; i++) trace += matrix[i * size + i];
  for (let round = 1; ; round++) {
    const pairs = await rayleighRitz(products, matrix, size, count, block);
    const { values, vectors } = pairs;
    const wanted: RitzPairs = {
      ...{ size, count: rank, values: values.subarray(0, rank) },
      vectors: firstColumns(vectors, count, rank),
      residuals: firstColumns(pairs.residuals, count, rank),
    };
    const sum = wanted.values.reduce((total, value) => total + value, 0);
    // Of two blocks of a matrix without negative eigenvalues, each adds at most its own (Bourin & Lee 2012).
    const rest = Math.max(0, trace - values.reduce((total, value) => total + value, 0));
    const exhausted = rest <= Math.max(tolerance(sum), ROUNDING * trace);
    const bound = exhausted
      ? sum + rest
      : await largestSumBound(
          products,
          matrix,
          wanted,
          round === MAX_ROUNDS ? Infinity : tolerance(sum),
          streamKey(seed, round),
        );
    if (exhausted || bound - sum <= tolerance(sum) || round === MAX_ROUNDS)
      return { vectors: wanted.vectors, sumBound: Math.max(sum, Math.min(bound, sum + rest)) };
    block = await filterRitz(products, matrix, pairs);
  }
}

/**
 * Ritz vectors, filtered. Leading ones that are found and far above the rest are taken out of the matrix first: beside
 * them float32 would leave nothing of the others.
 */
async function filterRitz(
  products: Products,
  matrix: Float32Array,
  { size, count, values, vectors, residuals }: RitzPairs,
): Promise<Float32Array> {
  const norms = columnNorms(residuals, count);
  const edge = Math.max(values[count - 1], NOISE * values[0]);
  let found = 0;
  while (found < count - 1 && values[found] > FAR * edge && norms[found] <= FOUND * edge) found++;
  const make = () => {
    const a = input('a', 'float32', [size, size]);
    const [x, y] = ['x', 'y'].map((name) => input(name, 'float32', [size, count]));
    return subtract(a, matmul(x, y, { transposeB: true }));
  };
  const y = vectors.map((x, i) => (i % count < found ? x * values[i % count] : 0));
  const rest =
    found === 0 ? matrix : await products.run(`rest ${size} ${count}`, make, { a: matrix, x: vectors, y });
  const largest = values[found];
  const block = await filter(products, rest, vectors, {
    ...{ size, count, largest, edge },
    degree: degreeFor(largest, edge),
  });
  for (let i = 0; i < block.length; i++) if (i % count < found) block[i] = vectors[i];
  return block;
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

/** Random vectors, filtered as if the spectrum were what a few Lanczos runs make of it. */
async function firstBlock(
  products: Products,
  matrix: Float32Array,
  size: number,
  rank: number,
  count: number,
  seed: number,
): Promise<Float32Array> {
  const { largest, quantile } = await estimateSpectrum(products, matrix, size, streamKey(seed, 'spectrum'));
  let block = new Float32Array(size * count) as Float32Array;
  fillNormal(seed, block);
  const [wanted, edge] = [quantile(rank), quantile(count)];
  const power = (x: Float32Array) =>
    step(products, matrix, size, count, { now: x, before: x, factors: [1, 0, 0] });
  if (!(edge > NOISE * largest)) {
    // Of low rank: what the matrix makes of the block is all there is.
    block = await condition(products, await power(block), size, count);
    return power(block);
  }
  const needed = Math.acosh(FIRST_GROWTH) / Math.acosh(Math.max((2 * wanted) / edge - 1, 1 + 1e-3));
  let left = Math.min(FIRST_FILTERS * degreeFor(largest, edge), Math.ceil(needed));
  while (left > 0) {
    const degree = Math.min(left, degreeFor(largest, edge));
    block = await filter(products, matrix, block, { size, count, largest, edge, degree });
    left -= degree;
    if (left > 0) block = await condition(products, block, size, count);
  }
  return block;
}

/** The highest degree at which the first vector does not outgrow the last. */
function degreeFor(largest: number, edge: number): number {
  let degree = HIGHEST_DEGREE;
  while (degree > 1 && Math.cosh(degree * Math.acosh((2 * largest) / edge - 1)) > LARGEST_GROWTH) degree--;
  return degree;
}

/** The Chebyshev polynomial of the matrix that stays within ±1 up to `edge` and grows beyond it, 1 at `largest`. */
async function filter(
  products: Products,
  matrix: Float32Array,
  block: Float32Array,
  {
    size,
    count,
    largest,
    edge,
    degree,
  }: { size: number; count: number; largest: number; edge: number; degree: number },
): Promise<Float32Array> {
  const half = edge / 2;
  const end = largest / half - 1;
  let sigma = 1 / end;
  let before = block;
  let now = await step(products, matrix, size, count, {
    now: block,
    before: block,
    factors: [sigma / half, -sigma, 0],
  });
  for (let k = 2; k <= degree; k++) {
    const next = 1 / (2 * end - sigma);
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

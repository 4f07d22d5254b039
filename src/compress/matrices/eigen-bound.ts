/**
 * How much more the largest eigenvalues of a matrix may add up to than what was found: proof after the fact.
 * @module
 */
import { add, input, matmul, multiply, subtract } from '../../graph/index.js';
import { fillNormal } from '../../nn/index.js';
import { innerProducts } from './orthonormalize.js';
import type { Products } from './products.js';

/** Vectors that probe a matrix for its largest eigenvalue, and the degree of the polynomial applied to them. */
const PROBES = 16;
const DEGREE = 24;

/**
 * A direction has a squared share below this in a normal vector with probability 0.248, so in all sixteen with
 * probability 2·10⁻¹⁰: that is how often the bound is wrong.
 */
const LEAST_SHARE = 0.1;

/** Room for couplings beside the smallest eigenvalue that counts, as a part of it. */
const ROOM = 0.02;

/** Steps of the power method for the strength of the couplings: a guess serves. */
const STRENGTH_STEPS = 8;

/** Approximate eigenpairs of a symmetric matrix without negative eigenvalues. */
export interface RitzPairs {
  /** Rows and columns of the matrix. */
  readonly size: number;
  /** Number of pairs. */
  readonly count: number;
  /** `[count]`, descending: zᵀ A z. */
  readonly values: Float64Array;
  /** `[size, count]`: orthonormal columns z. */
  readonly vectors: Float32Array;
  /** `[size, count]`: A z − value · z. */
  readonly residuals: Float32Array;
}

/**
 * An upper bound of the sum of as many of the largest eigenvalues of A as there are pairs, true with probability 1 − 2·10⁻¹⁰.
 *
 * In the basis of the Ritz vectors Z and all that is orthogonal to them, A is `[[Θ, Rᵀ], [R, C]]`. For any positive
 * diagonal D that is at most `[[Θ + D, 0], [0, C + R D⁻¹ Rᵀ]]`, so the sum wanted is at most that of all
 * max(θ + d, ν), ν being the largest eigenvalue of the second block, which {@link largestBound} bounds. D is chosen such that `R D⁻¹ Rᵀ` is likely to stay within a small part of the smallest eigenvalue that counts; the bound
 * holds whether it does or not.
 *
 * @param hopeless infinity is returned at once where the bound would exceed what was found by more than this.
 */
export async function largestSumBound(
  products: Products,
  matrix: Float32Array,
  pairs: RitzPairs,
  hopeless: number,
  seed: number,
): Promise<number> {
  const { size, count, values, residuals } = pairs;
  const norms = columnNorms(residuals, count);
  const smallest = values[count - 1];
  const rate = (await couplingStrength(products, residuals, norms, size, count)) / (ROOM * smallest);
  const slack = norms.map((norm) => norm * rate);
  // What the couplings alone add needs no probe.
  if (slack.reduce((sum, one) => sum + one, 0) > hopeless) return Infinity;
  const scaled = residuals.slice();
  for (let i = 0; i < scaled.length; i++) {
    const d = slack[i % count];
    scaled[i] = d > 0 ? scaled[i] / Math.sqrt(d) : 0;
  }
  const beside = await largestBound(products, matrix, pairs, scaled, smallest, seed);
  return values.reduce((sum, value, i) => sum + Math.max(value + slack[i], beside), 0);
}

/** About the largest eigenvalue of `R N⁻¹ Rᵀ`, N being the lengths of the residuals. */
async function couplingStrength(
  products: Products,
  residuals: Float32Array,
  norms: Float64Array,
  size: number,
  count: number,
): Promise<number> {
  const gram = await innerProducts(products, residuals, residuals, size, count);
  const scales = norms.map((norm) => (norm > 0 ? 1 / Math.sqrt(norm) : 0));
  let vector = scales.map((scale) => Number(scale > 0));
  let strength = 0;
  for (let step = 0; step < STRENGTH_STEPS; step++) {
    const length = Math.sqrt(vector.reduce((sum, x) => sum + x * x, 0));
    if (!(length > 0)) break;
    if (step > 0) strength = length;
    const unit = vector.map((x) => x / length);
    vector = vector.map((_, i) => {
      let sum = 0;
      for (let j = 0; j < count; j++) sum += gram[i * count + j] * scales[j] * unit[j];
      return scales[i] * sum;
    });
  }
  return strength;
}

/**
 * An upper bound of the largest eigenvalue of `C + S Sᵀ`, C being A beside the Ritz vectors.
 *
 * A Chebyshev polynomial that stays within ±1 up to `expected` is applied to random vectors: had the matrix an eigenvalue
 * above it, the polynomial would have stretched the share that its direction has in one of them (the idea of
 * Kuczyński & Woźniakowski 1992, with the polynomial that grows fastest). It can be little above what is expected where
 * nothing is.
 */
async function largestBound(
  products: Products,
  matrix: Float32Array,
  { size, count, vectors }: RitzPairs,
  scaled: Float32Array,
  expected: number,
  seed: number,
): Promise<number> {
  const make = () => {
    const a = input('a', 'float32', [size, size]);
    const [x, before] = ['x', 'before'].map((name) => input(name, 'float32', [size, PROBES]));
    const [z, s] = ['z', 's'].map((name) => input(name, 'float32', [size, count]));
    const [f, g, h] = ['f', 'g', 'h'].map((name) => input(name, 'float32', []));
    const outside = (block: typeof x) => subtract(block, matmul(z, matmul(z, block, { transposeA: true })));
    const image = add(outside(matmul(a, outside(x))), matmul(s, matmul(s, x, { transposeA: true })));
    return add(multiply(f, image), add(multiply(g, x), multiply(h, before)));
  };
  let before: Float32Array = new Float32Array(size * PROBES);
  fillNormal(seed, before);
  const apply = async (x: Float32Array, last: Float32Array, factors: readonly number[]) => {
    const [f, g, h] = factors.map((factor) => Float32Array.of(factor));
    const feeds = { a: matrix, x, before: last, z: vectors, s: scaled, f, g, h };
    return products.run(`bound ${size} ${count}`, make, feeds);
  };
  const half = expected / 2;
  let now = await apply(before, before, [1 / half, -1, 0]);
  for (let k = 2; k <= DEGREE; k++) [before, now] = [now, await apply(now, before, [2 / half, -2, -1])];
  const stretch = Math.max(...columnNorms(now, PROBES)) / Math.sqrt(LEAST_SHARE);
  const largest = half * (1 + Math.cosh(Math.acosh(Math.max(1, stretch)) / DEGREE));
  // Far beyond what was expected numbers overflow.
  return Number.isFinite(largest) ? largest : Infinity;
}

/** Lengths of the columns of a row-major matrix. */
export function columnNorms(matrix: Float32Array, columns: number): Float64Array {
  const squares = new Float64Array(columns);
  for (let i = 0; i < matrix.length; i += columns)
    for (let j = 0; j < columns; j++) squares[j] += matrix[i + j] * matrix[i + j];
  return squares.map(Math.sqrt);
}

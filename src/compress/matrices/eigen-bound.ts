/**
 * How much more the largest eigenvalues of a matrix may add up to than what was found: proof after the fact.
 * @module
 */
import { add, input, matmul, subtract } from '../../graph/index.js';
import { fillNormal } from '../../nn/index.js';
import type { Products } from './products.js';

/** Vectors that probe a matrix for its largest eigenvalue, and how often it is applied to them. */
const PROBES = 16;
const POWERS = 64;

/**
 * A direction has a squared share below this in a normal vector with probability 0.248, so in all sixteen with
 * probability 2·10⁻¹⁰: that is how often the bound is wrong.
 */
const LEAST_SHARE = 0.1;

/** Room for couplings beside the smallest eigenvalue that counts, as a part of it. */
const ROOM = 0.03;

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
 * An upper bound of the sum of the `rank` largest eigenvalues of A, true with probability 1 − 2·10⁻¹⁰.
 *
 * In the basis of the Ritz vectors Z and all that is orthogonal to them, A is `[[Θ, Rᵀ], [R, C]]`. For any positive
 * diagonal D that is at most `[[Θ + D, 0], [0, C + R D⁻¹ Rᵀ]]`, so the sum wanted is at most that of the `rank` largest
 * among θ + d and as many as need be of ν, the largest eigenvalue of the second block, which the power method bounds
 * from above (Kuczyński & Woźniakowski 1992 for the idea).
 *
 * @param hopeless infinity is returned at once where the bound would exceed what was found by more than this.
 */
export async function largestSumBound(
  products: Products,
  matrix: Float32Array,
  { size, count, values, vectors, residuals }: RitzPairs,
  rank: number,
  hopeless: number,
  seed: number,
): Promise<number> {
  const norms = columnNorms(residuals, count);
  const smallest = values[rank - 1];
  let coupling = 0;
  for (let i = 0; i < rank; i++) coupling += norms[i];
  const rate = coupling / (ROOM * smallest);
  // What the couplings alone add needs no probe.
  if (rate * coupling > hopeless) return Infinity;
  const slack = Float64Array.from(norms, (norm, i) =>
    Math.max(rate * norm, i < rank ? 0 : smallest - values[i]),
  );
  const scaled = residuals.slice();
  for (let i = 0; i < scaled.length; i++) {
    const d = slack[i % count];
    scaled[i] = d > 0 ? scaled[i] / Math.sqrt(d) : 0;
  }
  const make = () => {
    const [a, x] = [input('a', 'float32', [size, size]), input('x', 'float32', [size, PROBES])];
    const [z, s] = ['z', 's'].map((name) => input(name, 'float32', [size, count]));
    const outside = (block: typeof x) => subtract(block, matmul(z, matmul(z, block, { transposeA: true })));
    return add(outside(matmul(a, outside(x))), matmul(s, matmul(s, x, { transposeA: true })));
  };
  let probes = new Float32Array(size * PROBES);
  fillNormal(seed, probes);
  const logs = new Float64Array(PROBES);
  for (let power = 0; power < POWERS; power++) {
    const feeds = { a: matrix, x: probes, z: vectors, s: scaled };
    const image = await products.run(`bound ${size} ${count}`, make, feeds);
    const lengths = columnNorms(image, PROBES);
    lengths.forEach((length, i) => (logs[i] += Math.log(length)));
    probes = image.map((x, i) => (lengths[i % PROBES] > 0 ? x / lengths[i % PROBES] : 0));
  }
  const largest = Math.exp((Math.max(...logs) - 0.5 * Math.log(LEAST_SHARE)) / POWERS);
  const sums = Array.from(values, (value, i) => value + slack[i]).sort((a, b) => b - a);
  return sums.slice(0, rank).reduce((total, sum) => total + Math.max(sum, largest), 0);
}

/** Lengths of the columns of a row-major matrix. */
export function columnNorms(matrix: Float32Array, columns: number): Float64Array {
  const squares = new Float64Array(columns);
  for (let i = 0; i < matrix.length; i += columns)
    for (let j = 0; j < columns; j++) squares[j] += matrix[i + j] * matrix[i + j];
  return squares.map(Math.sqrt);
}
